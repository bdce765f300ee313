"""report.html: one page that holds all it needs, works offline, and asks the network for nothing."""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import string
from collections.abc import Iterable
from pathlib import Path

import vl_convert

from posjax.files import write_whole
from posjax.report import charts, details, figures, marks, rows, words
from posjax.report.load import Report


def write(report: Report, path: str | Path) -> Path:
    """Writes the page to `path`, whole or not at all, and returns it; raises InputError where it may not write.

    The tables and the words are plain HTML; the charts are Vega-Lite specifications drawn by Vega's scripts, which
    are in the page too. A content policy in the page forbids every request.
    """
    return write_whole(Path(path), rendered(report).encode())


def rendered(report: Report) -> str:
    """The page's HTML; every text that comes from the work folder is escaped."""
    sections = charts.sections(report)
    specs = json.dumps(
        [chart.spec for section in sections for chart in section.charts], allow_nan=False, separators=(",", ":")
    )
    return _template("page.html").substitute(
        title=_text(report.experiment.title or report.experiment.name),
        kicker=_text(_kicker(report)),
        question=_text(report.experiment.question),
        facts=details.facts(report),
        unfinished=_unfinished(report),
        findings=_findings(report),
        caveats=_paragraphs(words.caveats(report)),
        tables=_tables(report),
        fallback=_fallback(report),
        legend=_legend(report),
        charts=_sections(sections),
        reproduce=details.reproduce(report),
        footer=_text(_footer(report)),
        style=_style(),
        # A script ends at the first "</script", wherever it stands, and "<!--" confuses it: neither may occur.
        specs=specs.replace("<", "\\u003c"),
        bundle=bundle().replace("</script", "<\\/script"),
        script=_resource("page.js"),
    )


def bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script without imports, of the version the charts are written in."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=charts.vega_lite_version())


def table(found: rows.ReportTable, colours: dict[str, int] | None = None) -> str:
    """One table, in a box of its own that scrolls sideways on a narrow screen."""
    beneath = f"<small>{_aligned(found.beneath)}</small>" if found.beneath else ""
    head = "".join(
        f'<th scope="col">{_text(column)}{beneath if index else ""}</th>' for index, column in enumerate(found.columns)
    )
    body = "".join(_row(row, colours or {}) for row in found.rows)
    notes = "".join(f'<p class="note">{_text(note)}</p>' for note in found.notes)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(found.title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{notes}"
    )


def _row(row: rows.ReportRow, colours: dict[str, int]) -> str:
    swatch = ""
    if row.kind == "raw" and row.label in colours:
        swatch = f'<span class="swatch" style="--colour: var(--method-{colours[row.label]})"></span>'
    return (
        f'<tr class="{_text(row.kind)}"><th scope="row">{swatch}{_text(row.name)}</th>'
        f"{''.join(map(_cell, row.cells))}</tr>"
    )


def _cell(cell: rows.Cell) -> str:
    detail = f"<small>{_text(cell.detail)}</small>" if cell.detail else ""
    broken = f'<abbr title="worse than byte frequencies alone">{rows.BROKEN}</abbr>' if cell.broken else ""
    shade = f' class="heat" style="--heat: {cell.heat:.2f}"' if cell.heat > 0.02 else ""
    return f"<td{shade}>{_aligned(cell.text)}{broken}{detail}</td>"


def _tables(report: Report) -> str:
    colours = marks.colours(report)
    parts = []
    if report.language:
        parts.append(f"<section><h2>Loss past the trained length</h2>{table(rows.headline(report), colours)}</section>")
    if report.retrieval:
        parts.append(f"<section><h2>Needles found</h2>{table(rows.recall(report), colours)}</section>")
    if report.language:
        parts.append(
            "<section><details><summary>More tables: mean loss over the window, attention beyond the trained "
            "length</summary>"
            + "".join(
                f"<h3>{_text(found.title)}</h3>{table(found, colours)}"
                for found in (rows.means(report), rows.beyond(report))
            )
            + "</details></section>"
        )
    return "\n".join(parts)


def _findings(report: Report) -> str:
    entries = "".join(
        f"<div><dt>{_text(finding.topic)}</dt><dd>{_text(finding.text)}</dd></div>"
        for finding in words.conclusions(report)
    )
    return f'<dl class="findings">{entries}</dl>'


def _legend(report: Report) -> str:
    buttons = "".join(
        f'<button type="button" aria-pressed="false" data-method="{_text(label)}" '
        f'style="--colour: var(--method-{index})"><span class="swatch"></span>{_text(label)}</button>'
        for label, index in marks.colours(report).items()
    )
    lines = "".join(
        f'<span><svg viewBox="0 0 36 8" aria-hidden="true"><line x1="0" x2="36" y1="4" y2="4" '
        f'stroke-dasharray="{" ".join(map(str, marks.dashes(report)[name]))}"/></svg>{_text(style)}</span>'
        for name, style in marks.styles(report).items()
    )
    return (
        f'<div class="legend" role="group" aria-label="Highlight a method in every chart">{buttons}</div>'
        f'<div class="styles">{lines}</div>'
    )


def _sections(sections: tuple[charts.Section, ...]) -> str:
    parts, index = [], 0
    for section in sections:
        narrow = sum(not chart.wide for chart in section.charts)
        figures_ = []
        for chart in section.charts:
            size = "" if chart.wide else ' class="third"' if narrow % 3 == 0 else ' class="half"'
            figures_.append(
                f"<figure{size}><h3>{_text(chart.title)}</h3>"
                f'<p class="caption">{_text(chart.caption)}</p>'
                f'<div class="chart" id="chart-{index}" role="img" aria-label="{_text(chart.title)}"></div>'
                "</figure>"
            )
            index += 1
        parts.append(f'<div><h2>{_text(section.title)}</h2><div class="grid">{"".join(figures_)}</div></div>')
    return "\n".join(parts)


def _fallback(report: Report) -> str:
    drawn = figures.draw(report, next(iter(figures.FIGURES)), dpi=90)
    if drawn is None:
        return ""
    return f'<img alt="Loss by context length" src="data:image/png;base64,{base64.b64encode(drawn).decode()}">'


def _kicker(report: Report) -> str:
    return " · ".join(filter(None, ("posjax", report.experiment.name, report.experiment.created[:10])))


def _footer(report: Report) -> str:
    version = next(
        (
            str(run.manifest["versions"]["posjax"])
            for run in report.runs
            if "posjax" in run.manifest.get("versions", {})
        ),
        "",
    )
    return f"Written by posjax {version}".strip() + " from the files in this folder; the page loads nothing."


def _unfinished(report: Report) -> str:
    lines = [f"Diverged: {name}, {reason}." for name, reason in report.diverged]
    if report.unfinished:
        lines.append(f"Unfinished, so not in this report: {', '.join(report.unfinished)}.")
    return "".join(f'<p class="notice">{_text(line)}</p>' for line in lines)


def _paragraphs(sentences: Iterable[str]) -> str:
    return "".join(f"<p>{_text(sentence)}</p>" for sentence in sentences)


def _style() -> str:
    hues = {
        theme: " ".join(f"--method-{index}: {hue};" for index, hue in enumerate(palette))
        for theme, palette in (("light", marks.LIGHT), ("dark", marks.DARK))
    }
    return _template("page.css").substitute(hues)


def _template(name: str) -> string.Template:
    return string.Template(_resource(name))


def _resource(name: str) -> str:
    return importlib.resources.files("posjax.report").joinpath(name).read_text(encoding="utf-8")


def _aligned(text: str) -> str:
    """Spaces as wide as digits, which HTML does not fold into one."""
    return _text(text).replace(" ", "\u2007")


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
