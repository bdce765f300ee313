"""The report in the terminal: the headline table, the mean over the window, needles, and the verdict in words."""

from __future__ import annotations

import dataclasses

import rich.box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from posjax.report import measured_tables, rows, words
from posjax.report.cells import BROKEN, Cell
from posjax.report.values import Report
from posjax.report.words import copy_told

COLUMNS, LINES = 4, 8
"""Of a table whose numbers may have any length, in 80 columns; and the rows shown of one."""
RED, YELLOW = 0.33, 0.05
"""Heat from which a number is coloured: perplexity twice that within the trained length, and a tenth above it."""


def show(report: Report, console: Console) -> None:
    """Prints a report; it reads well in 80 columns and without a terminal, where there are no colours."""
    # Text, never plain strings: rich would take brackets in a title for markup.
    console.print(Text(report.experiment.title or report.experiment.name, style="bold"))
    if report.experiment.question:
        console.print(Text(report.experiment.question))
    if report.unfinished:
        names = ", ".join(report.unfinished)
        console.print(Text(f"Unfinished, not in this report: {names}", style="yellow"))
    for name, reason in report.diverged:
        console.print(Text(f"Diverged: {name}, {reason}", style="red"))
    for folder, name in report.copies:
        console.print(Text(copy_told(folder, name), style="yellow"))
    for table in tables(report):
        console.print()
        console.print(dressed(table))
        for note in table.notes:
            console.print(Text(note, style="dim"))
    _show_measured(report, console)
    console.print()
    for conclusion in words.conclusions(report):
        console.print(Text.assemble((f"{conclusion.topic}. ", "bold"), conclusion.text))
    console.print()
    for caveat in words.caveats(report):
        console.print(Padding(Text(caveat, style="dim"), (0, 0, 0, 2)))


def _show_measured(report: Report, console: Console) -> None:
    """Tables of evaluations that have none of their own: a few lines of each, all of them are on the page."""
    for table in measured_tables.tables(report, COLUMNS):
        console.print()
        # A title of the table's own would be wrapped to the table's width, which may be that of one number.
        console.print(Text(table.title, style="bold"))
        console.print(dressed(dataclasses.replace(table, title="", rows=table.rows[:LINES])))
        for note in table.notes:
            console.print(Text(note, style="dim"))
        more = measured_tables.numbers_in(table.rows[LINES:])
        if more:
            console.print(Text(f"{more} more rows: see the page", style="dim"))


def tables(report: Report) -> list[rows.ReportTable]:
    """The tables this folder has numbers for, most important first."""
    found = []
    if report.language:
        found += [rows.headline(report), rows.means(report), rows.beyond(report)]
    if any(run.tokenised for run in report.language):
        found.append(rows.per_token(report))
    if report.retrieval:
        found.append(rows.recall(report))
    return found


def dressed(table: rows.ReportTable) -> Table:
    """A rich table: methods in bold, their windowed controls dimmed beneath them, intervals under the ratios."""
    dress = Table(
        title=table.title,
        title_style="bold",
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    beneath = ""
    if table.beneath:
        beneath = f"\n{table.beneath}"
    # Names are folded rather than cut, numbers are neither.
    method, *others = table.columns
    dress.add_column(method, justify="left", overflow="fold")
    for column in others:
        dress.add_column(column + beneath, justify="right", no_wrap=True, overflow="fold")
    for row in table.rows:
        style = ""
        if row.kind == "windowed":
            style = "dim"
        if row.kind == measured_tables.FACET:
            style = "italic"
        dress.add_row(_name(row), *(_cell(cell) for cell in row.cells), style=style)
    return dress


def _name(row: rows.ReportRow) -> Text:
    if row.kind == "raw":
        return Text(row.name, style="bold")
    if row.kind == measured_tables.FACET:
        return Text(row.name)
    # Set in, since it belongs to the method above.
    return Text(f"  {row.name}")


def _cell(cell: Cell) -> Text:
    content = cell.text
    if cell.broken:
        content += BROKEN
    text = Text(content, style=_colour(cell.heat))
    if cell.detail:
        # Beneath the number and not beside it: with intervals in line, six columns would not fit 80 characters.
        text.append(f"\n{cell.detail}", style="dim")
    return text


def _colour(heat: float) -> str:
    if heat > RED:
        return "red"
    if heat > YELLOW:
        return "yellow"
    return ""
