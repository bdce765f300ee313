"""Positional encodings for JAX: pure values that compose and plug into any model, and attention that takes them."""

from posjax import encodings, invariants, positions
from posjax.attention import Causal, Full, Mask, Segments, Window, attend
from posjax.encodings import (
    NTK,
    Alibi,
    Dims,
    Encoding,
    Head,
    Learned,
    Linear,
    NoPE,
    NTKByParts,
    Plain,
    RelativeBias,
    Rope,
    Schedule,
    Sinusoidal,
    T5Bias,
    Yarn,
    chain,
)
from posjax.errors import InputError
from posjax.version import __version__

__all__ = [
    "NTK", "Alibi", "Causal", "Dims", "Encoding", "Full", "Head", "InputError", "Learned", "Linear", "Mask",
    "NTKByParts", "NoPE", "Plain", "RelativeBias", "Rope", "Schedule", "Segments", "Sinusoidal", "T5Bias", "Window",
    "Yarn", "__version__", "attend", "chain", "encodings", "invariants",
    "positions",
]
