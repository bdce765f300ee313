"""Frequency schedules: how fast each pair of channels of a rotary encoding turns.

A schedule is a frozen value. `frequencies(rotary_size, base, length)` returns float64 radians per position, one for
each of the `rotary_size / 2` pairs, fastest first, and an attention factor by which queries and keys are both scaled.
Everything is computed on the host in float64; no array enters a trace before it is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from posjax.errors import InputError

Frequencies = tuple[np.ndarray, float]


def inverse_frequencies(rotary_size: int, base: float) -> np.ndarray:
    """`base^(-2i/r)` for each pair i, float64 `[r/2]`."""
    return np.array([math.pow(base, -2 * i / rotary_size) for i in range(rotary_size // 2)])


@dataclass(frozen=True)
class Schedule:
    """What a schedule answers; derive from it to write another."""

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        """Radians per position, float64 `[rotary_size / 2]`, and the attention factor."""
        raise NotImplementedError(f"{type(self).__name__} defines no frequencies")

    def at_length(self, length: int) -> Schedule:
        """The schedule for a context of that static length; itself unless it depends on the length."""
        return self


@dataclass(frozen=True)
class Plain(Schedule):
    """`theta_i = base^(-2i/r)`, the frequencies that RoPE was published with.

    Source: Su et al. 2021, RoFormer, arXiv:2104.09864, section 3.2.2.

    >>> Plain().frequencies(4, 10_000.0)[0].tolist()
    [1.0, 0.01]
    """

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        return inverse_frequencies(rotary_size, base), 1.0


PLAIN = Plain()


@dataclass(frozen=True)
class Linear(Schedule):
    """Position interpolation: every frequency is divided by `factor`, so `factor` times the trained window fits.

        theta_i = base^(-2i/r) / factor

    Errors: `InputError` for a factor below 1.
    Source: Chen et al. 2023, arXiv:2306.15595, equation 4.

    >>> Linear(factor=4.0).frequencies(4, 10_000.0)[0].tolist()
    [0.25, 0.0025]
    """

    factor: float

    def __post_init__(self) -> None:
        check_factor(self)

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        return inverse_frequencies(rotary_size, base) / self.factor, 1.0


@dataclass(frozen=True)
class NTK(Schedule):
    """NTK-aware scaling: another base, such that the slowest pair is divided by exactly `factor`, the fastest by 1.

        base' = base * factor^(r / (r - 2)),  theta_i = base'^(-2i/r)

    Errors: `InputError` for a factor below 1; for a rotary size of 2, which has no slowest pair beside the fastest.
    Source: the NTK-aware interpolation that Peng et al. 2023, arXiv:2309.00071, describe in section 3.1.

    >>> fast_to_slow, _ = NTK(factor=2.0).frequencies(64, 10_000.0)
    >>> float(fast_to_slow[0]), round(float(fast_to_slow[-1] / Plain().frequencies(64, 10_000.0)[0][-1]), 12)
    (1.0, 0.5)
    """

    factor: float

    def __post_init__(self) -> None:
        check_factor(self)

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        if rotary_size <= 2:
            raise InputError(f"NTK got a rotary size of {rotary_size}: needed is 4 or more, since r - 2 divides; use "
                             "Linear, which is the same for a single pair")
        return inverse_frequencies(rotary_size, base * self.factor ** (rotary_size / (rotary_size - 2))), 1.0


@dataclass(frozen=True)
class NTKByParts(Schedule):
    """Pairs that turn often within the trained window are kept, those that turn rarely are interpolated.

        turns_i = original_length * theta_i / (2 pi)
        turns_i > beta_fast: theta_i        turns_i < beta_slow: theta_i / factor        between: a linear ramp

    Convention: the ramp is linear in the pair's index, between the indices at which `turns` crosses the two bounds,
    rounded outwards to whole indices unless `truncate` is false. As in the released code, the upper index is clipped
    at `rotary_size - 1`, not at the last pair.

    `original_length` is the trained length in tokens, `beta_fast` and `beta_slow` are in turns.

    Errors: `InputError` for a factor below 1, a length below 1, or `beta_fast` not above `beta_slow`.
    Source: Peng et al. 2023, YaRN, arXiv:2309.00071, section 3.2, definition 2.

    >>> frequencies, factor = NTKByParts(factor=4.0, original_length=512).frequencies(64, 10_000.0)
    >>> float(frequencies[0]), factor
    (1.0, 1.0)
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        check_factor(self)
        check_original_length(self)
        if not self.beta_fast > self.beta_slow > 0:
            raise InputError(f"{type(self).__name__} got beta_fast={self.beta_fast} and beta_slow={self.beta_slow}: "
                             "needed is beta_fast > beta_slow > 0; the paper's values are 32 and 1")

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        kept = inverse_frequencies(rotary_size, base)
        ramp = self._ramp(rotary_size, base)
        return kept * (1 - ramp) + kept / self.factor * ramp, 1.0

    def _ramp(self, rotary_size: int, base: float) -> np.ndarray:
        """0 where a pair is kept, 1 where it is interpolated, `[rotary_size / 2]`."""
        def index_at(turns: float) -> float:
            wavelengths = self.original_length / (turns * 2 * math.pi)
            return rotary_size * math.log(wavelengths) / (2 * math.log(base))

        low, high = index_at(self.beta_fast), index_at(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, rotary_size - 1)
        # A width of zero means a step; the released code's width keeps the division finite.
        width = high - low if high != low else 0.001
        return np.clip((np.arange(rotary_size // 2) - low) / width, 0.0, 1.0)


@dataclass(frozen=True)
class Yarn(NTKByParts):
    """NTK-by-parts with a temperature: queries and keys are both scaled, so the logits are scaled by its square.

        attention factor = 0.1 ln(factor) + 1

    Precedence: `attention_factor` if given; else, if `mscale` and `mscale_all_dim` are both given and not 0, the
    quotient (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1); else the formula above.

    Convention: the factor scales the channels that turn; with `Rope(fraction=...)` below 1 the others keep their size,
    as in the released checkpoints' code.

    Errors: those of `NTKByParts`; `InputError` for an attention factor that is not positive, or one
    `mscale` without the other.
    Source: Peng et al. 2023, YaRN, arXiv:2309.00071, equation 22 and section 3.4.

    >>> round(Yarn(factor=4.0, original_length=512).frequencies(64, 10_000.0)[1], 6)
    1.138629
    """

    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_factor is not None and self.attention_factor <= 0:
            raise InputError(f"Yarn got attention_factor={self.attention_factor}: needed is a positive number, or None "
                             "for 0.1 ln(factor) + 1")
        if bool(self.mscale) != bool(self.mscale_all_dim):
            raise InputError(f"Yarn got mscale={self.mscale} and mscale_all_dim={self.mscale_all_dim}: needed are both "
                             "or neither, since one alone has no effect")

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        return super().frequencies(rotary_size, base, length)[0], self._attention_factor()

    def _attention_factor(self) -> float:
        def temperature(scale: float) -> float:
            return 0.1 * scale * math.log(self.factor) + 1

        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return temperature(self.mscale) / temperature(self.mscale_all_dim)
        return temperature(1.0)


def check_factor(schedule: Schedule) -> None:
    """Errors: `InputError` for a factor below 1."""
    factor = getattr(schedule, "factor")  # noqa: B009  (each schedule with a factor calls this)
    if not factor >= 1:
        raise InputError(f"{type(schedule).__name__} got factor={factor}: needed is 1 or more, the extended length "
                         "divided by the trained one")


def check_original_length(schedule: Schedule) -> None:
    """Errors: `InputError` for a trained length below 1."""
    length = getattr(schedule, "original_length")  # noqa: B009
    if not length >= 1:
        raise InputError(f"{type(schedule).__name__} got original_length={length}: needed is the trained length in "
                         "tokens, 1 or more")
