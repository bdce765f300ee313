"""Tests to compose claims from. Each decides only where the interval over seeds is on one side.

Coordinates are keywords, `label="RoPE", variant="raw", multiple=4`. A tuple of several asks for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from experiments.claims.base import Kind, Test, Verdict
from experiments.claims.seeds import (
    by_seed,
    counted,
    difference,
    digits,
    divided,
    lost,
    mean,
    number,
    placed,
    seeds_of,
    settings,
    spelled,
)
from posjax.results import Coordinates, Measurement, Measurements

SEEDS = 3
"""How many an ordering takes: of two, either order is as likely as a coin's."""

OPPOSITE: dict[Kind, Kind] = {"holds": "does not hold", "does not hold": "holds"}


def at_least(metric: str, bound: float, **coordinates: Any) -> Test:
    """Holds where the whole interval lies at the bound or above it, and does not where all of it lies below."""
    return between(metric, bound, np.inf, **coordinates)


def at_most(metric: str, bound: float, **coordinates: Any) -> Test:
    """Holds where the whole interval lies at the bound or below it, and does not where all of it lies above."""
    return between(metric, -np.inf, bound, **coordinates)


def flat(within: float = 0.05, metric: str = "loss_ratio", around: float = 1.0, **coordinates: Any) -> Test:
    """Holds where the whole interval lies at most `within` away from `around`."""
    return between(metric, around - within, around + within, **coordinates)


def between(metric: str, low: float, high: float, **coordinates: Any) -> Test:
    """Holds where the whole interval lies inside, and does not where all of it lies outside, on one side.

    One seed is decided by the interval of its samples, and says that it is one.
    """
    return partial(_between, metric, (low, high), coordinates)


def _between(metric: str, span: tuple[float, float], coordinates: Coordinates, table: Measurements) -> Verdict:
    fixed, swept = divided(coordinates)
    parts = []
    for at in settings(swept):
        rows = by_seed(table, metric, {**fixed, **at})
        found = mean(rows)
        kind = _side(found, *span)
        parts.append(SeenAt(kind, placed(number(found), at), (found,), seeds_of(rows)))
    return _told(f"{spelled(fixed)}: {_metric(metric)} ", parts, _asked(*span), lost(table, fixed))


def _side(found: Measurement, low: float, high: float) -> Kind:
    """On which side of the bounds an interval lies."""
    # A number without any interval is on neither: comparisons with NaN are false.
    if found.low >= low and found.high <= high:
        return "holds"
    if found.high < low or found.low > high:
        return "does not hold"
    return "needs scale"


def _asked(low: float, high: float) -> str:
    """The bounds that a number is held against."""
    if np.isinf(low):
        return f"at most {digits(high)} asked"
    if np.isinf(high):
        return f"at least {digits(low)} asked"
    return f"{digits(low)} to {digits(high)} asked"


@dataclass(frozen=True)
class SeenAt:
    """What was found at one setting: the number in words, and how many seeds or samples are behind it."""

    kind: Kind
    words: str
    measurements: tuple[Measurement, ...]
    seeds: str


def _told(subject: str, parts: Sequence[SeenAt], asked: str, after: str) -> Verdict:
    """The verdict of several settings, in one sentence."""
    seeds = " or ".join(dict.fromkeys(part.seeds for part in parts))
    words = f"{subject}{'; '.join(part.words for part in parts)}; {seeds}"
    if asked:
        words += f" ({asked})"
    rows = tuple(row for part in parts for row in part.measurements)
    return Verdict(_together([part.kind for part in parts]), f"{words}.{after}", rows)


def lower(metric: str, a: Coordinates, b: Coordinates, by: float = 0.0, **shared: Any) -> Test:
    """Holds where `a` is lower than `b` by more than `by`, paired over seeds.

    It takes three seeds, the same sign in each, and an interval of the paired difference without zero, or `by`.
    """
    return partial(_compared, metric, (a, b), shared, partial(_is_lower, by))


def higher(metric: str, a: Coordinates, b: Coordinates, by: float = 0.0, **shared: Any) -> Test:
    """As `lower`, for `a` above `b`."""
    return lower(metric, b, a, by, **shared)


def same(metric: str, a: Coordinates, b: Coordinates, within: float, **shared: Any) -> Test:
    """Holds where the interval of the paired difference lies inside plus or minus `within`, not where outside it."""
    return partial(_compared, metric, (a, b), shared, partial(_is_same, within))


def _is_lower(by: float, gap: Measurement, each: np.ndarray) -> tuple[Kind, str]:
    asked = ""
    if by:
        asked = f"by more than {digits(by)} asked"
    if gap.count < SEEDS:
        return "needs scale", f"an ordering takes {SEEDS} seeds"
    # Every seed too: an interval of three leans on their being alike.
    if gap.high < -by and (each < -by).all():
        return "holds", asked
    if gap.low > -by and (each > -by).all():
        return "does not hold", asked
    return "needs scale", asked or "not told apart"


def _is_same(within: float, gap: Measurement, each: np.ndarray) -> tuple[Kind, str]:
    # That nothing tells them apart is no evidence that they are the same: the interval must be narrow.
    return _side(gap, -within, within), f"within {digits(within)} asked"


def _compared(
    metric: str,
    pair: tuple[Coordinates, Coordinates],
    shared: Coordinates,
    rule: Callable[[Measurement, np.ndarray], tuple[Kind, str]],
    table: Measurements,
) -> Verdict:
    fixed, swept = divided(shared)
    parts = []
    notes = []
    for at in settings(swept):
        rows_a = by_seed(table, metric, {**pair[0], **fixed, **at})
        rows_b = by_seed(table, metric, {**pair[1], **fixed, **at})
        # Not the intervals of the means, which overlap where seeds differ more than methods do.
        gap, each = difference(rows_a, rows_b)
        kind, note = rule(gap, each)
        means = (mean(rows_a), mean(rows_b))
        words = placed(f"{number(means[0])} against {number(means[1])}, difference {number(gap)}", at)
        parts.append(SeenAt(kind, words, means, counted(gap.count)))
        notes.append(note)
    asked = ", ".join(dict.fromkeys(filter(None, notes)))
    names = f"{spelled({**pair[0], **fixed})} against {spelled({**pair[1], **fixed})}"
    after = lost(table, pair[0]) + lost(table, pair[1])
    return _told(f"{names}: {_metric(metric)} ", parts, asked, after)


def ordering(metric: str, *lowest_first: Coordinates, **shared: Any) -> Test:
    """Holds where each is lower than the next, as `lower` says."""
    return all_of(*(lower(metric, a, b, **shared) for a, b in pairwise(lowest_first)))


def lowest(metric: str, one: Coordinates, others: Sequence[Coordinates], **shared: Any) -> Test:
    """Holds where one is lower than each of the others, as `lower` says."""
    return all_of(*(lower(metric, one, other, **shared) for other in others))


def highest(metric: str, one: Coordinates, others: Sequence[Coordinates], **shared: Any) -> Test:
    """Holds where one is higher than each of the others, as `lower` says."""
    return all_of(*(higher(metric, one, other, **shared) for other in others))


def all_of(*tests: Test) -> Test:
    """Holds where all hold, does not where none does, and partly where some hold and others do not.

    Where any of them is undecided it needs scale, unless others already disagree.
    """
    # One part alone keeps its words as they are.
    if len(tests) == 1:
        return tests[0]
    return partial(_all_of, tests)


def _all_of(tests: Sequence[Test], table: Measurements) -> Verdict:
    # All of them, also after one has failed: each is part of what was seen.
    found = [test(table) for test in tests]
    rows = tuple(row for verdict in found for row in verdict.measurements)
    # What two parts say alike is said once.
    sentences = dict.fromkeys(verdict.words for verdict in found)
    return Verdict(_together([verdict.kind for verdict in found]), " ".join(sentences), rows)


def _together(kinds: Sequence[Kind]) -> Kind:
    if len(set(kinds)) == 1:
        return kinds[0]
    if "partly" in kinds or {"holds", "does not hold"} <= set(kinds):
        return "partly"
    return "needs scale"


def denied(test: Test) -> Test:
    """Holds where another test does not, and the other way round: for claims that deny something."""

    def turned(table: Measurements) -> Verdict:
        verdict = test(table)
        # What is undecided or half true is so for its denial as well.
        return replace(verdict, kind=OPPOSITE.get(verdict.kind, verdict.kind))

    return turned


def against_control(
    test: Test, metric: str, method: Coordinates, control: Coordinates, lower_is_better: bool = True, **shared: Any
) -> Test:
    """A test whose words tell the control too: first, where it behaves as well as the method at any of the settings.

    As well: three seeds do not tell that the method is better. The kind of the verdict stays that of the test.
    """
    sign = 1.0
    if lower_is_better:
        sign = -1.0
    return partial(_controlled, test, metric, (method, control), sign, shared)


def _controlled(
    test: Test,
    metric: str,
    pair: tuple[Coordinates, Coordinates],
    sign: float,
    shared: Coordinates,
    table: Measurements,
) -> Verdict:
    verdict = test(table)
    fixed, swept = divided(shared)
    as_well = []
    worse = []
    for at in settings(swept):
        rows = by_seed(table, metric, {**pair[1], **fixed, **at})
        gap, each = difference(by_seed(table, metric, {**pair[0], **fixed, **at}), rows)
        # The end of the interval that speaks least for the method.
        edge = min(sign * gap.low, sign * gap.high)
        told = as_well
        if gap.count >= SEEDS and edge > 0 and (sign * each > 0).all():
            told = worse
        told.append(placed(number(mean(rows)), at))
    name = f"{spelled({**pair[1], **fixed})}: {_metric(metric)}"
    words = verdict.words
    # First, since whoever stops reading after the number would take it for the merit of the method.
    if as_well:
        words = f"The control does as well ({name} {'; '.join(as_well)}). {words}"
    if worse:
        words += f" The control does worse ({name} {'; '.join(worse)})."
    return replace(verdict, words=words)


def fact(is_so: bool, words: str, *measurements: Measurement) -> Verdict:
    """The verdict of a computation, which has no seeds: it holds or it does not."""
    kind: Kind = "does not hold"
    if is_so:
        kind = "holds"
    return Verdict(kind, words, measurements)


def _metric(name: str) -> str:
    return name.replace("_", " ")
