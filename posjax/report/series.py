"""The curves of a report as plain rows, drawn alike by the page's charts and by the figures for papers."""

from __future__ import annotations

import bisect
import math
from typing import Any

from posjax.report import marks
from posjax.report.load import LanguageRun, Report, ReportedRun, ReportedVariant, ScoresByDistance
from posjax.report.rows import depth_names

Rows = list[dict[str, Any]]
DISTANCES = 72
STEPS = 160


def by_length(report: Report, kinds: tuple[str, ...]) -> Rows:
    """Loss, ratio with interval and mass beyond the trained length, for variants of the kinds, by length."""
    rows = []
    for run, variant in variants(report.language, kinds):
        for length in run.lengths:
            if point := variant.at(length):
                rows.append(
                    _marked(run, variant)
                    | {
                        "length": length,
                        "loss": point.loss,
                        "ratio": point.ratio,
                        "low": point.low,
                        "high": point.high,
                        "mean": point.mean,
                        "beyond": point.beyond,
                    }
                )
    return _finite(rows, "loss")


def by_position(report: Report) -> Rows:
    """Mean loss in each bin of positions at the longest length of each run, as trained and windowed."""
    rows = []
    for run, variant in variants(report.language, ("raw", "windowed")):
        point = variant.at(max(run.lengths))
        for position, loss in zip(point.positions, point.by_position, strict=False) if point else ():
            rows.append(_marked(run, variant) | {"position": max(1.0, position), "loss": loss})
    return _finite(rows, "loss")


def training(report: Report) -> Rows:
    """Training loss by step, averaged over neighbours so that a long run stays a light curve."""
    rows = []
    for run in report.runs:
        task = "needles" if run in report.retrieval else "text"
        losses = [(entry["step"], entry["loss"]) for entry in run.metrics if entry.get("loss") is not None]
        width = max(1, math.ceil(len(losses) / STEPS))
        for start in range(0, len(losses), width):
            chunk = losses[start : start + width]
            rows.append(
                {
                    "method": run.label,
                    "variant": "raw",
                    "name": run.label,
                    "task": task,
                    "step": chunk[-1][0],
                    "loss": sum(loss for _, loss in chunk) / len(chunk),
                }
            )
    return _finite(rows, "loss")


def scores(report: Report, which: str) -> Rows:
    """Mean score in at most `DISTANCES` bins of distance, evenly wide on a logarithmic axis; distance 0 is zero."""
    rows = []
    for run in report.language:
        for low, high, score in _bins(run.scores, which) if run.scores else ():
            rows.append({"method": run.label, "low": low, "high": high, "score": score})
    return _finite(rows, "score")


def is_past_sense(rows: Rows, report: Report) -> bool:
    """Whether losses are so high that they would flatten, on a linear axis, the curves that matter."""
    yardsticks = [loss for run in report.language for loss in run.yardsticks.values() if math.isfinite(loss)]
    return max((row["loss"] for row in rows), default=0.0) > 4 * max(yardsticks, default=math.inf)


def score_scale(rows: Rows) -> tuple[float, float]:
    """The largest score, and the score up to which colours are linear before they turn logarithmic.

    A bias such as ALiBi's grows with distance to many times a rotation's score; both are to be seen.
    """
    top = max(1e-3, *(abs(row["score"]) for row in rows))
    return top, min(0.3, top / 3)


def score_ticks(top: float) -> list[float]:
    """The ticks of a colour scale that reaches as far on both sides."""
    return [-top, -1.0, 0.0, 1.0, top] if top > 3 else [-top, 0.0, top]


def spread(values: list[float], gap: float, low: float, high: float) -> list[float]:
    """Moves `values` apart until neighbours are `gap` from each other, within [low, high] where there is room.

    >>> spread([0.5, 0.5, 0.9], gap=0.25, low=0.0, high=1.0)
    [0.5, 0.75, 1.0]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    placed: dict[int, float] = {}
    floor = low
    for index in order:
        placed[index] = max(values[index], floor)
        floor = placed[index] + gap
    ceiling = high
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return [placed[index] for index in range(len(values))]


def recall(report: Report, depth: int) -> Rows:
    """Accuracy by length for needles at the depth of that index."""
    rows = []
    for run, variant in variants(report.retrieval, ("raw", "windowed", "extension", "fill")):
        for length in run.lengths:
            if point := variant.at(length):
                rows.append(
                    _marked(run, variant)
                    | {
                        "length": length,
                        "accuracy": point.accuracy[depth],
                        "error": point.error[depth],
                        "depth": depth_names(report)[depth],
                    }
                )
    return _finite(rows, "accuracy")


def extended(report: Report) -> tuple[LanguageRun, ...]:
    """The language runs whose trained model was also tried with extensions, or with ways to fill its table."""
    return tuple(run for run in report.language if run.of_kind("extension") or run.of_kind("fill"))


def variants(runs, kinds: tuple[str, ...]) -> list[tuple[Any, ReportedVariant]]:
    """Every variant of the given kinds, beside its run."""
    return [(run, variant) for run in runs for variant in run.variants if variant.kind in kinds]


def _marked(run: ReportedRun, variant: ReportedVariant) -> dict[str, Any]:
    return {
        "method": run.label,
        "variant": variant.name,
        "name": marks.name(run, variant),
        "short": marks.short(run, variant),
    }


def _bins(found: ScoresByDistance, which: str) -> list[tuple[float, float, float]]:
    values = getattr(found, which)
    pairs = sorted((d, s) for d, s in zip(found.distances, values, strict=False) if d > 0 and math.isfinite(s))
    if not pairs:
        return []
    distances = [distance for distance, _ in pairs]
    if len(pairs) <= DISTANCES:
        edges = [*distances, distances[-1] ** 2 / distances[-2] if len(distances) > 1 else 2 * distances[0]]
    else:
        span = math.log((distances[-1] + 1) / distances[0])
        edges = [distances[0] * math.exp(span * k / DISTANCES) for k in range(DISTANCES + 1)]
    cuts = [bisect.bisect_left(distances, edge) for edge in edges]
    # A narrow bin between two whole distances holds none; its neighbour on the left then reaches over it.
    starts = [k for k in range(len(edges) - 1) if cuts[k] < cuts[k + 1]]
    ends = [*starts[1:], len(edges) - 1]
    return [
        (edges[k], edges[end], sum(s for _, s in pairs[cuts[k] : cuts[end]]) / (cuts[end] - cuts[k]))
        for k, end in zip(starts, ends, strict=True)
    ]


def _finite(rows: Rows, field: str) -> Rows:
    """Drops what has no place on an axis; other numbers that are not finite become null, as JSON asks."""
    return [{name: _rounded(value) for name, value in row.items()} for row in rows if math.isfinite(row[field])]


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None
