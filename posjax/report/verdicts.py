"""What a ratio of losses says of a method, and where it is judged: the thresholds that all sentences share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from posjax.report.values import LanguageRun, Point, ReportedRun

# Ratios at 4x: above the first a method explodes, between the first two it leaks.
EXPLODES = 2.0
LEAKS = 1.1
RESCUED = 1.6
"""An extension whose ratio at 4x stays below rescues a method that explodes."""
FOUND = 0.5
"""A needle found less often than this is lost."""


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """One claim: its topic in a few words, and the sentences with the numbers that carry it."""

    topic: str
    text: str


def verdict(ratio: float) -> str:
    """What a ratio of losses exp(loss past the trained length - loss within it) says of a method.

    >>> verdict(2.98), verdict(1.33), verdict(1.01)
    ('explodes', 'leaks', 'flat')
    """
    # Asked this way round, a ratio that is no number explodes: the loss behind it has overflowed.
    if not ratio <= EXPLODES:
        return "explodes"
    if ratio >= LEAKS:
        return "leaks"
    return "flat"


def is_below(one: Point, other: Point) -> bool:
    """Whether the interval of one ratio lies below that of another; their ratios alone, where there is no interval."""
    _, upper = _interval(one)
    lower, _ = _interval(other)
    return upper < lower


def _interval(point: Point) -> tuple[float, float]:
    low, high = point.low, point.high
    half = point.halves.get("ratio")
    if half is not None:
        low = point.ratio - half
        high = point.ratio + half
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    return point.ratio, point.ratio


def judged_at(run: ReportedRun) -> int:
    """The length at which a method is judged: 4x, or the longest one measured when that is shorter."""
    past = [length for length in run.lengths if length > 1]
    up_to_4x = [length for length in past if length <= 4]
    if up_to_4x:
        return max(up_to_4x)
    # All are longer than 4x: the nearest to it. A trial run may have none, and is then judged where it trained.
    return min(past, default=1)


def past_trained(run: LanguageRun) -> list[tuple[int, Point]]:
    """What was measured of the model as trained at each length past the trained one."""
    return [(length, point) for length in run.lengths if length > 1 and (point := run.raw.at(length))]


def worst_ratio(pair: tuple[object, Point]) -> float:
    """A key to sort by: a ratio that is no number is worse than any."""
    ratio = pair[1].ratio
    if math.isnan(ratio):
        return math.inf
    return ratio


def listed(names: list[str]) -> str:
    """Names as a sentence lists them.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *others, last = names
    if not others:
        return last
    return f"{', '.join(others)} and {last}"


def span(values: Iterable[int]) -> str:
    """The least and the largest of some numbers, or the one that all are.

    >>> span([4, 4]), span([1000, 4])
    ('4', '4 to 1,000')
    """
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    if low == high:
        return f"{low:,}"
    return f"{low:,} to {high:,}"
