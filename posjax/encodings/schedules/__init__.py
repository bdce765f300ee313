"""Frequency schedules: how fast each pair of channels of a rotary encoding turns.

A schedule is a frozen value. `frequencies(rotary_size, base, length)` returns float64 radians per position, one for
each of the `rotary_size / 2` pairs, fastest first, and an attention factor by which queries and keys are both scaled.
Everything is computed on the host in float64; no array enters a trace before it is exact.
"""

from posjax.encodings.schedules.base import (
    Frequencies as Frequencies,
    Schedule as Schedule,
    inverse_frequencies as inverse_frequencies,
)
from posjax.encodings.schedules.by_length import DynamicNTK as DynamicNTK, LongRope as LongRope
from posjax.encodings.schedules.by_parts import Llama3 as Llama3, NTKByParts as NTKByParts, Yarn as Yarn
from posjax.encodings.schedules.uniform import (
    NTK as NTK,
    PLAIN as PLAIN,
    Interpolation as Interpolation,
    Plain as Plain,
    Proportional as Proportional,
)
