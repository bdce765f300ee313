"""Tests to compose claims from. Each decides only where the interval over seeds is on one side.

Coordinates are keywords, `label="RoPE", variant="raw", multiple=4`. A tuple of several asks for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    lost,
    mean,
    number,
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
    return all_of(*(partial(_between, metric, low, high, at) for at in settings(coordinates)))


def _between(metric: str, low: float, high: float, at: Coordinates, table: Measurements) -> Verdict:
    rows = by_seed(table, metric, at)
    found = mean(rows)
    kind: Kind = "needs scale"
    # A number without any interval is on neither side: comparisons with NaN are false.
    if found.low >= low and found.high <= high:
        kind = "holds"
    elif found.high < low or found.low > high:
        kind = "does not hold"
    words = f"{spelled(at)}: {_metric(metric)} {number(found)}, {seeds_of(rows)}{_against(low, high)}."
    return Verdict(kind, words + lost(table, at), (found,))


def _against(low: float, high: float) -> str:
    """The bound that a number is held against."""
    if np.isinf(low):
        return f" (at most {digits(high)} asked)"
    if np.isinf(high):
        return f" (at least {digits(low)} asked)"
    return f" ({digits(low)} to {digits(high)} asked)"


def lower(metric: str, a: Coordinates, b: Coordinates, by: float = 0.0, **shared: Any) -> Test:
    """Holds where `a` is lower than `b` by more than `by`, paired over seeds.

    It takes three seeds, the same sign in each, and an interval of the paired difference without zero.
    """
    # Coordinates of the two come first, as they are how a reader tells them apart.
    tests = [partial(_lower, metric, {**a, **at}, {**b, **at}, by) for at in settings(shared)]
    return all_of(*tests)


def higher(metric: str, a: Coordinates, b: Coordinates, by: float = 0.0, **shared: Any) -> Test:
    """As `lower`, for `a` above `b`."""
    return lower(metric, b, a, by, **shared)


def _lower(metric: str, a: Coordinates, b: Coordinates, by: float, table: Measurements) -> Verdict:
    rows_a = by_seed(table, metric, a)
    rows_b = by_seed(table, metric, b)
    # Not the intervals of the means, which overlap where seeds differ more than methods do.
    gap, each = difference(rows_a, rows_b)
    means = (mean(rows_a), mean(rows_b))
    words = (
        f"{spelled(a)}: {_metric(metric)} {number(means[0])}; {spelled(b)}: {number(means[1])}; "
        f"difference {number(gap)}, {counted(gap.count)}"
    )
    kind: Kind = "needs scale"
    if gap.count < SEEDS:
        words += f", and an ordering takes {SEEDS}"
    elif gap.high < -by and (each < -by).all():
        kind = "holds"
    elif gap.low > -by and (each > -by).all():
        kind = "does not hold"
    else:
        words += ", which does not tell them apart"
    return Verdict(kind, f"{words}.{lost(table, a)}{lost(table, b)}", means)


def same(metric: str, a: Coordinates, b: Coordinates, within: float, **shared: Any) -> Test:
    """Holds where the interval of the paired difference lies inside plus or minus `within`, not where outside it."""
    return all_of(*(partial(_same, metric, {**a, **at}, {**b, **at}, within) for at in settings(shared)))


def _same(metric: str, a: Coordinates, b: Coordinates, within: float, table: Measurements) -> Verdict:
    rows_a = by_seed(table, metric, a)
    rows_b = by_seed(table, metric, b)
    gap, _ = difference(rows_a, rows_b)
    means = (mean(rows_a), mean(rows_b))
    # That nothing tells them apart is no evidence that they are the same: the interval must be narrow.
    kind: Kind = "needs scale"
    if gap.low >= -within and gap.high <= within:
        kind = "holds"
    elif gap.low > within or gap.high < -within:
        kind = "does not hold"
    words = (
        f"{spelled(a)}: {_metric(metric)} {number(means[0])}; {spelled(b)}: {number(means[1])}; "
        f"difference {number(gap)}, {counted(gap.count)} (within {digits(within)} asked)."
    )
    return Verdict(kind, words + lost(table, a) + lost(table, b), means)


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
    kinds = {verdict.kind for verdict in found}
    kind: Kind = "needs scale"
    if len(kinds) == 1:
        kind = found[0].kind
    elif "partly" in kinds or kinds >= {"holds", "does not hold"}:
        kind = "partly"
    rows = tuple(row for verdict in found for row in verdict.measurements)
    # Sentences that two parts share, such as what diverged, are said once.
    sentences = dict.fromkeys(verdict.words for verdict in found)
    return Verdict(kind, " ".join(sentences), rows)


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
    """A test whose words tell the control too: first, where it behaves as well as the method.

    As well: three seeds do not tell that the method is better. The kind of the verdict stays that of the test.
    """

    def told(table: Measurements) -> Verdict:
        verdict = test(table)
        as_well = []
        worse = []
        for at in settings(shared):
            ordered = (by_seed(table, metric, {**method, **at}), by_seed(table, metric, {**control, **at}))
            text = f"{spelled({**control, **at})}: {number(mean(ordered[1]))}"
            if _is_better(*ordered, lower_is_better):
                worse.append(text)
            else:
                as_well.append(text)
        words = verdict.words
        # First, since whoever stops reading after the number would take it for the merit of the method.
        if as_well:
            words = f"The control does as well ({'; '.join(as_well)}). {words}"
        if worse:
            words += f" The control does worse ({'; '.join(worse)})."
        return replace(verdict, words=words)

    return told


def _is_better(method: Mapping[Any, Measurement], control: Mapping[Any, Measurement], lower_is_better: bool) -> bool:
    gap, each = difference(dict(method), dict(control))
    sign = 1.0
    if lower_is_better:
        sign = -1.0
    # The end of the interval that speaks least for the method.
    edge = min(sign * gap.low, sign * gap.high)
    return gap.count >= SEEDS and bool((sign * each > 0).all()) and edge > 0


def fact(is_so: bool, words: str, *measurements: Measurement) -> Verdict:
    """The verdict of a computation, which has no seeds: it holds or it does not."""
    kind: Kind = "does not hold"
    if is_so:
        kind = "holds"
    return Verdict(kind, words, measurements)


def _metric(name: str) -> str:
    return name.replace("_", " ")
