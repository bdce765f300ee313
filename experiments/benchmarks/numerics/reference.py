"""The published formulas in arithmetic of 60 digits."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DIGITS = 60
# Among what the tests need, and not what posjax needs: the command says so where it is not installed.
mp: Any = importlib.import_module("mpmath").mp if importlib.util.find_spec("mpmath") else None


def exact_waves(positions: np.ndarray, base: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of `m base^(-2i/r)`, `[T, r/2]`, for a head of `size` channels, r."""
    half = size // 2
    shape = (len(positions), half)
    cos = np.empty(shape)
    sin = np.empty(shape)
    with mp.workdps(DIGITS):
        exponents = [mp.mpf(-2 * i) / size for i in range(half)]
        frequencies = [mp.mpf(base) ** exponent for exponent in exponents]
        for row, position in enumerate(positions):
            for i, frequency in enumerate(frequencies):
                # An int of Python's own, which mpmath multiplies exactly.
                angle = int(position) * frequency
                cosine = mp.cos(angle)
                sine = mp.sin(angle)
                cos[row, i] = float(cosine)
                sin[row, i] = float(sine)
    return cos, sin


@dataclass(frozen=True)
class Pair:
    """A query at `q_position` in a head of `heads`, and a key `distance` before it; `params` are the encoding's."""

    params: Mapping[str, np.ndarray]
    distance: int
    q_position: int
    head: int
    heads: int

    def param(self, name: str, *index: int) -> Any:
        """One number of a parameter; without an index, that of the head."""
        at = index or (self.head,)
        number = float(self.params[name][at])
        return mp.mpf(number)


Formula = Callable[[Pair], Any]


def alibi(pair: Pair) -> Any:
    """Slopes are powers of 2; heads beyond a power of 2 take every other slope of twice as many heads."""
    power = 2 ** (pair.heads.bit_length() - 1)
    if pair.head < power:
        numerator = -8 * (pair.head + 1)
    else:
        # Of twice as many heads the first, the third and so on, whose step is half as large.
        odd = 2 * (pair.head - power) + 1
        numerator = -4 * odd
    exponent = mp.mpf(numerator) / power
    slope = mp.mpf(2) ** exponent
    return -slope * pair.distance


def kerple(pair: Pair) -> Any:
    """The logarithmic kind. Both parameters are learned as logarithms, so that they stay positive."""
    r1 = mp.exp(pair.param("r1"))
    r2 = mp.exp(pair.param("r2"))
    grown = 1 + r2 * pair.distance
    return -r1 * mp.log(grown)


def kerple_power(pair: Pair) -> Any:
    """The kind by powers, whose exponent lies between 0 and 2."""
    r1 = mp.exp(pair.param("r1"))
    odds = mp.exp(-pair.param("r2"))
    r2 = 2 / (1 + odds)
    power = mp.mpf(pair.distance) ** r2
    return -r1 * power


def fire(pair: Pair) -> Any:
    """A network of one hidden layer, of a distance that is normalised by the query's position."""
    c = mp.exp(pair.param("c", 0))
    threshold = mp.exp(pair.param("threshold", 0))
    position = mp.mpf(pair.q_position)
    longest = max(position, threshold)
    whole = mp.log(c * longest + 1)
    far = mp.log(c * pair.distance + 1)
    share = far / whole
    total = pair.param("shift")
    hidden = mp.mpf(0)
    for unit in range(pair.params["out"].shape[1]):
        scale = pair.param("in_scale", 0, unit)
        shift = pair.param("in_shift", 0, unit)
        before = scale * share + shift
        out = pair.param("out", pair.head, unit)
        hidden += max(before, 0) * out
    return total + hidden


def t5(pair: Pair) -> Any:
    """The bias of the distance's bucket: 16 of one distance each, and 16 by logarithm up to 128."""
    bucket = pair.distance
    if pair.distance >= 16:
        # All that is further than 128 shares the last bucket.
        bucket = min(_far_bucket(pair.distance), 31)
    return pair.param("table", pair.head, bucket)


def _far_bucket(distance: int) -> int:
    # A bucket's number is the floor of a logarithm: at 60 digits, nudged up so that an exact border counts as reached.
    times = mp.mpf(distance) / 16
    logarithm = mp.log(times, 8) * 16
    nudge = mp.mpf(10) ** -40
    past_the_exact = mp.floor(logarithm + nudge)
    return 16 + int(past_the_exact)
