"""Tables of any evaluation's numbers: a row for each method and variant, columns along one coordinate."""

from __future__ import annotations

from collections.abc import Sequence

from posjax.report import marks
from posjax.report.cells import NOTHING, Cell
from posjax.report.measured_names import Names, method_of
from posjax.report.rows import ReportRow, ReportTable
from posjax.report.sheets import Place, Sheet, has_interval, in_words, place_of, sheets, thinned
from posjax.report.values import Report
from posjax.results import Coordinate, Measurement

FACET = "facet"
"""The kind of a row that has no numbers: a heading for those beneath it."""
MOST_ROWS = 200
"""Rows of a table on the page; numbers are in the export."""
ALONE = "value"
"""The column of a metric that varies along no coordinate."""


def tables(report: Report, columns: int, most_rows: int = MOST_ROWS) -> list[ReportTable]:
    """A table of each metric that has no tables of its own, with so many columns of numbers and rows at most."""
    return [table(report, sheet, columns, most_rows) for sheet in sheets(report)]


def table(report: Report, sheet: Sheet, columns: int, most_rows: int = MOST_ROWS) -> ReportTable:
    """The table of one sheet; what was left out of it is told beneath."""
    names, axis = Names.of(report), sheet.axes[:1]
    heads: list[Coordinate] = []
    for name in axis:
        heads = thinned(sheet.values(name), columns)
    rows: list[ReportRow] = []
    for place, taken in sheet.facets(without=axis).items():
        if place:
            rows.append(ReportRow(in_words(place), FACET, "", ()))
        rows += _of_facet(names, sheet, taken, heads)
    named = (ALONE,)
    if axis:
        named = tuple(_head(axis[0], head) for head in heads)
    notes = _notes(sheet, axis, heads, numbers_in(rows[most_rows:]))
    title = f"{sheet.evaluation.replace('_', ' ').capitalize()}: {sheet.title}"
    return ReportTable(title, ("method", *named), tuple(rows[:most_rows]), notes)


def _of_facet(names: Names, sheet: Sheet, taken: Sequence[Measurement], heads: Sequence[Coordinate]) -> list[ReportRow]:
    axis = sheet.axes[:1]
    cells = {(method_of(row), place_of(row, axis)): _cell(row) for row in taken}
    places: list[Place] = [()]
    if heads:
        places = [((sheet.axes[0], head),) for head in heads]
    rows, above = [], ""
    for method in names.methods(taken):
        label, variant = method
        name, kind = names.short(method), names.kind(variant)
        # Without its method's row above, a variant is called in full.
        if label != above:
            name, kind = names.full(method), "raw"
        above = label
        found = tuple(cells.get((method, place), Cell(NOTHING)) for place in places)
        rows.append(ReportRow(name, kind, sheet.methods.get(label, label), found))
    return rows


def _cell(row: Measurement) -> Cell:
    if not has_interval(row):
        return Cell(marks.digits(row.value))
    low, high = marks.digits(row.low), marks.digits(row.high)
    # A dash between two numbers would be taken for the sign of a negative one.
    between = "–"
    if row.low < 0:
        between = " to "
    if low == high:
        return Cell(marks.digits(row.value), low)
    return Cell(marks.digits(row.value), f"{low}{between}{high}")


def _head(axis: str, head: Coordinate) -> str:
    if isinstance(head, str):
        return head
    if axis == "multiple":
        return f"{head:g}x"
    return marks.digits(head)


def _notes(sheet: Sheet, axis: Sequence[str], heads: Sequence[Coordinate], left_out: int) -> tuple[str, ...]:
    notes = []
    # One axis at most.
    for name in axis:
        every = sheet.values(name)
        said = f"Columns: {name.replace('_', ' ')}."
        if len(heads) < len(every):
            said = f"Columns: {len(heads)} of {len(every)} values of {name.replace('_', ' ')}."
        notes.append(said)
    if any(has_interval(row) for row in sheet.rows):
        notes.append("In small the 95 % interval.")
    if left_out:
        notes.append(f"{left_out} more rows are left out here.")
    if not notes:
        return ()
    return (" ".join(notes),)


def numbers_in(rows: Sequence[ReportRow]) -> int:
    """How many rows have numbers."""
    return sum(row.kind != FACET for row in rows)
