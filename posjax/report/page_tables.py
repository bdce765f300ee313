"""The tables of the page, in HTML that needs no script."""

from __future__ import annotations

from posjax.report import marks, measured_tables, rows
from posjax.report.cells import BROKEN, Cell
from posjax.report.markup import aligned, text
from posjax.report.sheets import sheets
from posjax.report.values import Report

COLUMNS, UNFOLDED = 10, 24
"""Of a table whose numbers may have any length; and the rows up to which it is shown unfolded."""
FAINTEST = 0.02
"""Heat below is not shaded: the eye would not tell it from none."""


def all_tables(report: Report) -> str:
    """What the folder has numbers for; what most readers skip is folded away."""
    parts = []
    if report.language:
        parts.append(_section("Loss past the trained length", rows.headline(report), report))
    if report.retrieval:
        parts.append(_section("Needles found", rows.recall(report), report))
    if report.language:
        parts.append(_more(report))
    parts += _measured(report)
    return "\n".join(parts)


def _measured(report: Report) -> list[str]:
    """A section for each evaluation that has no tables of its own; long tables are folded away."""
    by_evaluation: dict[str, list[str]] = {}
    for sheet in sheets(report):
        found = measured_tables.table(report, sheet, COLUMNS)
        titled = f"<h3>{text(sheet.title.capitalize())}</h3>{table(found, marks.colours(report))}"
        if len(found.rows) > UNFOLDED:
            summary = f"{text(sheet.title.capitalize())}, {len(found.rows)} rows"
            titled = f"<details><summary>{summary}</summary>{table(found, marks.colours(report))}</details>"
        by_evaluation.setdefault(sheet.evaluation, []).append(titled)
    # A name of a user's, such as "mean_reach": as words, and escaped as all text of a folder.
    return [
        f'<section class="measured"><h2>{text(name.replace("_", " ").capitalize())}</h2>{"".join(titled)}</section>'
        for name, titled in by_evaluation.items()
    ]


def _section(title: str, found: rows.ReportTable, report: Report) -> str:
    # The title is one of ours and holds no markup.
    return f"<section><h2>{title}</h2>{table(found, marks.colours(report))}</section>"


def _more(report: Report) -> str:
    colours = marks.colours(report)
    tables = [rows.means(report), rows.beyond(report)]
    listed = "mean loss over the window, attention beyond the trained length"
    if any(run.tokenised for run in report.language):
        tables.append(rows.per_token(report))
        listed += ", loss in nats per token"
    folded = ""
    for found in tables:
        folded += f"<h3>{text(found.title)}</h3>{table(found, colours)}"
    return f"<section><details><summary>More tables: {listed}</summary>{folded}</details></section>"


def table(found: rows.ReportTable, colours: dict[str, int]) -> str:
    """One table, in a box of its own that scrolls sideways on a narrow screen."""
    body = "".join(_row(row, colours) for row in found.rows)
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in found.notes)
    # A box that scrolls must be reached by keyboard, and named for those who do not see what it holds.
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="{text(found.title)}">'
    return f"{box}<table><thead><tr>{_head(found)}</tr></thead><tbody>{body}</tbody></table></div>{notes}"


def _head(found: rows.ReportTable) -> str:
    beneath = ""
    if found.beneath:
        beneath = f"<small>{aligned(found.beneath)}</small>"
    # The first column holds names, which have no depths beneath them.
    method, *others = found.columns
    head = f'<th scope="col">{text(method)}</th>'
    for column in others:
        head += f'<th scope="col">{text(column)}{beneath}</th>'
    return head


def _row(row: rows.ReportRow, colours: dict[str, int]) -> str:
    if row.kind == measured_tables.FACET:
        # Over all columns, however many there are: a browser stops at the last.
        return f'<tr class="facet"><th scope="colgroup" colspan="99">{text(row.name)}</th></tr>'
    swatch = ""
    # Once for each method: its variants beneath have the same colour.
    if row.kind == "raw" and row.label in colours:
        swatch = f'<span class="swatch" style="--colour: var(--method-{colours[row.label]})"></span>'
    head = f'<th scope="row">{swatch}{text(row.name)}</th>'
    cells = "".join(_cell(cell) for cell in row.cells)
    return f'<tr class="{text(row.kind)}">{head}{cells}</tr>'


def _cell(cell: Cell) -> str:
    content = aligned(cell.text)
    if cell.broken:
        content += f'<abbr title="worse than byte frequencies alone">{BROKEN}</abbr>'
    if cell.detail:
        content += f"<small>{aligned(cell.detail)}</small>"
    shade = ""
    if cell.heat > FAINTEST:
        shade = f' class="heat" style="--heat: {cell.heat:.2f}"'
    return f"<td{shade}>{content}</td>"
