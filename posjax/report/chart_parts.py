"""What the page's charts are put together from: frames, axes, lines in a method's colour, names at their ends.

Colours are not in them: the page's script sets them, so that a chart can change between light and dark. Each chart
has a parameter `focus`, a method's name or empty, which the page's legend sets in all charts at once.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import altair as alt

from posjax.report import marks, series
from posjax.report.values import Report

FAINT = 0.1
"""Opacity of what is not in focus."""
NAME_HEIGHT = 13
"""Pixels that a name beside a line needs."""
NAME_ROOM = 0.25
"""Room for names at the right of an axis, as a share of the width of the data."""
IN_FOCUS = "!focus || focus == datum.method"
"""Vega's condition for a mark that the legend has not put aside."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """The vertical axis of a chart whose lines carry names: its scale, its ends, and its height in pixels."""

    kind: Literal["linear", "log"]
    low: float
    high: float
    height: int


def framed(values: list[float], logarithmic: bool, height: int) -> Frame:
    """A frame around values, with a margin; logarithmic where that is asked for and possible."""
    low, high = min(values), max(values)
    if logarithmic and low > 0:
        return Frame("log", low / 1.1, high * 1.1, height)
    # A single level has no spread, and still needs an axis that is not of height zero.
    margin = 0.06 * (high - low or 1.0)
    return Frame("linear", low - margin, high + margin, height)


def scale(frame: Frame) -> alt.Scale:
    """The scale that every layer of a chart must name alike: a layer that is silent would bring in zero."""
    return alt.Scale(type=frame.kind, domain=[frame.low, frame.high], zero=False, nice=False)


def lengths_axis(rows: series.Rows, room: float = NAME_ROOM) -> alt.X:
    """The axis of context lengths, with `room` for names at the right, as a share of the width of the data."""
    lengths = sorted({row["length"] for row in rows})
    low = lengths[0]
    # A trial run may have a single length, and a logarithmic axis from it to itself has no width.
    high = max(lengths[-1], 2 * low)
    end = high * (high / low) ** room
    return alt.X(
        "length:Q",
        title="context, in multiples of the trained length",
        scale=alt.Scale(type="log", base=2, nice=False, padding=8, domain=[low, round(end, 3)]),
        axis=alt.Axis(values=lengths, labelExpr="datum.value + 'x'", grid=False),
    )


def lines(report: Report, rows: series.Rows, base: alt.Chart, points: bool = True) -> alt.LayerChart:
    """Lines in the method's colour and the variant's style; the points on them, seen or not, carry the tooltips."""
    colour = alt.Color("method:N", legend=None, scale=colours(report))
    line = base.mark_line(strokeWidth=2, strokeCap="round").encode(
        color=colour, detail="name:N", opacity=focused(1, FAINT), strokeDash=_dashes(report, rows)
    )
    size, opacity = 40, focused(1, FAINT)
    if not points:
        # Where points lie close they are unseen, and larger, so that a pointer finds them all the same.
        size, opacity = 90, focused(0, 0)
    dot = base.mark_point(size=size, filled=True).encode(color=colour, opacity=opacity)
    return layered(line, dot)


def colours(report: Report) -> alt.Scale:
    """The scale of the methods' colours, which some layer of each chart names."""
    # The domain lists every method, present or not: a colour is a place in it, and must not move between charts.
    return alt.Scale(domain=list(marks.colours(report)))


def seeds(rows: series.Rows, base: alt.Chart, x: alt.X, y: alt.Y) -> tuple[alt.Chart, ...]:
    """A small dot for each seed, to lie behind the line of their mean; no layer where no seeds were gathered."""
    if not rows:
        return ()
    dots = base.properties(data=data(rows)).mark_point(size=16, filled=True)
    colour = alt.Color("method:N", legend=None)
    return (dots.encode(x=x, y=y, color=colour, opacity=focused(0.55, FAINT)),)


def _dashes(report: Report, rows: series.Rows) -> alt.StrokeDash:
    used = {row["variant"] for row in rows}
    styles = {name: list(dash) for name, dash in marks.dashes(report).items() if name in used}
    scale_of_styles = alt.Scale(domain=list(styles), range=list(styles.values()))
    return alt.StrokeDash("variant:N", legend=None, scale=scale_of_styles)


def focused(within: float, outside: float) -> Any:
    """An opacity: one for what is in focus, one for all else."""
    return alt.when(IN_FOCUS).then(alt.value(within)).otherwise(alt.value(outside))


def names(rows: series.Rows, named: str, field: str, frame: Frame) -> alt.Chart:
    """Names at the right ends of the lines of the variant `named`, or of all, none of which covers another."""
    labels = _placed(_ends(rows, named), field, frame)
    base = alt.Chart(data(labels)).mark_text(align="left", baseline="middle", dx=8, limit=110)
    return base.encode(
        x="length:Q",
        y=alt.Y(f"{field}:Q", scale=scale(frame)),
        text="short:N",
        color=alt.Color("method:N", legend=None),
        opacity=focused(1, FAINT),
    )


def _ends(rows: series.Rows, named: str) -> series.Rows:
    """The last row of each line that reaches the right edge: a name farther left would lie among other lines."""
    edge = max(row["length"] for row in rows)
    last = {row["name"]: row for row in rows if not named or row["variant"] == named}
    return [row for row in last.values() if row["length"] == edge]


def _placed(ends: series.Rows, field: str, frame: Frame) -> series.Rows:
    """Rows of labels, moved apart on the page and not in the data: on a logarithmic axis that is another distance."""
    to_page, to_data = float, float
    if frame.kind == "log":
        to_page, to_data = math.log, math.exp
    low, high = to_page(frame.low), to_page(frame.high)
    gap = NAME_HEIGHT / frame.height * (high - low)
    places = series.spread([to_page(row[field]) for row in ends], gap, low, high)
    labels = []
    for row, place in zip(ends, places, strict=True):
        label = {key: row[key] for key in ("method", "length", "short")}
        labels.append(label | {field: to_data(place)})
    return labels


def rules(levels: dict[str, float], frame: Frame) -> alt.LayerChart:
    """A dotted line with its name for each level that other numbers are compared with."""
    rows = [{"level": level, "what": what} for what, level in levels.items()]
    base = alt.Chart(data(rows)).encode(y=alt.Y("level:Q", scale=scale(frame)))
    rule = base.mark_rule(strokeDash=[2, 4])
    name = base.mark_text(align="left", dx=4, dy=-5).encode(text="what:N", x=alt.value(0))
    return layered(rule, name)


def trained_edge(report: Report, field: str) -> alt.Chart:
    """A vertical line at the trained length of each language run, on the axis of that field."""
    trained = sorted({run.trained_length for run in report.language})
    # Runs of one folder may have been trained at several lengths.
    rows = [{field: length} for length in trained]
    return alt.Chart(data(rows)).mark_rule().encode(x=f"{field}:Q")


def layered(*layers: Any) -> alt.LayerChart:
    """Charts over each other, the first at the bottom."""
    return alt.layer(*layers)  # pyright: ignore[reportReturnType]


def data(rows: series.Rows) -> alt.Data:
    """Rows that stand in the specification itself: the page may load nothing."""
    return alt.Data(values=rows)  # pyright: ignore[reportCallIssue]


def spec(chart: alt.LayerChart, height: int) -> dict[str, Any]:
    """The specification of a chart as wide as its place on the page."""
    focus = alt.param(name="focus", value="")
    whole = chart.add_params(focus).properties(width="container", height=height).to_dict()
    # The page's script brings the configuration, and the schema's address is of no use where nothing is loaded.
    return {name: value for name, value in whole.items() if name not in ("$schema", "config")}
