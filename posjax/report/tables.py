"""The report in the terminal: the headline table, the mean over the window, needles, and the verdict in words."""

from __future__ import annotations

import rich.box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from posjax.report import rows, words
from posjax.report.load import Report


def show(report: Report, console: Console) -> None:
    """Prints a report; it reads well in 80 columns and without a terminal, where there are no colours."""
    console.print(Text(report.experiment.title or report.experiment.name, style="bold"))
    if report.experiment.question:
        console.print(Text(report.experiment.question))
    if report.unfinished:
        console.print(Text(f"Unfinished, not in this report: {', '.join(report.unfinished)}", style="yellow"))
    for name, reason in report.diverged:
        console.print(Text(f"Diverged: {name}, {reason}", style="red"))
    for table in tables(report):
        console.print()
        console.print(dressed(table))
        for note in table.notes:
            console.print(Text(note, style="dim"))
    console.print()
    for finding in words.conclusions(report):
        console.print(Text.assemble((f"{finding.topic}. ", "bold"), finding.text))
    console.print()
    for caveat in words.caveats(report):
        console.print(Padding(Text(caveat, style="dim"), (0, 0, 0, 2)))


def tables(report: Report) -> tuple[rows.ReportTable, ...]:
    """The tables that this report can fill, the headline first."""
    language = (rows.headline(report), rows.means(report), rows.beyond(report)) if report.language else ()
    return (*language, rows.recall(report)) if report.retrieval else language


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
    for index, column in enumerate(table.columns):
        # Names are folded rather than cut, numbers are neither.
        beneath = f"\n{table.beneath}" if index and table.beneath else ""
        dress.add_column(column + beneath, justify="right" if index else "left", no_wrap=bool(index), overflow="fold")
    for row in table.rows:
        name = Text(row.name, style="bold") if row.kind == "raw" else Text(f"  {row.name}")
        dress.add_row(name, *(_cell(cell) for cell in row.cells), style="dim" if row.kind == "windowed" else "")
    return dress


def _cell(cell: rows.Cell) -> Text:
    colour = "red" if cell.heat > 0.33 else "yellow" if cell.heat > 0.05 else ""
    text = Text(cell.text + (rows.BROKEN if cell.broken else ""), style=colour)
    return text.append(f"\n{cell.detail}", style="dim") if cell.detail else text
