"""Queries, keys, values, positions and an encoding in; the attended values out. One definition, several backends."""

from posjax.attention.attend import attend as attend, attention as attention
from posjax.attention.biases import (
    Bias as Bias,
    ByDistance as ByDistance,
    ByPosition as ByPosition,
    Slope as Slope,
)
from posjax.attention.description import describe as describe
from posjax.attention.dispatch import (
    BACKENDS as BACKENDS,
    PREFERENCES as PREFERENCES,
    Backend as Backend,
    Choice as Choice,
    choose as choose,
    explain as explain,
    known as known,
)
from posjax.attention.dropout import Dropout as Dropout
from posjax.attention.features import Favor as Favor
from posjax.attention.jobs import Job as Job, job as job
from posjax.attention.linear_attention import LinearState as LinearState, linear_attend as linear_attend
from posjax.attention.masks import (
    Causal as Causal,
    Full as Full,
    Mask as Mask,
    Window as Window,
    as_mask as as_mask,
)
from posjax.attention.prepared import (
    Prepared as Prepared,
    Tokens as Tokens,
    context_length as context_length,
    gather as gather,
    prepare as prepare,
)
from posjax.attention.scoring import Scoring as Scoring
from posjax.attention.token_masks import (
    Chunked as Chunked,
    First as First,
    Global as Global,
    Segments as Segments,
    prefix as prefix,
)
