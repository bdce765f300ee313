"""Schedules that treat fast and slow pairs differently: NTK-by-parts, YaRN, Llama 3."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.encodings.ranges import Factor, TrainedLength
from posjax.encodings.schedules.base import (
    Frequencies,
    Schedule,
    inverse_frequencies,
)
from posjax.errors import InputError
from posjax.fields import Above


@dataclass(frozen=True)
class NTKByParts(Schedule):
    """Pairs that turn often within the trained window are kept, those that turn rarely are interpolated.

        turns_i = original_length * theta_i / (2 pi)
        turns_i > beta_fast: theta_i        turns_i < beta_slow: theta_i / factor        between: a linear ramp

    Convention: the ramp is linear in the pair's index, between the indices at which `turns` crosses the two bounds,
    rounded outwards to whole indices unless `truncate` is false. As in the released code, the upper index is clipped
    at `rotary_size - 1`, not at the last pair. Where all pairs lie on one side of both bounds, and where the bounds
    are equal, the ramp is a step between them.

    `original_length` is the trained length in tokens, `beta_fast` and `beta_slow` are in turns.

    Good at: extension with and without fine-tuning: near order is kept by the fast pairs, far distances are brought
    into range by the slow.
    Bad at: short trained lengths, where no pair turns beta_fast times and all are interpolated at least in part;
    attention still flattens, for which see `Yarn`.

    Errors: `InputError` for a factor below 1, a length below 1, or `beta_fast` below `beta_slow`.
    Source: Peng et al. 2023, YaRN, arXiv:2309.00071, section 3.2, definition 2.

    >>> frequencies, factor = NTKByParts(factor=4.0, original_length=512).frequencies(64, 10_000.0)
    >>> float(frequencies[0]), factor
    (1.0, 1.0)
    """

    factor: Factor
    original_length: TrainedLength
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta_fast >= self.beta_slow >= sys.float_info.min:
            raise InputError(
                f"{type(self).__name__} got beta_fast={self.beta_fast} and beta_slow={self.beta_slow}: "
                "needed is beta_fast >= beta_slow > 0; the paper's values are 32 and 1"
            )

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        kept = inverse_frequencies(rotary_size, base)
        interpolated = kept / self.factor
        ramp = self._ramp(rotary_size, base)
        fast = kept * (1 - ramp)
        slow = interpolated * ramp
        return fast + slow, 1.0

    def _ramp(self, rotary_size: int, base: float) -> np.ndarray:
        """0 where a pair is kept, 1 where it is interpolated, `[rotary_size / 2]`."""

        def index_at(turns: float) -> float:
            # As a sum of logarithms: the quotient of a long window and few turns need not be a float.
            logarithm = math.log(self.original_length) - math.log(turns) - math.log(2 * math.pi)
            return rotary_size * logarithm / (2 * math.log(base))

        low = index_at(self.beta_fast)
        high = index_at(self.beta_slow)
        if self.truncate:
            low = math.floor(low)
            high = math.ceil(high)
        # Clipped past each other they would turn the ramp round, and interpolate the pairs that are to be kept.
        if low <= rotary_size - 1 and high >= 0:
            low = max(low, 0)
            high = min(high, rotary_size - 1)
        width = high - low
        # A width of zero means a step; the released code's width keeps the division finite.
        if high == low:
            width = 0.001
        pairs = np.arange(rotary_size // 2)
        rising = (pairs - low) / width
        return np.clip(rising, 0.0, 1.0)


@dataclass(frozen=True)
class Yarn(NTKByParts):
    """NTK-by-parts with a temperature: queries and keys are both scaled, so the logits are scaled by its square.

        attention factor = 0.1 ln(factor) + 1

    Precedence: `attention_factor` if given; else, if `mscale` and `mscale_all_dim` are both given and not 0, the
    quotient (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1); else the formula above.

    Convention: the factor scales the channels that turn; with `Rope(fraction=...)` below 1 the others keep their size,
    as in the released checkpoints' code. DeepSeek's models have a second temperature, of `mscale_all_dim`, which is
    no part of the rotation: their attention multiplies 1/sqrt(H) by `score_factor`.

    Good at: the widest extension without training of these schedules from about 4 times on, in loss and in
    retrieval, and little fine-tuning beyond.
    Bad at: short contexts under a factor chosen for long ones, which cost some quality; switch it off within the
    trained length.

    Errors: those of `NTKByParts`; `InputError` for an attention factor that is not positive, or one
    `mscale` without the other.
    Source: Peng et al. 2023, YaRN, arXiv:2309.00071, equation 22 and section 3.4.

    >>> round(Yarn(factor=4.0, original_length=512).frequencies(64, 10_000.0)[1], 6)
    1.138629
    """

    attention_factor: Annotated[float | None, Above(0, ", or None for 0.1 ln(factor) + 1")] = None
    mscale: float | None = None
    mscale_all_dim: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.mscale or 0, self.mscale_all_dim or 0) < 0:
            raise InputError(
                f"Yarn got mscale={self.mscale} and mscale_all_dim={self.mscale_all_dim}: needed are "
                "positive numbers, since their temperatures divide"
            )
        if bool(self.mscale) != bool(self.mscale_all_dim):
            raise InputError(
                f"Yarn got mscale={self.mscale} and mscale_all_dim={self.mscale_all_dim}: needed are both "
                "or neither, since one alone has no effect"
            )

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        frequencies, _ = super().frequencies(rotary_size, base, length)
        return frequencies, self._attention_factor()

    @property
    def score_factor(self) -> float:
        """What models that read `mscale_all_dim` so multiply the scale of all scores by: its temperature, squared.

        1 without an `mscale_all_dim`. DeepSeek V2 and V3 and their descendants (Kimi, GLM-5, Mistral 4) read it so,
        Ministral 3 does not, although its files have the key.
        """
        if not self.mscale_all_dim:
            return 1.0
        return self._temperature(self.mscale_all_dim) ** 2

    def _attention_factor(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._temperature(self.mscale) / self._temperature(self.mscale_all_dim)
        return self._temperature(1.0)

    def _temperature(self, scale: float) -> float:
        return 0.1 * scale * math.log(self.factor) + 1


@dataclass(frozen=True)
class Llama3(Schedule):
    """Llama 3.1's scaling: short wavelengths are kept, long ones interpolated, those between blended.

        turns_i = original_length * theta_i / (2 pi)
        turns_i > high_freq_factor: theta_i            turns_i < low_freq_factor: theta_i / factor
        between: (1 - w) theta_i / factor + w theta_i,  w = (turns_i - low) / (high - low)

    Convention: written in turns rather than wavelengths, which is the same; the attention factor is 1.

    Good at: long contexts in models trained on with it, as Llama 3.1 was; near distances keep their resolution.
    Bad at: extension without training, for which it was not published: it has no temperature, and its two bounds
    are the released models'.

    Errors: `InputError` for a factor below 1, a length below 1, or a high factor below the low one.
    Source: the Llama 3.1 models' released code; Grattafiori et al. 2024, arXiv:2407.21783.

    >>> float(Llama3(factor=8.0, original_length=8192).frequencies(128, 500_000.0)[0][0])
    1.0
    """

    factor: Factor
    original_length: TrainedLength
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.high_freq_factor >= self.low_freq_factor > 0:
            raise InputError(
                f"Llama3 got low_freq_factor={self.low_freq_factor} and high_freq_factor="
                f"{self.high_freq_factor}: needed is high >= low > 0; the released values are 1 and 4"
            )

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        kept = inverse_frequencies(rotary_size, base)
        # How often each pair turns within the trained window.
        turns = self.original_length * kept / (2 * math.pi)
        width = self.high_freq_factor - self.low_freq_factor
        if width:
            blend = (turns - self.low_freq_factor) / width
        else:
            # Equal bounds leave nothing to blend: a step.
            blend = turns > self.low_freq_factor
        weight = np.clip(blend, 0.0, 1.0)
        slow = (1 - weight) * kept / self.factor
        fast = weight * kept
        return slow + fast, 1.0
