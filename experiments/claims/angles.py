"""What claims about rotation share: frequencies, RoFormer's bound, and turned vectors."""

from __future__ import annotations

import math

import jax
import numpy as np

from posjax.encodings import Encoding, Schedule
from posjax.encodings.schedules import PLAIN

HEAD_SIZE = 128
WINDOW = 4096
"""Head size and trained length of Llama 2, about which most of these sentences were written."""


def frequencies(schedule: Schedule = PLAIN, head_size: int = HEAD_SIZE, base: float = 10_000.0) -> np.ndarray:
    """Radians per position of each pair, the fastest first, float64 `[H/2]`."""
    return schedule.frequencies(head_size, base)[0]


def angles(distances_M: np.ndarray, frequencies_P: np.ndarray) -> np.ndarray:
    """The angle of each pair at each distance, float64 `[M, P]`."""
    # In float64, which is exact enough at the distances of a few thousand that are asked of it.
    return np.outer(distances_M, frequencies_P)


def bound(distances_M: np.ndarray, head_size: int = HEAD_SIZE) -> np.ndarray:
    """RoFormer's upper bound on a score by distance, 1 at distance 0: the mean over j of |sum of e^(i m theta), i < j|.

    >>> bound(np.array([0, 512])).round(2).tolist()
    [1.0, 0.16]
    """
    waves = np.exp(1j * angles(distances_M, frequencies(head_size=head_size)))
    sums = np.abs(np.cumsum(waves, axis=1)).mean(axis=1)
    # At distance 0 every wave is 1, and the sums are 1, 2, 3 and so on.
    return sums / ((head_size // 2 + 1) / 2)


def turned(rope: Encoding, x: jax.Array | np.ndarray, positions: jax.Array | np.ndarray) -> jax.Array:
    """Queries `[B, T, N, H]` at some positions, as the encoding rotates them."""
    # Compiled whole: a claim is read in a second, and its twenty operations would be compiled one by one.
    return jax.jit(lambda x, positions: rope.rotate({}, x, positions, "query"))(x, positions)


def power_above(error: float) -> float:
    """The power of ten at or above an error.

    >>> power_above(3e-7)
    1e-06
    """
    # The error itself differs between versions of a compiler, and its size does not.
    return 10.0 ** math.ceil(math.log10(error))
