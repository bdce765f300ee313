"""The encodings. One file each and one line here; the registry is what this module imports."""

from posjax.encodings import schedules as schedules
from posjax.encodings.alibi import Alibi as Alibi
from posjax.encodings.axial import AxialRope as AxialRope
from posjax.encodings.base import (
    Dims as Dims,
    Encoding as Encoding,
    Head as Head,
    NoPE as NoPE,
    Pairs as Pairs,
    Params as Params,
    RelativeBias as RelativeBias,
    Role as Role,
)
from posjax.encodings.by_head import ByHead as ByHead, by_head as by_head
from posjax.encodings.chain import Chain as Chain, chain as chain
from posjax.encodings.chunks import Chunks as Chunks
from posjax.encodings.cope import CoPE as CoPE
from posjax.encodings.fire import Fire as Fire
from posjax.encodings.forgetting import Forgetting as Forgetting
from posjax.encodings.kerple import Kerple as Kerple
from posjax.encodings.layouts import convert_layout as convert_layout
from posjax.encodings.learned import Learned as Learned
from posjax.encodings.log_n import LogN as LogN
from posjax.encodings.near_far import NearFar as NearFar, near_far as near_far
from posjax.encodings.pinned import Pinned as Pinned
from posjax.encodings.pose import PoSE as PoSE
from posjax.encodings.published import from_rope_parameters as from_rope_parameters
from posjax.encodings.published_writing import to_rope_parameters as to_rope_parameters
from posjax.encodings.randomized import Randomized as Randomized
from posjax.encodings.regrouped import Regrouped as Regrouped
from posjax.encodings.rope import Rope as Rope
from posjax.encodings.sandwich import Sandwich as Sandwich
from posjax.encodings.scalable_softmax import ScalableSoftmax as ScalableSoftmax
from posjax.encodings.schedules import (
    NTK as NTK,
    DynamicNTK as DynamicNTK,
    Interpolation as Interpolation,
    Llama3 as Llama3,
    LongRope as LongRope,
    NTKByParts as NTKByParts,
    Plain as Plain,
    Proportional as Proportional,
    Schedule as Schedule,
    Yarn as Yarn,
)
from posjax.encodings.shaw import Shaw as Shaw
from posjax.encodings.sinusoidal import Sinusoidal as Sinusoidal
from posjax.encodings.step_temperature import StepTemperature as StepTemperature
from posjax.encodings.t5 import T5Bias as T5Bias
from posjax.encodings.toeplitz import Toeplitz as Toeplitz
from posjax.encodings.traits import structure as structure
from posjax.encodings.transformer_xl import TransformerXL as TransformerXL
from posjax.encodings.wrapped import Wrapped as Wrapped
from posjax.encodings.xpos import XPos as XPos


def _concrete(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Encoding) and value not in (Encoding, RelativeBias)


REGISTRY: tuple[type[Encoding], ...] = tuple(value for value in list(globals().values()) if _concrete(value))
"""Every encoding imported above: what the conformance suite, the checks and the documentation iterate over."""
