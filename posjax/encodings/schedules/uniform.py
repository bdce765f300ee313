"""Schedules that follow one formula for all pairs: plain, linear, NTK-aware, proportional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.encodings.ranges import Factor
from posjax.encodings.schedules.base import Frequencies, Schedule, grown_base, inverse_frequencies
from posjax.errors import InputError
from posjax.fields import Share


@dataclass(frozen=True)
class Plain(Schedule):
    """The frequencies that RoPE was published with.

        theta_i = base^(-2i/r)

    Convention: theta in radians per position, fastest first, r the rotary size; the attention factor is 1.

    Good at: contexts within the trained length, for which it is what the model knows.
    Bad at: contexts past it: pairs that have not made a whole turn in training reach angles that the model has
    never seen.

    Errors: none.
    Source: Su et al. 2021, RoFormer, arXiv:2104.09864, section 3.2.2.

    >>> Plain().frequencies(4, 10_000.0)[0].tolist()
    [1.0, 0.01]
    """

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        return inverse_frequencies(rotary_size, base), 1.0


PLAIN = Plain()


@dataclass(frozen=True)
class Interpolation(Schedule):
    """Position interpolation: every frequency is divided by `factor`, so `factor` times the trained window fits.

        theta_i = base^(-2i/r) / factor

    Convention: the same as positions divided by `factor`; the attention factor is 1.

    Good at: extension with a short fine-tuning, for which it was published; tasks that need the rank of positions
    rather than distances.
    Bad at: use without training: neighbours come closer together than in training, so the loss suffers within the
    trained length too.

    Errors: `InputError` for a factor below 1.
    Source: Chen et al. 2023, arXiv:2306.15595, equation 4.

    >>> Interpolation(factor=4.0).frequencies(4, 10_000.0)[0].tolist()
    [0.25, 0.0025]
    """

    factor: Factor

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        kept = inverse_frequencies(rotary_size, base)
        return kept / self.factor, 1.0


@dataclass(frozen=True)
class NTK(Schedule):
    """NTK-aware scaling: another base, such that the slowest pair is divided by exactly `factor`, the fastest by 1.

        base' = base * factor^(r / (r - 2)),  theta_i = base'^(-2i/r)

    Convention: `factor` divides the slowest pair exactly, hence the exponent r / (r - 2); the attention factor is 1.

    Good at: modest extension without training, about 2 times: near distances keep their resolution.
    Bad at: larger factors and fine-tuning: some pairs are extrapolated all the same, so the window gained is less
    than `factor` (Peng et al.).

    Errors: `InputError` for a factor below 1; for a rotary size of 2, which has no slowest pair beside the fastest.
    Source: the NTK-aware interpolation that Peng et al. 2023, arXiv:2309.00071, describe in section 3.1.

    >>> fast_to_slow, _ = NTK(factor=2.0).frequencies(64, 10_000.0)
    >>> float(fast_to_slow[0]), round(float(fast_to_slow[-1] / Plain().frequencies(64, 10_000.0)[0][-1]), 12)
    (1.0, 0.5)
    """

    factor: Factor

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        own_base = grown_base(base, self.factor, rotary_size)
        return inverse_frequencies(rotary_size, own_base), 1.0


@dataclass(frozen=True)
class Proportional(Schedule):
    """p-RoPE: only the fastest `fraction` of the pairs turn, the slow rest stays as if at position 0.

        theta_i = base^(-2i/r) / factor for i < floor(fraction * r / 2), and 0 for the others

    Convention: exponents run over the whole rotary size, unlike `Rope(fraction=...)`, whose exponents run over the
    channels that turn. `factor` above 1 interpolates those that turn, as the released code does.

    Good at: models trained with it: channels that never turn carry content over any distance (Barbero et al.).
    Bad at: models trained without it, which relied on the slow pairs; and telling far distances apart, which those
    did.

    Errors: `InputError` for a fraction outside (0, 1], one by which no pair would turn, or a factor below 1.
    Source: Barbero et al. 2024, arXiv:2410.06205, section 6.

    >>> Proportional(fraction=0.5).frequencies(8, 10_000.0)[0].tolist()
    [1.0, 0.1, 0.0, 0.0]
    """

    fraction: Annotated[float, Share("the pairs")] = 0.75
    factor: Factor = 1.0

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        if int(self.fraction * rotary_size / 2) < 1:
            raise InputError(
                f"Proportional got fraction={self.fraction} and a rotary size of {rotary_size}: no pair "
                "would turn; raise the fraction, or take NoPE"
            )
        turning = np.arange(rotary_size // 2) < int(self.fraction * rotary_size / 2)
        frequencies = inverse_frequencies(rotary_size, base) / self.factor
        # A frequency of 0 turns by nothing at any position: such a pair stays as if at position 0.
        return np.where(turning, frequencies, 0.0), 1.0
