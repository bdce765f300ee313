"""Frequency schedules: how fast each pair of channels of a rotary encoding turns.

A schedule is a frozen value. `frequencies(rotary_size, base, length)` returns float64 radians per position, one for
each of the `rotary_size / 2` pairs, fastest first, and an attention factor by which queries and keys are both scaled.
Everything is computed on the host in float64; no array enters a trace before it is exact.
"""

from posjax.encodings.schedules.base import Frequencies, Schedule, inverse_frequencies
from posjax.encodings.schedules.by_length import DynamicNTK, LongRope
from posjax.encodings.schedules.by_parts import Llama3, NTKByParts, Yarn
from posjax.encodings.schedules.uniform import NTK, PLAIN, Interpolation, Plain, Proportional

__all__ = [
    "NTK",
    "PLAIN",
    "DynamicNTK",
    "Frequencies",
    "Interpolation",
    "Llama3",
    "LongRope",
    "NTKByParts",
    "Plain",
    "Proportional",
    "Schedule",
    "Yarn",
    "inverse_frequencies",
]
