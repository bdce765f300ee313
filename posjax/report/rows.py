"""The tables of a report as plain values, which the terminal and the page then dress."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from posjax.report import marks
from posjax.report.load import LanguageRun, Point, Report, ReportedRun, ReportedVariant

BROKEN = "†"


@dataclasses.dataclass(frozen=True)
class Cell:
    """`heat` shades the cell: 0 is as good as within the trained length, 1 is eight times worse or more."""

    text: str
    detail: str = ""
    broken: bool = False
    heat: float = 0.0


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """`kind` is the variant's: raw rows carry a method's name, the others stand beneath it."""

    name: str
    kind: str
    label: str
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class ReportTable:
    """`beneath` stands in small letters beneath the name of every column but the first."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[ReportRow, ...]
    notes: tuple[str, ...]
    beneath: str = ""


Show = Callable[[LanguageRun, Point], Cell]


def is_broken(run: LanguageRun, point: Point) -> bool:
    """Worse than a model that knows byte frequencies alone, so that the exact value is noise."""
    return not point.loss <= run.yardsticks.get("unigram", math.inf)


def headline(report: Report) -> ReportTable:
    """The paired ratio on each window's last L/2 bytes, exp(loss at k L - loss at L), with its 95 % interval."""
    lengths = _lengths(report.language)
    rows = []
    for run, variant in _each(report.language):
        cells = (_cell(run, variant, k, _loss if k == 1 else _ratio) for k in (1, *(k for k in lengths if k > 1)))
        rows.append(_row(run, variant, tuple(cells)))
    notes = (
        "1x: loss in nats per byte. Other columns: exp(loss there − loss at 1x) on the same bytes, the last "
        "L/2 of each window for the trained length L, with the 95 % interval of a bootstrap over windows.",
    )
    return ReportTable(
        "Loss past the trained length",
        ("method", "1x", *(f"{k}x" for k in lengths if k > 1)),
        tuple(rows),
        (*notes, *yardsticks(report), *_broken_note(rows)),
    )


def means(report: Report) -> ReportTable:
    """The mean loss over all positions of the window, which flatters long windows: they hold fewer early bytes."""
    table = _by_length(
        report,
        "Mean loss over the whole window",
        lambda run, point: Cell(
            marks.number(point.mean),
            broken=not point.mean <= run.yardsticks.get("unigram", math.inf),
            heat=_heat(point.mean - _start(run, "mean")),
        ),
    )
    return dataclasses.replace(
        table,
        notes=(
            "Nats per byte over all positions, the early ones with little context included: longer windows have "
            "relatively fewer of them, so this can improve while the last bytes do not.",
            *_broken_note(table.rows),
        ),
    )


def beyond(report: Report) -> ReportTable:
    """The share of attention that falls on positions farther away than the trained length."""
    table = _by_length(
        report, "Attention beyond the trained length", lambda run, point: Cell(marks.percent(point.beyond))
    )
    kept = tuple(row for row in table.rows if row.kind != "windowed")
    return dataclasses.replace(
        table, rows=kept, notes=("Percent of the attention mass; zero for windowed controls by construction.",)
    )


def recall(report: Report) -> ReportTable:
    """Retrieval accuracy in percent by length, at every depth from the farthest needle to the nearest."""
    lengths = _lengths(report.retrieval)
    rows = tuple(
        _row(run, variant, tuple(_recall_cell(variant, k) for k in lengths)) for run, variant in _each(report.retrieval)
    )
    chance = " or ".join(sorted({f"{100 * run.chance:.3g} %" for run in report.retrieval}))
    errors = [
        error
        for run in report.retrieval
        for variant in run.variants
        for value in variant.lengths.values()
        for error in value.error
        if not math.isnan(error)
    ]
    worst = f"; standard errors up to {100 * max(errors):.1f}" if errors else ""
    return ReportTable(
        "Needles found, in percent",
        ("method", *(f"{k}x" for k in lengths)),
        rows,
        (f"Chance is {chance}{worst}. Far needles stand at the start of the text, the query at its end.",),
        beneath=" ".join(depth_names(report)),
    )


def depth_names(report: Report) -> tuple[str, ...]:
    """ "far", "mid" and "near" for three depths, otherwise the depths as percentages of the text."""
    depths = report.retrieval[0].depths if report.retrieval else ()
    if len(depths) == 3:
        return ("far", "mid", "near")
    return tuple(f"{100 * depth:.0f} %" for depth in depths)


def yardsticks(report: Report) -> tuple[str, ...]:
    """What knowing single bytes, or pairs of bytes, is worth on the same text."""
    found = {(name, loss): None for run in report.language for name, loss in run.yardsticks.items()}
    if not found:
        return ()
    listed = ", ".join(f"{name} {marks.number(loss)}" for name, loss in found)
    return (f"Yardsticks on the same text, in nats per byte: {listed}.",)


def _broken_note(rows: list[ReportRow] | tuple[ReportRow, ...]) -> tuple[str, ...]:
    if not any(cell.broken for row in rows for cell in row.cells):
        return ()
    return (f"{BROKEN} Broken: worse than the unigram yardstick, so the exact value is noise.",)


def _by_length(report: Report, title: str, show: Show) -> ReportTable:
    lengths = _lengths(report.language)
    rows = tuple(
        _row(run, variant, tuple(_cell(run, variant, k, show) for k in lengths))
        for run, variant in _each(report.language)
    )
    return ReportTable(title, ("method", *(f"{k}x" for k in lengths)), rows, ())


def _cell(run: LanguageRun, variant: ReportedVariant[Point], length: int, show: Show) -> Cell:
    point = variant.at(length)
    if point is None:
        return Cell("ended" if variant.ends_before(length) else "–")
    return show(run, point)


def _loss(run: LanguageRun, point: Point) -> Cell:
    return Cell(marks.number(point.loss), broken=is_broken(run, point))


def _ratio(run: LanguageRun, point: Point) -> Cell:
    low, high = marks.number(point.low), marks.number(point.high)
    heat = 1.0 if math.isnan(point.ratio) else _heat(math.log(max(point.ratio, 1e-9)))
    return Cell(
        marks.number(point.ratio),
        "" if math.isnan(point.low) else low if low == high else f"{low}–{high}",
        is_broken(run, point),
        heat,
    )


def _recall_cell(variant: ReportedVariant, length: int) -> Cell:
    point = variant.at(length)
    if point is None:
        return Cell("ended" if variant.ends_before(length) else "–")
    return Cell(" ".join(marks.percent(accuracy).rjust(3) for accuracy in point.accuracy))


def _heat(nats: float) -> float:
    return 1.0 if math.isnan(nats) else min(1.0, max(0.0, nats / math.log(8)))


def _start(run: LanguageRun, field: str) -> float:
    point = run.raw.at(min(run.lengths))
    return getattr(point, field) if point else math.nan


def _row(run: ReportedRun, variant: ReportedVariant, cells: tuple[Cell, ...]) -> ReportRow:
    return ReportRow(marks.short(run, variant), variant.kind, run.label, cells)


def _each(runs):
    return ((run, variant) for run in runs for variant in run.variants)


def _lengths(runs: tuple[ReportedRun, ...]) -> tuple[int, ...]:
    return tuple(sorted({length for run in runs for length in run.lengths}))
