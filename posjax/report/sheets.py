"""The numbers of any evaluation, by metric: which coordinates vary, and which of them makes the columns of a table.

Nothing here knows an evaluation: what it yields in rows with coordinates is all there is to go by.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from posjax.report.values import MeasuredRun, Report
from posjax.results import Coordinate, Measurement, Measurements

AXES = ("multiple", "length", "distance", "depth", "position", "layer", "head")
"""Coordinates in the order in which they make good columns; other numbers come after them, and words last."""
MARKED = ("label", "variant", "kind", "seed", "run", "evaluation")
"""Coordinates that say whose a number is, and not where it was taken."""
Place = tuple[tuple[str, Coordinate], ...]
"""Some coordinates with their values."""


@dataclasses.dataclass(frozen=True)
class Sheet:
    """All numbers of one metric of one evaluation; each row has a `label`, and where several were gathered, no seed."""

    evaluation: str
    metric: str
    rows: tuple[Measurement, ...]
    # The rows of each seed behind the means.
    seeds: tuple[Measurement, ...]
    # What the labels of rows are in the report's colours.
    methods: Mapping[str, str]
    # The coordinates that vary, of which none follows from those before it; a table's columns first.
    axes: tuple[str, ...]
    # The coordinates that have one value in all rows.
    fixed: Place

    @property
    def title(self) -> str:
        """The metric, with what all its numbers have in common: "accuracy (task copy)"."""
        return self.metric.replace("_", " ") + in_brackets(self.fixed)

    @property
    def numeric(self) -> tuple[str, ...]:
        """The axes whose values are all numbers."""
        return tuple(name for name in self.axes if is_numeric(self.rows, name))

    def values(self, name: str) -> list[Coordinate]:
        """The values of a coordinate: numbers by size, others as they come."""
        found = list(Measurements(self.rows).distinct(name))
        if is_numeric(self.rows, name):
            return sorted(found, key=float)
        return found

    def facets(self, without: Sequence[str]) -> dict[Place, list[Measurement]]:
        """The rows by the axes that are not named: one entry for each table or chart they make."""
        others = [name for name in self.axes if name not in without]
        order = {name: {value: place for place, value in enumerate(self.values(name))} for name in others}
        found: dict[Place, list[Measurement]] = {}
        for row in self.rows:
            found.setdefault(place_of(row, others), []).append(row)
        # A coordinate that some rows lack sorts before its values.
        keys = {place: tuple(_rank(order, name, dict(place)) for name in others) for place in found}
        return {place: found[place] for place in sorted(found, key=keys.__getitem__)}


def sheets(report: Report) -> tuple[Sheet, ...]:
    """One for each metric of each evaluation that has no tables of its own, in the order of their rows."""
    by_evaluation: dict[str, list[MeasuredRun]] = {}
    for run in report.other:
        by_evaluation.setdefault(run.evaluation, []).append(run)
    found = []
    for evaluation, runs in by_evaluation.items():
        labels = _labels(runs)
        rows, seeds = [], []
        for run, label in zip(runs, labels, strict=True):
            rows += run.measurements.placed(label=label)
            for member in run.members:
                if isinstance(member, MeasuredRun):
                    seeds += member.measurements.placed(label=label)
        methods = {label: run.label for run, label in zip(runs, labels, strict=True)}
        found += _of_evaluation(evaluation, rows, seeds, methods)
    return tuple(found)


def of_table(table: Measurements) -> tuple[Sheet, ...]:
    """The same of a table of several runs, such as `exports.table` makes: seeds of one label become their mean."""
    means = Measurements(tuple(row.without("run") for row in table)).averaged("seed")
    by_evaluation: dict[str, list[Measurement]] = {}
    for row in means:
        by_evaluation.setdefault(str(row.at("evaluation")), []).append(row)
    found = []
    for evaluation, rows in by_evaluation.items():
        found += _of_evaluation(evaluation, rows, [], {})
    return tuple(found)


def _of_evaluation(
    evaluation: str, rows: Iterable[Measurement], seeds: Iterable[Measurement], methods: Mapping[str, str]
) -> list[Sheet]:
    by_metric: dict[str, list[Measurement]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, []).append(row)
    of_seeds: dict[str, list[Measurement]] = {}
    for row in seeds:
        of_seeds.setdefault(row.metric, []).append(row)
    found = []
    for metric, taken in by_metric.items():
        axes, fixed = _axes(taken)
        behind = tuple(of_seeds.get(metric, ()))
        found.append(Sheet(evaluation, metric, tuple(taken), behind, methods, axes, fixed))
    return found


def place_of(row: Measurement, names: Sequence[str]) -> Place:
    """Some of a row's coordinates; those it lacks are left out."""
    return tuple((name, row.coordinates[name]) for name in names if name in row.coordinates)


def in_words(place: Place) -> str:
    """A place as a heading.

    >>> in_words((("layer", 0), ("depth", 0.25)))
    'layer 0, depth 0.25'
    """
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in place)


def in_brackets(place: Place) -> str:
    """A place behind a title, or nothing."""
    if not place:
        return ""
    return f" ({in_words(place)})"


def is_numeric(rows: Iterable[Measurement], name: str) -> bool:
    """Whether every row that has the coordinate has a number there."""
    return all(isinstance(row.coordinates.get(name, 0), int | float) for row in rows)


def thinned(values: Sequence[Coordinate], most: int) -> list[Coordinate]:
    """At most so many of them, evenly spread, with both ends.

    >>> thinned(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(step * place)] for place in range(most)]


def _rank(order: Mapping[str, Mapping[Coordinate, int]], name: str, place: Mapping[str, Coordinate]) -> int:
    if name not in place:
        return -1
    return order[name][place[name]]


def _labels(runs: Sequence[MeasuredRun]) -> list[str]:
    """A label for each run that no other has: runs of one label that are no seeds of each other tell their names."""
    labels = [run.label for run in runs]
    return [f"{run.label} ({run.name})" if labels.count(run.label) > 1 else run.label for run in runs]


def _axes(rows: Sequence[Measurement]) -> tuple[tuple[str, ...], Place]:
    names = [name for name in Measurements(tuple(rows)).names if name not in MARKED]
    held = {name: {row.at(name) for row in rows} for name in names}
    fixed = tuple((name, _only(values)) for name, values in held.items() if len(values) == 1)
    varying = [name for name in names if len(held[name]) > 1]
    kept: list[str] = []
    for name in sorted(varying, key=lambda name: _preference(rows, name)):
        # A length is the trained length times a multiple: where one has a column, the other would say it again.
        if not _follows(rows, name, ["label", "variant", *kept]):
            kept.append(name)
    return tuple(kept), fixed


def _only(values: set) -> Coordinate:
    (value,) = values
    return value


def _preference(rows: Sequence[Measurement], name: str) -> int:
    if name in AXES:
        return AXES.index(name)
    return len(AXES) + (not is_numeric(rows, name))


def _follows(rows: Sequence[Measurement], name: str, known: Sequence[str]) -> bool:
    """Whether a coordinate has but one value at any place that the known ones can say."""
    seen: dict[tuple, Coordinate | None] = {}
    for row in rows:
        at = tuple(row.at(other) for other in known)
        if seen.setdefault(at, row.at(name)) != row.at(name):
            return False
    return True


def has_interval(row: Measurement) -> bool:
    """Whether an interval was taken with the number."""
    return math.isfinite(row.low) and math.isfinite(row.high)
