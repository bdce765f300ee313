"""Schedules that depend on the length of the context: dynamic NTK and LongRoPE."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

from posjax.encodings.ranges import Factor, TrainedLength
from posjax.encodings.schedules.base import (
    Frequencies,
    Schedule,
    grown_base,
    inverse_frequencies,
)
from posjax.errors import InputError
from posjax.fields import Above, AtLeast


@dataclass(frozen=True)
class DynamicNTK(Schedule):
    """NTK-aware scaling whose factor grows with the context, and is none within the trained length.

        base' = base * (factor * length / original_length - (factor - 1))^(r / (r - 2))   for length > original_length

    `length` is the context's, set by `at_length`; `None` means one within the trained length. `doubling`: the length
    counts as the next of original_length times 1, 2, 4, and so on.

    Convention: frequencies change with every token, or at every doubling, so a cache holds keys that are not rotated
    yet. With `doubling` and a factor of 2 it is Qwen's: a base that grows by 2^(ceil(log2(length / original)) + 1) - 1.

    Good at: contexts of all lengths without training: within the trained length nothing changes, past it quality
    falls off gradually.
    Bad at: generation, where cached keys must be turned anew as the context grows; and lengths many times the
    trained one.

    Errors: `InputError` for a factor or a length below 1, or a rotary size of 2.
    Source: the released code of transformers, which Peng et al. 2023, arXiv:2309.00071, appendix B.3, describe with a
    factor of length / original_length alone.

    >>> DynamicNTK(factor=2.0, original_length=4).at_length(8)
    DynamicNTK(factor=2.0, original_length=4, length=8, doubling=False)
    """

    factor: Factor
    original_length: TrainedLength
    length: Annotated[int | None, AtLeast(1, "the context in tokens", ", or None for the trained length")] = None
    doubling: bool = False

    @property
    def length_dependent(self) -> bool:
        return self.length is None

    def at_length(self, length: int) -> Schedule:
        return replace(self, length=length)

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        # The length of the call, else that of the value, else one within the trained length.
        given = length or self.length or self.original_length
        if self.doubling:
            # The next power of two, in whole numbers.
            doublings = (math.ceil(given / self.original_length) - 1).bit_length()
            given = self.original_length << doublings
        stretch = self.factor * given / self.original_length
        grown = stretch - (self.factor - 1)
        # Within the trained length it would shrink the base: there nothing changes.
        grown = max(grown, 1.0)
        own_base = grown_base(base, grown, rotary_size)
        return inverse_frequencies(rotary_size, own_base), 1.0


@dataclass(frozen=True)
class LongRope(Schedule):
    """LongRoPE: a searched divisor for each pair, one list within the trained length and another past it.

        theta_i = base^(-2i/r) / factor_i,   attention factor sqrt(1 + ln(factor) / ln(original_length))

    `factor` is the extended length divided by `original_length`. `attention_factor`, if given, replaces the formula;
    `long_attention_factor` does so past the trained length alone. `length` is the context's, set by `at_length`.

    Convention: within the trained length, as without one, the short list holds. Keys are cached before rotation.

    Good at: very long windows, to which its published models are fine-tuned, while short contexts keep their own
    divisors (Ding et al.).
    Bad at: models without searched divisors: the lists belong to one model. Crossing the trained length changes
    every angle, cached keys' too.

    Errors: `InputError` for a factor or a length below 1, a divisor that is not positive, and, where the rotary size
    is known, a list that does not have one divisor for each pair.
    Source: Ding et al. 2024, arXiv:2402.13753; the attention factor as Phi-3's released code has it, and two of them
    as Phi-3.5-MoE's has them, under `short_mscale` and `long_mscale`.

    >>> LongRope(8.0, 64, short_factor=(1.0, 1.0), long_factor=(1.0, 4.0)).frequencies(4, 10_000.0)[0].tolist()
    [1.0, 0.01]
    """

    factor: Factor
    original_length: TrainedLength
    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    attention_factor: Annotated[float | None, Above(0, ", or None for sqrt(1 + ln(factor) / ln(original_length))")] = (
        None
    )
    length: Annotated[int | None, AtLeast(1, "the context in tokens", ", or None for the trained length")] = None
    long_attention_factor: Annotated[float | None, Above(0, ", or None for that of the trained length")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("short_factor", "long_factor"):
            divisors = getattr(self, name)
            if not divisors or len(divisors) != len(self.short_factor) or not all(n > 0 for n in divisors):
                raise InputError(
                    f"LongRope got {name}={divisors}: needed are positive divisors, one for each pair, "
                    "and two lists of one length"
                )
        if self.attention_factor is None and self.factor > 1 and self.original_length < 2:
            raise InputError(
                f"LongRope got original_length={self.original_length}: needed is 2 or more, since its "
                "logarithm divides; or give attention_factor"
            )

    @property
    def length_dependent(self) -> bool:
        return self.length is None

    def at_length(self, length: int) -> Schedule:
        return replace(self, length=length)

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        name = "short_factor"
        attention_factor = self._attention_factor()
        if (length or self.length or 0) > self.original_length:
            name = "long_factor"
            attention_factor = self.long_attention_factor or attention_factor
        divisors = getattr(self, name)
        # Only now is the rotary size known: the constructor could compare the lists with each other alone.
        if len(divisors) != rotary_size // 2:
            raise InputError(
                f"LongRope got {len(divisors)} divisors in {name} and a rotary size of {rotary_size}: "
                f"needed are {rotary_size // 2}, one for each pair"
            )
        frequencies = inverse_frequencies(rotary_size, base) / divisors
        return frequencies, attention_factor

    def _attention_factor(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        # A factor of 1 extends nothing, and an original length of 1 would divide by zero.
        if self.factor <= 1:
            return 1.0
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_length))
