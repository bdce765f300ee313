"""Positional encodings for JAX: pure values that compose and plug into any model, and attention that takes them.

`posjax.models` and `posjax.invariants` are imported when they are first asked for: they need Flax and chex, which take
longer to import than all the rest, and whoever brings a model of their own needs neither.
"""

import types
import typing

from posjax import encodings as encodings, positions as positions
from posjax.attention import (
    Causal as Causal,
    Chunked as Chunked,
    Dropout as Dropout,
    Favor as Favor,
    First as First,
    Full as Full,
    Global as Global,
    LinearState as LinearState,
    Mask as Mask,
    Segments as Segments,
    Window as Window,
    attend as attend,
    linear_attend as linear_attend,
    prefix as prefix,
)
from posjax.encodings import (
    NTK as NTK,
    Alibi as Alibi,
    AxialRope as AxialRope,
    Chunks as Chunks,
    CoPE as CoPE,
    Dims as Dims,
    DynamicNTK as DynamicNTK,
    Encoding as Encoding,
    Fire as Fire,
    Forgetting as Forgetting,
    Head as Head,
    Interpolation as Interpolation,
    Kerple as Kerple,
    Learned as Learned,
    Llama3 as Llama3,
    LogN as LogN,
    LongRope as LongRope,
    NoPE as NoPE,
    NTKByParts as NTKByParts,
    Pairs as Pairs,
    Pinned as Pinned,
    Plain as Plain,
    PoSE as PoSE,
    Proportional as Proportional,
    Randomized as Randomized,
    Regrouped as Regrouped,
    RelativeBias as RelativeBias,
    Rope as Rope,
    Sandwich as Sandwich,
    ScalableSoftmax as ScalableSoftmax,
    Schedule as Schedule,
    Shaw as Shaw,
    Sinusoidal as Sinusoidal,
    StepTemperature as StepTemperature,
    T5Bias as T5Bias,
    Toeplitz as Toeplitz,
    TransformerXL as TransformerXL,
    Wrapped as Wrapped,
    XPos as XPos,
    Yarn as Yarn,
    by_head as by_head,
    chain as chain,
    convert_layout as convert_layout,
    from_rope_parameters as from_rope_parameters,
    near_far as near_far,
    to_rope_parameters as to_rope_parameters,
)
from posjax.errors import InputError as InputError
from posjax.version import __version__ as __version__

if typing.TYPE_CHECKING:
    # What a type checker and an editor see of the two below.
    from posjax import invariants as invariants, models as models

_LATER = ("invariants", "models")
"""The rooms that wait until they are asked for."""


def __getattr__(name: str) -> types.ModuleType:
    if name not in _LATER:
        raise AttributeError(f"module 'posjax' has no attribute {name!r}")
    import importlib

    # The import binds the name, so that this is asked once.
    return importlib.import_module(f"posjax.{name}")


def __dir__() -> list[str]:
    """The public names: those above, and the rooms that wait. Other modules of the package are not among them."""
    # Importing a room binds every room beneath it too, which makes none of them public.
    rooms = {"encodings", "positions", *_LATER}
    others = {name for name, value in globals().items() if not isinstance(value, types.ModuleType)}
    public = {name for name in others if not name.startswith("_")}
    return sorted({*rooms, *public, "__version__"})
