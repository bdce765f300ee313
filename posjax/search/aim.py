"""What is to be extended and how far, and the way between a schedule and the numbers that a search moves."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from posjax.encodings import LongRope, Rope, Schedule
from posjax.encodings.schedules import inverse_frequencies
from posjax.errors import InputError
from posjax.models import Architecture
from posjax.search.float_rope import LONGEST
from posjax.search.model import Point, rope_of

DIGITS = 5
"""Digits of what is found, so that what a config shows is what was measured, to the bit."""


@dataclass(frozen=True)
class Aim:
    """A rotary encoding as it was trained, its rotary size, the trained length, and the multiple of it to reach."""

    rope: Rope
    rotary_size: int
    trained: int
    multiple: int

    @classmethod
    def of(cls, architecture: Architecture, trained: int, multiple: int) -> Aim:
        """Errors: `InputError` for a multiple below 2, a length too long, or an encoding that no search can change."""
        if multiple < 2:
            raise InputError(f"the search is to reach {multiple} times the trained length: needed is 2 or more")
        # Before anything is built: a search at such a length would take hours, and be led by rounding.
        length = multiple * trained
        if length > LONGEST:
            raise InputError(
                f"the search would read {length:,} tokens at once: its angles are float32, which serve up to "
                f"{LONGEST:,}; aim at a smaller multiple"
            )
        rope = rope_of(architecture)
        # What depends on the length is what it was within the trained one.
        own = rope.at_length(trained)
        assert isinstance(own, Rope)
        size = own.rotary_size(architecture.dims.head_size)
        frequencies, _ = own.schedule.frequencies(size, own.base)
        # A logarithm of its divisor would be infinite.
        if not np.all(frequencies > 0):
            raise InputError(
                f"{rope!r} has pairs that never turn, which no divisor can change: a search is for a Rope whose pairs "
                "all turn"
            )
        return cls(own, size, trained, multiple)

    @property
    def length(self) -> int:
        """The tokens that are aimed at."""
        # The whole context, not what is added to it.
        return self.multiple * self.trained

    def point(self, schedule: Schedule) -> Point:
        """Where a schedule lies in the search."""
        divisors, temperature = self.divisors(schedule)
        # Logarithms keep divisors positive, and make one step the same share of a small and a large one.
        log_divisors = jnp.asarray(np.log(divisors), jnp.float32)
        return {"log_divisors": log_divisors, "log_temperature": jnp.float32(np.log(temperature))}

    def schedule(self, point: Point) -> LongRope:
        """A point of the search as a schedule, rounded: within the trained length it is the one that was trained."""
        # Not rounded: within the trained length the model has to be what it was, to the bit.
        short, short_temperature = self.divisors(self.rope.schedule)
        divisors = np.exp(np.asarray(point["log_divisors"], np.float64))
        temperature = np.exp(np.float64(point["log_temperature"]))
        return LongRope(
            float(self.multiple),
            self.trained,
            short_factor=tuple(short.tolist()),
            long_factor=tuple(map(_rounded, divisors)),
            attention_factor=short_temperature,
            long_attention_factor=_rounded(temperature),
        )

    def reach(self, schedule: Schedule) -> np.ndarray:
        """By how much a pair's log divisor may change for its angle at the trained length to change by one radian.

        At most 1: a slow pair's frequency changes by its own size.
        """
        frequencies, _ = schedule.frequencies(self.rotary_size, self.rope.base)
        return np.minimum(1.0, 1.0 / (self.trained * frequencies))

    def divisors(self, schedule: Schedule) -> tuple[np.ndarray, float]:
        """What a schedule, told a length or not, divides each pair's frequency by, and its attention factor."""
        # Beside the plain ones, since LongRoPE's lists divide these, whatever schedule the model has.
        published = inverse_frequencies(self.rotary_size, self.rope.base)
        frequencies, temperature = schedule.frequencies(self.rotary_size, self.rope.base)
        return published / frequencies, temperature


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")
