"""The encodings. One file each and one line here; the registry is what this module imports."""

from posjax.encodings import schedules
from posjax.encodings.alibi import Alibi
from posjax.encodings.axial import AxialRope
from posjax.encodings.base import Dims, Encoding, Head, NoPE, Pairs, Params, RelativeBias, Role
from posjax.encodings.by_head import ByHead, by_head
from posjax.encodings.by_layer import ByLayer, by_layer
from posjax.encodings.chain import Chain, chain
from posjax.encodings.chunks import Chunks
from posjax.encodings.cope import CoPE
from posjax.encodings.fire import Fire
from posjax.encodings.forgetting import Forgetting
from posjax.encodings.kerple import Kerple
from posjax.encodings.learned import Learned
from posjax.encodings.log_n import LogN
from posjax.encodings.near_far import NearFar, near_far
from posjax.encodings.pinned import Pinned
from posjax.encodings.pose import PoSE
from posjax.encodings.published import convert_layout, from_rope_parameters, to_rope_parameters
from posjax.encodings.randomized import Randomized
from posjax.encodings.regrouped import Regrouped
from posjax.encodings.rope import Rope
from posjax.encodings.sandwich import Sandwich
from posjax.encodings.scalable_softmax import ScalableSoftmax
from posjax.encodings.schedules import (
    NTK,
    DynamicNTK,
    Interpolation,
    Llama3,
    LongRope,
    NTKByParts,
    Plain,
    Proportional,
    Schedule,
    Yarn,
)
from posjax.encodings.shaw import Shaw
from posjax.encodings.sinusoidal import Sinusoidal
from posjax.encodings.t5 import T5Bias
from posjax.encodings.toeplitz import Toeplitz
from posjax.encodings.traits import structure
from posjax.encodings.transformer_xl import TransformerXL
from posjax.encodings.wrapped import Wrapped
from posjax.encodings.xpos import XPos


def _concrete(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Encoding) and value not in (Encoding, RelativeBias)


REGISTRY: tuple[type[Encoding], ...] = tuple(value for value in list(globals().values()) if _concrete(value))
"""Every encoding imported above: what the conformance suite, the checks and the documentation iterate over."""

__all__ = [
    "NTK",
    "REGISTRY",
    "Alibi",
    "AxialRope",
    "ByHead",
    "ByLayer",
    "Chain",
    "Chunks",
    "CoPE",
    "Dims",
    "DynamicNTK",
    "Encoding",
    "Fire",
    "Forgetting",
    "Head",
    "Interpolation",
    "Kerple",
    "Learned",
    "Llama3",
    "LogN",
    "LongRope",
    "NTKByParts",
    "NearFar",
    "NoPE",
    "Pairs",
    "Params",
    "Pinned",
    "Plain",
    "PoSE",
    "Proportional",
    "Randomized",
    "Regrouped",
    "RelativeBias",
    "Role",
    "Rope",
    "Sandwich",
    "ScalableSoftmax",
    "Schedule",
    "Shaw",
    "Sinusoidal",
    "T5Bias",
    "Toeplitz",
    "TransformerXL",
    "Wrapped",
    "XPos",
    "Yarn",
    "by_head",
    "by_layer",
    "chain",
    "convert_layout",
    "from_rope_parameters",
    "near_far",
    "schedules",
    "structure",
    "to_rope_parameters",
]
