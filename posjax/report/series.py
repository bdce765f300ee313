"""The curves of a report as plain rows, drawn alike by the page's charts and by the figures for papers."""

from __future__ import annotations

import math
from typing import Any

from posjax.report import marks
from posjax.report.bins import binned
from posjax.report.rows import depth_names
from posjax.report.values import LanguageRun, Point, Report, ReportedRun, ReportedVariant

Rows = list[dict[str, Any]]
ALL_KINDS = ("raw", "windowed", "extension", "fill")
AS_TRAINED = ("raw", "windowed")
STEPS = 160
"""Points of a training curve at most."""


def by_length(report: Report, kinds: tuple[str, ...]) -> Rows:
    """Loss, ratio with interval and mass beyond the trained length, for variants of the kinds, by length."""
    rows = []
    for run, variant in variants(report.language, kinds):
        for length in run.lengths:
            if point := variant.at(length):
                rows.append(_marked(run, variant) | {"length": length} | _loss_fields(point))
    return finite(rows, "loss")


def as_trained(report: Report) -> Rows:
    """What `by_length` has of each model as trained and of its windowed control."""
    return by_length(report, AS_TRAINED)


def _loss_fields(point: Point) -> dict[str, float]:
    return {
        "loss": point.loss,
        "ratio": point.ratio,
        "low": point.low,
        "high": point.high,
        "mean": point.mean,
        "beyond": point.beyond,
    }


def of_extended(report: Report) -> Rows:
    """What `by_length` has of every variant, for the runs whose trained model was also evaluated in other ways."""
    # By label, since that is what tells methods apart in every chart.
    labels = {run.label for run in extended(report)}
    return [row for row in by_length(report, ALL_KINDS) if row["method"] in labels]


def beyond_by_length(report: Report) -> Rows:
    """What `by_length` has, where the mass beyond the trained length was measured; windowed controls have none."""
    rows = by_length(report, ("raw", "extension", "fill"))
    # Rows come rounded, and what was not measured is None in them.
    return [row for row in rows if row["beyond"] is not None]


def by_position(report: Report) -> Rows:
    """Mean loss in each bin of positions at the longest length of each run, as trained and windowed."""
    rows = []
    for run, variant in variants(report.language, AS_TRAINED):
        point = variant.at(max(run.lengths))
        # A variant that ends earlier has no curve here: at its own end it would lie among longer windows.
        if point is None:
            continue
        for position, loss in zip(point.positions, point.by_position, strict=False):
            # The axis is logarithmic, and position 0 has no place on it.
            rows.append(_marked(run, variant) | {"position": max(1.0, position), "loss": loss})
    return finite(rows, "loss")


def training(report: Report) -> Rows:
    """Training loss by step, averaged over neighbours so that a long run stays a light curve."""
    rows = []
    for run in report.runs:
        losses = [(entry["step"], entry["loss"]) for entry in run.metrics if entry.get("loss") is not None]
        # As many neighbours as bring a run of any length down to that number of points.
        width = max(1, math.ceil(len(losses) / STEPS))
        for start in range(0, len(losses), width):
            chunk = losses[start : start + width]
            # The last step of a chunk, so that the curve ends where training did.
            last_step = chunk[-1][0]
            rows.append(
                {
                    "method": run.label,
                    "variant": "raw",
                    "name": run.label,
                    "task": run.task,
                    "step": last_step,
                    "loss": sum(loss for _, loss in chunk) / len(chunk),
                }
            )
    return finite(rows, "loss")


def scores(report: Report, which: str) -> Rows:
    """Mean score in bins of distance, evenly wide on a logarithmic axis; distance 0 is zero."""
    rows = []
    for run in report.language:
        if run.scores is None:
            continue
        values = {"random": run.scores.random, "trained": run.scores.trained}[which]
        for low, high, score in binned(run.scores.distances, values):
            rows.append({"method": run.label, "low": low, "high": high, "score": score})
    return finite(rows, "score")


def is_past_sense(rows: Rows, report: Report) -> bool:
    """Whether losses are so high that they would flatten, on a linear axis, the curves that matter."""
    yardsticks = [loss for run in report.language for loss in run.yardsticks.values() if math.isfinite(loss)]
    highest = max((row["loss"] for row in rows), default=0.0)
    # Without a yardstick nothing says what is too high.
    return highest > 4 * max(yardsticks, default=math.inf)


def finite_yardsticks(report: Report) -> dict[str, float]:
    """The yardsticks that can be drawn, by name; where texts differ, those of the last run."""
    found: dict[str, float] = {}
    for run in report.language:
        found |= {name: loss for name, loss in run.yardsticks.items() if math.isfinite(loss)}
    return found


def score_scale(rows: Rows) -> tuple[float, float]:
    """The largest score, and the score up to which colours are linear before they turn logarithmic.

    A bias such as ALiBi's grows with distance to many times a rotation's score; both are to be seen.
    """
    # Scores that are all zero still need a scale with two ends.
    top = max(1e-3, *(abs(row["score"]) for row in rows))
    return top, min(0.3, top / 3)


def score_ticks(top: float) -> list[float]:
    """The ticks of a colour scale that reaches as far on both sides."""
    if top > 3:
        return [-top, -1.0, 0.0, 1.0, top]
    return [-top, 0.0, top]


def spread(values: list[float], gap: float, low: float, high: float) -> list[float]:
    """Moves `values` apart until neighbours are `gap` from each other, within [low, high] where there is room.

    >>> spread([0.5, 0.5, 0.9], gap=0.25, low=0.0, high=1.0)
    [0.5, 0.75, 1.0]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    placed: dict[int, float] = {}
    # Upwards first, each as low as the one beneath lets it.
    floor = low
    for index in order:
        placed[index] = max(values[index], floor)
        floor = placed[index] + gap
    # Then back down from the top, which pushes away only what has no room above.
    ceiling = high
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return [placed[index] for index in range(len(values))]


def recall(report: Report, depth: int) -> Rows:
    """Accuracy by length for needles at the depth of that index."""
    rows = []
    for run, variant in variants(report.retrieval, ALL_KINDS):
        for length in run.lengths:
            if point := variant.at(length):
                found = {
                    "length": length,
                    "accuracy": point.accuracy[depth],
                    "error": point.error[depth],
                    "depth": depth_names(report)[depth],
                }
                rows.append(_marked(run, variant) | found)
    return finite(rows, "accuracy")


def extended(report: Report) -> tuple[LanguageRun, ...]:
    """The language runs whose trained model was also tried with extensions, or with ways to fill its table."""
    return tuple(run for run in report.language if run.of_kind("extension") or run.of_kind("fill"))


def variants(runs, kinds: tuple[str, ...]) -> list[tuple[Any, ReportedVariant]]:
    """Every variant of the given kinds, beside its run."""
    return [(run, variant) for run in runs for variant in run.variants if variant.kind in kinds]


def _marked(run: ReportedRun, variant: ReportedVariant) -> dict[str, Any]:
    """What a row needs to be drawn like every other row of its method and variant."""
    return {
        "method": run.label,
        "variant": variant.name,
        "name": marks.name(run, variant),
        "short": marks.short(run, variant),
    }


def finite(rows: Rows, field: str) -> Rows:
    """Rows for a chart, rounded: without those that have no place on an axis; what else is not finite is null."""
    kept = [row for row in rows if math.isfinite(row[field])]
    return [{name: _rounded(value) for name, value in row.items()} for row in kept]


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    # More digits than a screen shows would only make the page heavier.
    return float(f"{value:.5g}")
