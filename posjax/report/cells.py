"""The cells of a report's tables: a number, what stands beneath it, and how bad it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from posjax.report import marks
from posjax.report.values import LanguageRun, Point, ReportedVariant

BROKEN = "†"
NOTHING = "–"
WORST = math.log(8)
"""The rise of the loss, in nats, that is shaded as dark as any: perplexity eight times that within the length."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """`heat` shades the cell: 0 is as good as within the trained length, 1 is eight times worse or more."""

    text: str
    detail: str = ""
    broken: bool = False
    heat: float = 0.0


Show = Callable[[LanguageRun, Point], Cell]


def is_broken(run: LanguageRun, loss: float) -> bool:
    """Worse than a model that knows byte frequencies alone, so that the exact value is noise."""
    # Asked this way round, a loss that is no number is broken too.
    return not loss <= run.yardsticks.get("unigram", math.inf)


def learned_too_little(run: LanguageRun) -> bool:
    """Whether a model is that bad at the length it was trained at, so that no ratio to it says anything."""
    first = run.raw.at(1)
    return first is not None and is_broken(run, first.loss)


def shown(run: LanguageRun, variant: ReportedVariant[Point], length: int, show: Show) -> Cell:
    """The cell of what was measured at a length, or why nothing was."""
    point = variant.at(length)
    if point is None:
        return missing(variant, length)
    return show(run, point)


def missing(variant: ReportedVariant, length: int) -> Cell:
    """A cell without a number: the variant has no positions there, or was not evaluated."""
    if variant.ends_before(length):
        return Cell("ended")
    return Cell(NOTHING)


def loss(run: LanguageRun, point: Point) -> Cell:
    """The loss itself, in nats per byte."""
    return Cell(marks.number(point.loss), _half(point, "loss"), is_broken(run, point.loss))


def _half(point: Point, field: str) -> str:
    """What a mean over seeds is uncertain by; nothing of a single seed."""
    if field not in point.halves:
        return ""
    return f"±{marks.number(point.halves[field])}"


def loss_per_token(run: LanguageRun, point: Point) -> Cell:
    """The loss in nats per token, and beneath it the mean over the whole window."""
    return Cell(marks.number(point.loss_per_token), marks.number(point.mean_per_token), is_broken(run, point.loss))


def ratio(run: LanguageRun, point: Point) -> Cell:
    """How many times worse than within the trained length, with the interval beneath."""
    # The broken mark goes by the loss: a ratio says nothing of a model that was poor to begin with.
    broken = is_broken(run, point.loss)
    heat = 1.0
    if not math.isnan(point.ratio):
        # The ratio of a loss far below the other underflows to zero, which has no logarithm.
        heat = heat_of(math.log(max(point.ratio, 1e-9)))
    return Cell(marks.number(point.ratio), _interval(point), broken, heat)


def _interval(point: Point) -> str:
    # A single window has a ratio and no interval.
    if math.isnan(point.low):
        return ""
    low, high = marks.number(point.low), marks.number(point.high)
    # An interval narrower than what is printed would say the same number twice.
    if low == high:
        return low
    return f"{low}–{high}"


def mean(run: LanguageRun, point: Point) -> Cell:
    """The mean loss over all positions, shaded by its rise over that at the shortest length."""
    broken = is_broken(run, point.mean)
    shortest = run.raw.at(min(run.lengths))
    start = math.nan
    if shortest:
        start = shortest.mean
    return Cell(marks.number(point.mean), _half(point, "mean"), broken, heat_of(point.mean - start))


def beyond(run: LanguageRun, point: Point) -> Cell:
    """The share of attention beyond the trained length, in percent."""
    detail = ""
    if "beyond" in point.halves:
        detail = f"±{marks.percent(point.halves['beyond'])}"
    return Cell(marks.percent(point.beyond), detail)


def recall(variant: ReportedVariant, length: int) -> Cell:
    """The share of needles found at each depth, in percent."""
    point = variant.at(length)
    if point is None:
        return missing(variant, length)
    # All as wide as 100, so that depths stand beneath each other in every row.
    found = " ".join(marks.percent(accuracy).rjust(3) for accuracy in point.accuracy)
    return Cell(found, " ".join(f"±{marks.percent(half)}".rjust(3) for half in point.halves))


def heat_of(nats: float) -> float:
    """How dark a cell is for a rise of the loss; a rise that is no number is as bad as any."""
    if math.isnan(nats):
        return 1.0
    return min(1.0, max(0.0, nats / WORST))
