"""What a frequency schedule answers, and the checks that several share."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from posjax.errors import InputError
from posjax.fields import check_fields

Frequencies = tuple[np.ndarray, float]


def inverse_frequencies(rotary_size: int, base: float) -> np.ndarray:
    """`base^(-2i/r)` for each pair i, float64 `[r/2]`."""
    each = [math.pow(base, -2 * i / rotary_size) for i in range(rotary_size // 2)]
    return np.array(each)


def grown_base(base: float, growth: float, rotary_size: int) -> float:
    """`base * growth^(r / (r - 2))`: the base by which the slowest pair is divided by `growth`, the fastest by 1.

    Errors: `InputError` for a rotary size of 2, and where no float can hold the result.
    """
    if rotary_size <= 2:
        raise InputError(
            f"NTK-aware scaling got a rotary size of {rotary_size}: needed is 4 or more, since r - 2 "
            "divides; use Interpolation, which is the same for a single pair"
        )
    exponent = rotary_size / (rotary_size - 2)
    # In logarithms: the power itself would raise an overflow that names no field.
    if math.log(base) + exponent * math.log(growth) > math.log(sys.float_info.max):
        raise InputError(
            f"NTK-aware scaling got base={base} and a growth of {growth}: needed is a grown base that a "
            "float can hold; lower the factor"
        )
    return float(base) * growth**exponent


@dataclass(frozen=True)
class Schedule:
    """What a schedule answers; derive from it to write another."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def length_dependent(self) -> bool:
        """Whether `at_length` changes it; one that keeps what it was told says so by no."""
        return type(self).at_length is not Schedule.at_length

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        """Radians per position, float64 `[rotary_size / 2]`, and the attention factor."""
        raise NotImplementedError(f"{type(self).__name__} defines no frequencies")

    def at_length(self, length: int) -> Schedule:
        """The schedule for a context of that static length; itself unless it depends on the length."""
        return self
