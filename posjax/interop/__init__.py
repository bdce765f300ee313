"""Published checkpoints: read as a `Transformer`, written as their publisher wrote them, described without weights."""

from posjax.interop.configuring import configured as configured
from posjax.interop.describing import (
    Description as Description,
    configuration as configuration,
    describe as describe,
)
from posjax.interop.exporting import write as write
from posjax.interop.pretrained import Pretrained as Pretrained, pretrained as pretrained
from posjax.interop.reading import read as read
from posjax.interop.swapping import swapped as swapped
