"""The tables of a report as plain values, which the terminal and the page then dress."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from posjax.report import cells, marks
from posjax.report.cells import BROKEN, Cell, Show
from posjax.report.values import LanguageRun, Report, ReportedRun, ReportedVariant
from posjax.report.verdicts import listed, span


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


def headline(report: Report) -> ReportTable:
    """The paired ratio on each window's last L/2 bytes, exp(loss at k L - loss at L), with its 95 % interval."""
    # The first column is the loss itself: a ratio to it would be 1 in every row.
    past = [length for length in _lengths(report.language) if length > 1]
    rows = []
    for run, variant in _each(report.language):
        ratios = [cells.shown(run, variant, length, cells.ratio) for length in past]
        rows.append(_row(run, variant, [cells.shown(run, variant, 1, cells.loss), *ratios]))
    note = (
        "1x: loss in nats per byte. Other columns: exp(loss there − loss at 1x) on the same bytes, the last "
        f"L/2 of each window for the trained length L, with the 95 % interval {_interval(report.language)}."
    )
    return ReportTable(
        "Loss past the trained length",
        _columns([1, *past]),
        tuple(rows),
        (note, *yardsticks(report), *_broken_note(rows)),
    )


def means(report: Report) -> ReportTable:
    """The mean loss over all positions of the window, which flatters long windows: they hold fewer early bytes."""
    table = _by_length(report.language, "Mean loss over the whole window", cells.mean)
    note = (
        "Nats per byte over all positions, the early ones with little context included: longer windows have "
        "relatively fewer of them, so this can improve while the last bytes do not."
    )
    return dataclasses.replace(table, notes=(note, *_broken_note(table.rows)))


def per_token(report: Report) -> ReportTable:
    """The same losses in nats per token, for the runs that a tokenizer reads to."""
    tokenised = [run for run in report.language if run.tokenised]
    table = _by_length(tokenised, "Loss in nats per token", cells.loss_per_token)
    listed = ", ".join(f"{run.label} {marks.number(run.bytes_per_token)}" for run in tokenised)
    note = (
        "Over the last L/2 tokens of each window, and in small over the whole window. It compares with losses of the "
        f"same tokenizer alone; all else here is per byte. Bytes per token, of those last ones: {listed}."
    )
    return dataclasses.replace(table, notes=(note, *_broken_note(table.rows)))


def beyond(report: Report) -> ReportTable:
    """The share of attention that falls on positions farther away than the trained length."""
    table = _by_length(report.language, "Attention beyond the trained length", cells.beyond)
    # A row of zeros beneath each method would only repeat the note.
    kept = tuple(row for row in table.rows if row.kind != "windowed")
    note = "Percent of the attention mass; zero for windowed controls by construction."
    return dataclasses.replace(table, rows=kept, notes=(note,))


def _by_length(runs: Sequence[LanguageRun], title: str, show: Show) -> ReportTable:
    lengths = _lengths(runs)
    rows = []
    for run, variant in _each(runs):
        rows.append(_row(run, variant, [cells.shown(run, variant, length, show) for length in lengths]))
    return ReportTable(title, _columns(lengths), tuple(rows), ())


def recall(report: Report) -> ReportTable:
    """Retrieval accuracy in percent by length, at every depth from the farthest needle to the nearest."""
    lengths = _lengths(report.retrieval)
    rows = []
    for run, variant in _each(report.retrieval):
        # Every variant has a row, also those that end early: their cells say so.
        rows.append(_row(run, variant, [cells.recall(variant, length) for length in lengths]))
    seeds = ""
    if any(run.members for run in report.retrieval):
        seeds = " ± is half of Student's 95 % interval over seeds."
    # Tasks may differ in how many answers there are to guess from.
    chances = {f"{100 * run.chance:.3g} %" for run in report.retrieval}
    chance = " or ".join(sorted(chances))
    note = (
        f"Chance is {chance}{_worst_error(report)}. Far needles stand at the start of the text, the query at its end."
        f"{seeds}"
    )
    depths = " ".join(depth_names(report))
    return ReportTable("Needles found, in percent", _columns(lengths), tuple(rows), (note,), beneath=depths)


def _interval(runs: Sequence[ReportedRun]) -> str:
    """What the intervals of a table are of."""
    counts = {len(run.each) for run in runs}
    if counts == {1}:
        return "of a bootstrap over windows"
    if 1 not in counts:
        return f"of a mean over {span(counts)} seeds, by Student's t"
    several = listed([f"{run.label} ({len(run.members)})" for run in runs if run.members])
    return f"of a mean over seeds, by Student's t, for {several}, and of a bootstrap over windows for all others"


def _worst_error(report: Report) -> str:
    """The largest standard error of the table, in words: one for each number would drown the numbers."""
    errors: list[float] = []
    # A mean over seeds has its interval beneath it.
    for _, variant in _each([run for run in report.retrieval if not run.members]):
        for value in variant.lengths.values():
            errors += [error for error in value.error if not math.isnan(error)]
    if not errors:
        return ""
    return f"; standard errors up to {100 * max(errors):.1f}"


def depth_names(report: Report) -> tuple[str, ...]:
    """ "far", "mid" and "near" for three depths, otherwise the depths as percentages of the text."""
    if not report.retrieval:
        return ()
    depths = report.retrieval[0].depths
    if len(depths) == 3:
        return ("far", "mid", "near")
    return tuple(f"{100 * depth:.0f} %" for depth in depths)


def yardsticks(report: Report) -> tuple[str, ...]:
    """What knowing single bytes, or pairs of bytes, is worth on the same text."""
    # Runs on the same text have the same yardsticks, which are then said once.
    found = {(name, loss): None for run in report.language for name, loss in run.yardsticks.items()}
    if not found:
        return ()
    listed = ", ".join(f"{name} {marks.number(loss)}" for name, loss in found)
    return (f"Yardsticks on the same text, in nats per byte: {listed}.",)


def _broken_note(rows: Sequence[ReportRow]) -> tuple[str, ...]:
    if not any(cell.broken for row in rows for cell in row.cells):
        return ()
    return (f"{BROKEN} Broken: worse than the unigram yardstick, so the exact value is noise.",)


def _columns(lengths: Sequence[int]) -> tuple[str, ...]:
    return ("method", *(f"{length}x" for length in lengths))


def _row(run: ReportedRun, variant: ReportedVariant, found: Sequence[Cell]) -> ReportRow:
    # Its run's row stands above, so a variant needs no more than its own name.
    return ReportRow(marks.short(run, variant), variant.kind, run.label, tuple(found))


def _each(runs: Sequence[Any]) -> Iterator[tuple[Any, ReportedVariant]]:
    for run in runs:
        for variant in run.variants:
            yield run, variant


def _lengths(runs: Sequence[ReportedRun]) -> list[int]:
    """Every length that some run was evaluated at: the columns that all rows share."""
    return sorted({length for run in runs for length in run.lengths})
