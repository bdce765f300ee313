"""report.html: one page that holds all it needs, works offline, and asks the network for nothing."""

from __future__ import annotations

import base64
import importlib.resources
import json
import string
from collections.abc import Sequence
from pathlib import Path

import vl_convert

from posjax.files import write_whole
from posjax.report import charts, details, figures, marks, page_tables, words
from posjax.report.chart_values import Chart, Section
from posjax.report.markup import definitions, paragraphs, text
from posjax.report.values import Report


def write(report: Report, path: str | Path) -> Path:
    """Writes the page to `path`, whole or not at all, and returns it. Errors: `InputError` where it may not write.

    The tables and the words are plain HTML; the charts are Vega-Lite specifications drawn by Vega's scripts, which
    are in the page too. A content policy in the page forbids every request.
    """
    return write_whole(Path(path), rendered(report).encode())


def rendered(report: Report) -> str:
    """The page's HTML; every text that comes from the work folder is escaped."""
    sections = charts.sections(report)
    conclusions = [(conclusion.topic, conclusion.text) for conclusion in words.conclusions(report)]
    # What a reader asks, in order: what was asked, what came out, how far to trust it, the numbers, how to redo it.
    return _template("page.html").substitute(
        title=text(report.experiment.title or report.experiment.name),
        kicker=text(_kicker(report)),
        question=text(report.experiment.question),
        facts=details.facts(report),
        unfinished=_unfinished(report),
        answer=_heading(conclusions),
        findings=definitions("findings", conclusions),
        caveats=paragraphs(words.caveats(report)),
        tables=page_tables.all_tables(report),
        fallback=_fallback(report),
        legend=_legend(report),
        charts=_places_of_charts(sections),
        reproduce=details.reproduce(report),
        footer=text(_footer(report)),
        style=_style(),
        specs=_specifications(sections),
        # A script ends at the first "</script", wherever it stands.
        bundle=bundle().replace("</script", "<\\/script"),
        script=_resource("page.js"),
    )


def _heading(conclusions: Sequence[object]) -> str:
    # Of what nobody knows there are numbers and no verdicts.
    if conclusions:
        return "The answer"
    return "Before the numbers"


def bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script without imports, of the version the charts are written in."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=charts.vega_lite_version())


def _specifications(sections: tuple[Section, ...]) -> str:
    specs = [chart.spec for section in sections for chart in section.charts]
    # JSON has no NaN: a browser would refuse the whole list, so Python refuses it first.
    listed = json.dumps(specs, allow_nan=False, separators=(",", ":"))
    # "</script" would end the script, and "<!--" confuses it: neither may occur.
    return listed.replace("<", "\\u003c")


def _legend(report: Report) -> str:
    """A button for each method, which all charts obey at once, and what each style of line stands for."""
    buttons = "".join(_button(label, index) for label, index in marks.colours(report).items())
    dashes = marks.dashes(report)
    lines = "".join(_line_style(dashes[name], style) for name, style in marks.styles(report).items())
    return (
        f'<div class="legend" role="group" aria-label="Highlight a method in every chart">{buttons}</div>'
        f'<div class="styles">{lines}</div>'
    )


def _button(label: str, index: int) -> str:
    return (
        f'<button type="button" aria-pressed="false" data-method="{text(label)}" '
        f'style="--colour: var(--method-{index})"><span class="swatch"></span>{text(label)}</button>'
    )


def _line_style(dash: tuple[float, ...], style: str) -> str:
    lengths = " ".join(str(length) for length in dash)
    # The words beside it say what the line shows, so it is hidden from those who are read to.
    return (
        f'<span><svg viewBox="0 0 36 8" aria-hidden="true"><line x1="0" x2="36" y1="4" y2="4" '
        f'stroke-dasharray="{lengths}"/></svg>{text(style)}</span>'
    )


def _places_of_charts(sections: tuple[Section, ...]) -> str:
    parts = []
    # Places are counted through all sections, as the specifications are listed.
    index = 0
    for section in sections:
        size = _size_of_narrow(section)
        written = ""
        for chart in section.charts:
            written += _place_of_chart(chart, index, size)
            index += 1
        parts.append(f'<div><h2>{text(section.title)}</h2><div class="grid">{written}</div></div>')
    return "\n".join(parts)


def _size_of_narrow(section: Section) -> str:
    """How wide narrow charts are: three to a line where that comes out even, else two."""
    narrow = sum(not chart.wide for chart in section.charts)
    if narrow % 3 == 0:
        return "third"
    return "half"


def _place_of_chart(chart: Chart, index: int, narrow: str) -> str:
    size = ""
    if not chart.wide:
        size = f' class="{narrow}"'
    return (
        f"<figure{size}><h3>{text(chart.title)}</h3>"
        f'<p class="caption">{text(chart.caption)}</p>'
        f'<div class="chart" id="chart-{index}" role="img" aria-label="{text(chart.title)}"></div>'
        "</figure>"
    )


def _fallback(report: Report) -> str:
    """The first figure as a picture in the page, for readers without scripts."""
    first = next(iter(figures.FIGURES))
    # Half as fine as the figures for papers, since its bytes are in the page.
    drawn = figures.draw(report, first, dpi=90)
    if drawn is None:
        return ""
    encoded = base64.b64encode(drawn).decode()
    return f'<img alt="Loss by context length" src="data:image/png;base64,{encoded}">'


def _kicker(report: Report) -> str:
    """The line above the title; of the time, the day is enough."""
    day = report.experiment.created[:10]
    return " · ".join(part for part in ("posjax", report.experiment.name, day) if part)


def _footer(report: Report) -> str:
    written_by = f"Written by posjax {_version(report)}".strip()
    return f"{written_by} from the files in this folder; the page loads nothing."


def _version(report: Report) -> str:
    """The version that ran the first run which tells; another may be writing the report."""
    for run in report.each:
        versions = run.manifest.get("versions") or {}
        if "posjax" in versions:
            return str(versions["posjax"])
    return ""


def _unfinished(report: Report) -> str:
    lines = [f"Diverged: {name}, {reason}." for name, reason in report.diverged]
    if report.unfinished:
        lines.append(f"Unfinished, so not in this report: {', '.join(report.unfinished)}.")
    lines += [words.copy_told(folder, name) for folder, name in report.copies]
    return "".join(f'<p class="notice">{text(line)}</p>' for line in lines)


def _style() -> str:
    """The page's style, with the colours of the methods for a light and for a dark page."""
    return _template("page.css").substitute(light=_hues(marks.LIGHT), dark=_hues(marks.DARK))


def _hues(palette: tuple[str, ...]) -> str:
    return " ".join(f"--method-{index}: {hue};" for index, hue in enumerate(palette))


def _template(name: str) -> string.Template:
    # Dollar signs mark the places: braces, which str.format takes, are what style and script are full of.
    return string.Template(_resource(name))


def _resource(name: str) -> str:
    # From wherever the package is installed, which need not be a folder.
    return importlib.resources.files("posjax.report").joinpath(name).read_text(encoding="utf-8")
