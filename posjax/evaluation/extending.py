"""The forms of extensions: what a trained encoding may become past its trained length, without further training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from posjax.encodings import Chain, Encoding, LogN, Rope, Schedule, chain
from posjax.encodings.schedules import Frequencies
from posjax.errors import InputError
from posjax.fields import check_fields


class Extension:
    """What a trained encoding becomes at `factor` times its trained length: a frozen dataclass that defines `apply`.

    `name` is that of tables and command lines, `title` the one for people. An extension that is `always` there changes
    the model within its trained length too, where the others leave it as it was trained.
    """

    name: str
    title: str
    # Where it is False an evaluation measures the trained length once, for all that leave the model as it is there.
    always: bool = False

    def suits(self, encoding: Encoding) -> bool:
        """Whether there is something in it to extend: what rotates, unless an extension says otherwise."""
        return any(isinstance(part, Rope) for part in parts_of(encoding))

    def apply(self, encoding: Encoding, factor: float, original_length: int) -> Encoding:
        """The encoding for contexts `factor` times as long as the `original_length` that it was trained at."""
        raise NotImplementedError(f"{type(self).__name__} defines no apply")


def parts_of(encoding: Encoding) -> tuple[Encoding, ...]:
    """The encodings of a chain, or the one that there is."""
    if isinstance(encoding, Chain):
        return encoding.parts
    return (encoding,)


@dataclass(frozen=True)
class Rotary(Extension):
    """Another encoding in place of each rotary part: `change` is a function of the part, factor and trained length.

    The other parts of a chain, such as a bias, go on as they were trained.
    """

    name: str
    title: str
    change: Callable[[Rope, float, int], Encoding]
    always: bool = False

    def apply(self, encoding: Encoding, factor: float, original_length: int) -> Encoding:
        parts = []
        # Each by itself, so that a chain of two rotations is extended in both.
        for part in parts_of(encoding):
            if isinstance(part, Rope):
                part = self.change(part, factor, original_length)
            parts.append(part)
        return chain(*parts)


def scheduled(name: str, title: str, schedule_of: Callable[[float, int], Schedule], always: bool = False) -> Rotary:
    """An extension that changes frequencies alone, by a schedule for each factor and trained length.

    >>> from posjax.encodings import Interpolation
    >>> scheduled("halved", "halved", lambda factor, length: Interpolation(factor / 2)).apply(Rope(), 4.0, 64).schedule
    Interpolation(factor=2.0)
    """

    def change(part: Rope, factor: float, original_length: int) -> Encoding:
        return replace(part, schedule=schedule_of(factor, original_length))

    return Rotary(name, title, change, always)


@dataclass(frozen=True)
class Standing(Schedule):
    """No pair turns: RoPE without its rotation, to the bit.

    >>> Standing().frequencies(4, 10_000.0)[0].tolist()
    [0.0, 0.0]
    """

    def frequencies(self, rotary_size: int, base: float, length: int | None = None) -> Frequencies:
        # Numbers alone: `NoPE()` in its place would be another structure, and another compilation.
        return np.zeros(rotary_size // 2), 1.0


@dataclass(frozen=True)
class Rebased(Extension):
    """RoPE's base times `factor ** power`. NTK-aware scaling is a power of r / (r - 2); a larger one goes further.

    Source: Roziere et al. 2023, arXiv:2308.12950, who train on with a base of 1,000,000 in place of 10,000 for four
    times the length, a power of 3.3.

    >>> Rebased(power=2.0).apply(Rope(base=100.0), 4.0, 64).base
    1600.0
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def name(self) -> str:
        # The one that has a name of its own.
        if self == Rebased():
            return "base"
        return f"base^{self.power:g}"

    @property
    def title(self) -> str:
        return f"base × factor^{self.power:g}"

    def apply(self, encoding: Encoding, factor: float, original_length: int) -> Encoding:
        growth = factor**self.power
        grown = Rotary(self.name, self.title, lambda part, *_: replace(part, base=part.base * growth))
        return grown.apply(encoding, factor, original_length)


@dataclass(frozen=True)
class SharperQueries(Extension):
    """log-n scaling: past the trained length L, queries at position m times ln(m + 1) / ln(L), as `LogN` does it.

    On every encoding that has no `LogN` yet, rotary or not. Source: Chiang and Cholak 2022, arXiv:2202.12172.

    >>> SharperQueries().apply(Rope(), 4.0, 64).parts[1]
    LogN(original_length=64)
    """

    name: str = "log-n"
    title: str = "log-n"

    def suits(self, encoding: Encoding) -> bool:
        return not any(isinstance(part, LogN) for part in parts_of(encoding))

    def apply(self, encoding: Encoding, factor: float, original_length: int) -> Encoding:
        # Behind the rotation: a length of the query is all that it changes, and turning keeps lengths.
        return chain(encoding, LogN(original_length))


@dataclass(frozen=True)
class Fixed(Extension):
    """A schedule that was found elsewhere, or an encoding in place of the rotary ones, at every length.

    >>> from posjax.encodings import Interpolation
    >>> Fixed("found", Interpolation(3.0)).apply(Rope(), 8.0, 64).schedule
    Interpolation(factor=3.0)
    """

    name: str
    to: Schedule | Encoding

    always = True

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def title(self) -> str:
        return self.name

    def apply(self, encoding: Encoding, factor: float, original_length: int) -> Encoding:
        def change(part: Rope, *_: float) -> Encoding:
            # A schedule is told the part's own base and layout, where an encoding has its own.
            if isinstance(self.to, Schedule):
                return replace(part, schedule=self.to)
            return self.to

        return Rotary(self.name, self.title, change).apply(encoding, factor, original_length)


@dataclass(frozen=True)
class ByFactor(Extension):
    """Schedules for some factors, such as a search found: each length takes that of the next factor from its own on.

    Within the trained length, and past the last factor, the encoding stays as it was trained, and the last one.

    >>> from posjax.encodings import Interpolation
    >>> found = ByFactor("found", ((2.0, Interpolation(1.5)), (8.0, Interpolation(6.0))))
    >>> [found.apply(Rope(), factor, 64).schedule.factor for factor in (2.0, 4.0, 16.0)]
    [1.5, 6.0, 6.0]
    """

    name: str
    schedules: tuple[tuple[float, Schedule], ...]

    def __post_init__(self) -> None:
        check_fields(self)
        factors = [factor for factor, _ in self.schedules]
        # In another order the next factor from a length on would not be the nearest.
        if not factors or factors != sorted(set(factors)):
            raise InputError(
                f"ByFactor got the factors {factors}: needed are one or more, rising, with a schedule each"
            )

    @property
    def title(self) -> str:
        return self.name

    def apply(self, encoding: Encoding, factor: float, original_length: int) -> Encoding:
        if factor <= 1:
            return encoding
        # What was found for longer contexts serves shorter ones better than the other way round.
        reaching = [schedule for most, schedule in self.schedules if most >= factor]
        _, last = self.schedules[-1]
        chosen = (*reaching, last)[0]
        return Fixed(self.name, chosen).apply(encoding, factor, original_length)
