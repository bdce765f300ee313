"""The page's interactive charts, as Vega-Lite specifications.

Colours are not in them: the page's script sets them, so that a chart can change between light and dark. Each chart
has a parameter `focus`, a method's name or empty, which the page's legend sets in all charts at once.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import altair as alt

from posjax.report import marks, series
from posjax.report.load import Report

FAINT = 0.1
"""Opacity of what is not in focus."""
NAME_HEIGHT = 13
"""Pixels that a name beside a line needs."""


@dataclasses.dataclass(frozen=True)
class Chart:
    """One chart: its heading, what to see in it, and its specification; `wide` ones take the page's whole width."""

    title: str
    caption: str
    spec: dict[str, Any]
    wide: bool = True


@dataclasses.dataclass(frozen=True)
class Frame:
    """The vertical axis of a chart whose lines carry names: its scale, its ends, and its height in pixels."""

    kind: Literal["linear", "log"]
    low: float
    high: float
    height: int


@dataclasses.dataclass(frozen=True)
class Section:
    """Charts that answer one question."""

    title: str
    charts: tuple[Chart, ...]


def sections(report: Report) -> tuple[Section, ...]:
    """All charts this report can fill, in the order in which the page shows them."""
    found = (
        Section("Loss by length and by position", (*_losses(report), *_positions(report))),
        Section("Where attention goes", (*_beyond(report), *_heat_maps(report))),
        Section("Needles by length", _recalls(report)),
        Section("Training", _training(report)),
    )
    return tuple(section for section in found if section.charts)


def vega_lite_version() -> str:
    """The version of Vega-Lite that these specifications are written in, such as "6.4"."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _losses(report: Report) -> list[Chart]:
    charts = []
    rows = series.by_length(report, ("raw", "windowed"))
    if rows:
        charts.append(
            Chart(
                "Loss by context length",
                "Each method as trained (solid) and its windowed control, which "
                "sees only the trained length (dotted). Last bytes of each window, the same at every "
                "length.",
                _length_chart(report, rows, "raw"),
            )
        )
    labels = {run.label for run in series.extended(report)}
    rows = [
        row for row in series.by_length(report, ("raw", "windowed", "extension", "fill")) if row["method"] in labels
    ]
    if rows:
        charts.append(
            Chart(
                "Extending a trained model",
                "The same weights, evaluated in other ways without further training.",
                _length_chart(report, rows, ""),
            )
        )
    return [dataclasses.replace(chart, wide=len(charts) == 1) for chart in charts]


def _length_chart(report: Report, rows: series.Rows, named: str) -> dict[str, Any]:
    yardsticks = {name: loss for run in report.language for name, loss in run.yardsticks.items() if math.isfinite(loss)}
    tips = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip("length:Q", title="length", format=".0f"),
        alt.Tooltip("loss:Q", title="nats per byte", format=".3f"),
        alt.Tooltip("ratio:Q", format=".3f"),
        alt.Tooltip("low:Q", title="interval from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
    ]
    frame = _frame([*(row["loss"] for row in rows), *yardsticks.values()], series.is_past_sense(rows, report), 320)
    y = alt.Y("loss:Q", title="nats per byte", scale=_scale(frame))
    lines = _lines(report, rows, alt.Chart(_data(rows)).encode(x=_lengths(rows), y=y, tooltip=tips))
    return _spec(_layer(_rules(yardsticks, frame), lines, _names(rows, named, "loss", frame)), frame.height)


def _frame(values: list[float], logarithmic: bool, height: int) -> Frame:
    low, high = min(values), max(values)
    if logarithmic and low > 0:
        return Frame("log", low / 1.1, high * 1.1, height)
    margin = 0.06 * (high - low or 1.0)
    return Frame("linear", low - margin, high + margin, height)


def _names(rows: series.Rows, named: str, field: str, frame: Frame) -> alt.Chart:
    """Names at the right ends of the lines of the variant `named`, or of all, none of which covers another."""
    last = {row["name"]: row for row in rows if not named or row["variant"] == named}
    ends = [row for row in last.values() if row["length"] == max(row["length"] for row in rows)]
    scale, unscale = (math.log, math.exp) if frame.kind == "log" else (float, float)
    low, high = scale(frame.low), scale(frame.high)
    gap = NAME_HEIGHT / frame.height * (high - low)
    places = series.spread([scale(row[field]) for row in ends], gap, low, high)
    labels = [
        {"method": row["method"], "length": row["length"], "short": row["short"], field: unscale(place)}
        for row, place in zip(ends, places, strict=True)
    ]
    return (
        alt.Chart(_data(labels))
        .mark_text(align="left", baseline="middle", dx=8, limit=110)
        .encode(
            x="length:Q",
            y=alt.Y(f"{field}:Q", scale=_scale(frame)),
            text="short:N",
            color=alt.Color("method:N", legend=None),
            opacity=alt.when("!focus || focus == datum.method").then(alt.value(1)).otherwise(alt.value(FAINT)),
        )
    )


def _positions(report: Report) -> list[Chart]:
    rows = series.by_position(report)
    if not rows:
        return []
    trained = sorted({run.trained_length for run in report.language})
    tips = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip("position:Q", format=",.0f"),
        alt.Tooltip("loss:Q", title="nats per byte", format=".3f"),
    ]
    base = alt.Chart(_data(rows)).encode(
        x=alt.X(
            "position:Q",
            title="position in the window",
            scale=alt.Scale(type="log", base=2, nice=False),
            axis=alt.Axis(format=",.0f", labelOverlap=True),
        ),
        y=alt.Y("loss:Q", title="nats per byte", scale=alt.Scale(zero=False)),
        tooltip=tips,
    )
    edge = _edge("position:Q", trained)
    return [
        Chart(
            "Loss by position",
            f"In the longest windows, {max(max(r.lengths) for r in report.language)} times "
            "the trained length; the vertical line marks the trained length.",
            _spec(_layer(edge, _lines(report, rows, base, points=False)), 320),
        )
    ]


def _beyond(report: Report) -> list[Chart]:
    rows = [row for row in series.by_length(report, ("raw", "extension", "fill")) if row["beyond"] is not None]
    if not rows:
        return []
    tips = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip("length:Q", format=".0f"),
        alt.Tooltip("beyond:Q", title="share beyond", format=".1%"),
    ]
    frame = Frame("linear", 0.0, 1.0, 280)
    base = alt.Chart(_data(rows)).encode(
        x=_lengths(rows),
        y=alt.Y("beyond:Q", title="share of attention", axis=alt.Axis(format=".0%", tickCount=5), scale=_scale(frame)),
        tooltip=tips,
    )
    return [
        Chart(
            "Attention beyond the trained length",
            "The share of attention mass on positions farther away than "
            "any seen in training. Windowed controls have none, by construction.",
            _spec(_layer(_lines(report, rows, base), _names(rows, "", "beyond", frame)), frame.height),
        )
    ]


def _heat_maps(report: Report) -> list[Chart]:
    charts = []
    for which, title in (
        ("random", "Score by distance, random q and k"),
        ("trained", "Score by distance, trained q and k"),
    ):
        rows = series.scores(report, which)
        if rows:
            charts.append(
                Chart(
                    title,
                    "Mean score less its value at distance 0. Orange lies below, blue above; the "
                    "colour scale is logarithmic away from zero.",
                    _heat_map(report, rows),
                    wide=False,
                )
            )
    return charts


def _heat_map(report: Report, rows: series.Rows) -> dict[str, Any]:
    top, linear = series.score_scale(rows)
    trained = sorted({run.trained_length for run in report.language})
    x = alt.X(
        "low:Q",
        title="distance",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(grid=False, format=",.0f", labelOverlap=True),
    )
    cells = (
        alt.Chart(_data(rows))
        .mark_rect()
        .encode(
            x=x,
            x2="high:Q",
            y=alt.Y("method:N", title=None, sort=None, axis=alt.Axis(grid=False), scale=alt.Scale(paddingInner=0.12)),
            color=alt.Color(
                "score:Q",
                title=None,
                scale=alt.Scale(
                    type="symlog", constant=linear, domain=[-top, top], range="diverging", interpolate="rgb"
                ),
                legend=alt.Legend(
                    orient="bottom",
                    gradientLength=220,
                    gradientThickness=8,
                    format=".3~r",
                    values=series.score_ticks(top),
                ),
            ),
            opacity=alt.when("!focus || focus == datum.method").then(alt.value(1)).otherwise(alt.value(0.25)),
            tooltip=[
                alt.Tooltip("method:N"),
                alt.Tooltip("low:Q", title="distance from", format=",.0f"),
                alt.Tooltip("high:Q", title="to below", format=",.0f"),
                alt.Tooltip("score:Q", format=".3f"),
            ],
        )
    )
    return _spec(_layer(cells, _edge("low:Q", trained)), max(90, 34 * len({row["method"] for row in rows})))


def _recalls(report: Report) -> tuple[Chart, ...]:
    charts = []
    for depth, title in enumerate(_depth_titles(report)):
        rows = series.recall(report, depth)
        if rows:
            tips = [
                alt.Tooltip("name:N", title="method"),
                alt.Tooltip("length:Q", format=".0f"),
                alt.Tooltip("accuracy:Q", format=".1%"),
                alt.Tooltip("error:Q", title="±", format=".1%"),
            ]
            frame = Frame("linear", 0.0, 1.0, 240)
            base = alt.Chart(_data(rows)).encode(
                x=_lengths(rows, room=0.0),
                y=alt.Y("accuracy:Q", title=None, scale=_scale(frame), axis=alt.Axis(format=".0%", tickCount=5)),
                tooltip=tips,
            )
            chance = _rules({"chance": report.retrieval[0].chance}, frame)
            charts.append(
                Chart(
                    title,
                    "Share of needles found, by context length.",
                    _spec(_layer(chance, _lines(report, rows, base)), frame.height),
                    wide=False,
                )
            )
    return tuple(charts)


def _depth_titles(report: Report) -> tuple[str, ...]:
    depths = report.retrieval[0].depths if report.retrieval else ()
    if len(depths) == 3:
        return ("Far needle", "Middle needle", "Near needle")
    return tuple(f"Needle at {100 * depth:.0f} % of the text" for depth in depths)


def _training(report: Report) -> tuple[Chart, ...]:
    charts = []
    rows = series.training(report)
    for task, title in (("text", "Training loss, text"), ("needles", "Training loss, needles")):
        chosen = [row for row in rows if row["task"] == task]
        if chosen:
            tips = [
                alt.Tooltip("name:N", title="method"),
                alt.Tooltip("step:Q", format=",.0f"),
                alt.Tooltip("loss:Q", format=".3f"),
            ]
            base = alt.Chart(_data(chosen)).encode(
                x=alt.X("step:Q", axis=alt.Axis(format="~s")),
                y=alt.Y("loss:Q", title="nats per target", scale=alt.Scale(zero=False)),
                tooltip=tips,
            )
            charts.append(
                Chart(
                    title,
                    "Mean over neighbouring steps.",
                    _spec(_layer(_lines(report, chosen, base, points=False)), 240),
                    wide=False,
                )
            )
    return tuple(charts)


def _lines(report: Report, rows: series.Rows, base: alt.Chart, points: bool = True) -> alt.LayerChart:
    """Lines in the method's colour and the variant's style; the points on them, seen or not, carry the tooltips."""
    used = {row["variant"] for row in rows}
    styles = {name: list(dash) for name, dash in marks.dashes(report).items() if name in used}
    colour = alt.Color("method:N", legend=None, scale=alt.Scale(domain=list(marks.colours(report))))
    focused = alt.when("!focus || focus == datum.method")
    line = base.mark_line(strokeWidth=2, strokeCap="round").encode(
        color=colour,
        detail="name:N",
        opacity=focused.then(alt.value(1)).otherwise(alt.value(FAINT)),
        strokeDash=alt.StrokeDash(
            "variant:N", legend=None, scale=alt.Scale(domain=list(styles), range=list(styles.values()))
        ),
    )
    dot = base.mark_point(size=40 if points else 90, filled=True).encode(
        color=colour, opacity=focused.then(alt.value(1 if points else 0)).otherwise(alt.value(FAINT if points else 0))
    )
    return _layer(line, dot)


def _lengths(rows: series.Rows, room: float = 0.25) -> alt.X:
    """The axis of context lengths, with `room` for names at the right, as a share of the width of the data."""
    lengths = sorted({row["length"] for row in rows})
    low, high = lengths[0], max(lengths[-1], 2 * lengths[0])
    return alt.X(
        "length:Q",
        title="context, in multiples of the trained length",
        scale=alt.Scale(type="log", base=2, nice=False, padding=8, domain=[low, round(high * (high / low) ** room, 3)]),
        axis=alt.Axis(values=lengths, labelExpr="datum.value + 'x'", grid=False),
    )


def _scale(frame: Frame) -> alt.Scale:
    """The scale that every layer of a chart must name alike: a layer that is silent would bring in zero."""
    return alt.Scale(type=frame.kind, domain=[frame.low, frame.high], zero=False, nice=False)


def _rules(levels: dict[str, float], frame: Frame) -> alt.LayerChart:
    base = alt.Chart(_data([{"level": level, "what": what} for what, level in levels.items()])).encode(
        y=alt.Y("level:Q", scale=_scale(frame))
    )
    return _layer(
        base.mark_rule(strokeDash=[2, 4]),
        base.mark_text(align="left", dx=4, dy=-5).encode(text="what:N", x=alt.value(0)),
    )


def _edge(field: str, trained: list[int]) -> alt.Chart:
    name = field.split(":")[0]
    return alt.Chart(_data([{name: length} for length in trained])).mark_rule().encode(x=field)


def _layer(*layers: Any) -> alt.LayerChart:
    return alt.layer(*layers)  # pyright: ignore[reportReturnType]


def _data(rows: series.Rows) -> alt.Data:
    return alt.Data(values=rows)  # pyright: ignore[reportCallIssue]


def _spec(chart: alt.LayerChart, height: int) -> dict[str, Any]:
    focus = alt.param(name="focus", value="")
    spec = chart.add_params(focus).properties(width="container", height=height).to_dict()
    return {name: value for name, value in spec.items() if name not in ("$schema", "config")}
