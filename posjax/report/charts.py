"""The page's interactive charts, as Vega-Lite specifications, in sections that each answer one question."""

from __future__ import annotations

import dataclasses
from typing import Any

import altair as alt

from posjax.report import chart_parts as parts, heat_maps, measured_charts, series
from posjax.report.chart_parts import Frame
from posjax.report.chart_values import Chart, Section
from posjax.report.seeds import apart
from posjax.report.values import Report

TRAINING_TITLES = {"text": "Training loss, text", "needles": "Training loss, needles", "other": "Training loss"}


def sections(report: Report) -> tuple[Section, ...]:
    """All charts this report can fill, in the order in which the page shows them."""
    found = (
        Section("Loss by length and by position", (*_losses(report), *_positions(report))),
        Section("Where attention goes", (*_beyond(report), *heat_maps.charts(report))),
        Section("Needles by length", _recalls(report)),
        *measured_charts.sections(report),
        Section("Training", _training(report)),
    )
    return tuple(section for section in found if section.charts)


def vega_lite_version() -> str:
    """The version of Vega-Lite that these specifications are written in, such as "6.4"."""
    # The bundle of scripts is chosen by major and minor version alone.
    numbers = alt.SCHEMA_VERSION.removeprefix("v").split(".")
    return ".".join(numbers[:2])


def _losses(report: Report) -> list[Chart]:
    charts = []
    rows = series.as_trained(report)
    if rows:
        charts.append(
            Chart(
                "Loss by context length",
                "Each method as trained (solid) and its windowed control, which "
                "sees only the trained length (dotted). Last bytes of each window, the same at every "
                "length.",
                # Controls lie close to each other: with their names too, none could stand at its own line.
                _length_chart(report, rows, series.as_trained(apart(report)), "raw"),
            )
        )
    rows = series.of_extended(report)
    if rows:
        charts.append(
            Chart(
                "Extending a trained model",
                "The same weights, evaluated in other ways without further training.",
                _length_chart(report, rows, series.of_extended(apart(report)), ""),
            )
        )
    # Two share a line of the page; one alone takes it whole.
    return [dataclasses.replace(chart, wide=len(charts) == 1) for chart in charts]


def _length_chart(report: Report, rows: series.Rows, seeds: series.Rows, named: str) -> dict[str, Any]:
    yardsticks = series.finite_yardsticks(report)
    # Yardsticks are in the frame too: how near a loss comes to them says whether the model knows anything.
    levels = [row["loss"] for row in rows + seeds] + list(yardsticks.values())
    frame = parts.framed(levels, series.is_past_sense(rows, report), 320)
    y = alt.Y("loss:Q", title="nats per byte", scale=parts.scale(frame))
    tips = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip("length:Q", title="length", format=".0f"),
        alt.Tooltip("loss:Q", title="nats per byte", format=".3f"),
        alt.Tooltip("ratio:Q", format=".3f"),
        alt.Tooltip("low:Q", title="interval from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
    ]
    x = parts.lengths_axis(rows)
    base = alt.Chart(parts.data(rows)).encode(x=x, y=y, tooltip=tips)
    # Rules first, so that lines run over them; names last, so that nothing runs over them.
    chart = parts.layered(
        parts.rules(yardsticks, frame),
        *parts.seeds(seeds, base, x, y),
        parts.lines(report, rows, base),
        parts.names(rows, named, "loss", frame),
    )
    return parts.spec(chart, frame.height)


def _positions(report: Report) -> list[Chart]:
    rows = series.by_position(report)
    if not rows:
        return []
    x = alt.X(
        "position:Q",
        title="position in the window",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(format=",.0f", labelOverlap=True),
    )
    y = alt.Y("loss:Q", title="nats per byte", scale=alt.Scale(zero=False))
    tips = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip("position:Q", format=",.0f"),
        alt.Tooltip("loss:Q", title="nats per byte", format=".3f"),
    ]
    base = alt.Chart(parts.data(rows)).encode(x=x, y=y, tooltip=tips)
    edge = parts.trained_edge(report, "position")
    # A point for each bin of positions would hide the line, so points are unseen.
    chart = parts.layered(edge, parts.lines(report, rows, base, points=False))
    longest = max(max(run.lengths) for run in report.language)
    return [
        Chart(
            "Loss by position",
            f"In the longest windows, {longest} times the trained length; the vertical line marks the trained length.",
            parts.spec(chart, 320),
        )
    ]


def _beyond(report: Report) -> list[Chart]:
    rows = series.beyond_by_length(report)
    if not rows:
        return []
    # A share has the same frame in every report: what is little looks little.
    frame = Frame("linear", 0.0, 1.0, 280)
    axis = alt.Axis(format=".0%", tickCount=5)
    y = alt.Y("beyond:Q", title="share of attention", axis=axis, scale=parts.scale(frame))
    tips = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip("length:Q", format=".0f"),
        alt.Tooltip("beyond:Q", title="share beyond", format=".1%"),
    ]
    x = parts.lengths_axis(rows)
    base = alt.Chart(parts.data(rows)).encode(x=x, y=y, tooltip=tips)
    lines = parts.lines(report, rows, base)
    seeds = parts.seeds(series.beyond_by_length(apart(report)), base, x, y)
    chart = parts.layered(*seeds, lines, parts.names(rows, "", "beyond", frame))
    return [
        Chart(
            "Attention beyond the trained length",
            "The share of attention mass on positions farther away than "
            "any seen in training. Windowed controls have none, by construction.",
            parts.spec(chart, frame.height),
        )
    ]


def _recalls(report: Report) -> tuple[Chart, ...]:
    charts = []
    for depth, title in enumerate(_depth_titles(report)):
        rows = series.recall(report, depth)
        if rows:
            chart = _recall_chart(report, rows, series.recall(apart(report), depth))
            charts.append(Chart(title, "Share of needles found, by context length.", chart, wide=False))
    return tuple(charts)


def _recall_chart(report: Report, rows: series.Rows, seeds: series.Rows) -> dict[str, Any]:
    frame = Frame("linear", 0.0, 1.0, 240)
    # Several of these share a line of the page, so names are left to the legend.
    x = parts.lengths_axis(rows, room=0.0)
    axis = alt.Axis(format=".0%", tickCount=5)
    y = alt.Y("accuracy:Q", title=None, scale=parts.scale(frame), axis=axis)
    tips = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip("length:Q", format=".0f"),
        alt.Tooltip("accuracy:Q", format=".1%"),
        alt.Tooltip("error:Q", title="±", format=".1%"),
    ]
    base = alt.Chart(parts.data(rows)).encode(x=x, y=y, tooltip=tips)
    chance = parts.rules({"chance": report.retrieval[0].chance}, frame)
    chart = parts.layered(chance, *parts.seeds(seeds, base, x, y), parts.lines(report, rows, base))
    return parts.spec(chart, frame.height)


def _depth_titles(report: Report) -> tuple[str, ...]:
    if not report.retrieval:
        return ()
    depths = report.retrieval[0].depths
    if len(depths) == 3:
        return ("Far needle", "Middle needle", "Near needle")
    return tuple(f"Needle at {100 * depth:.0f} % of the text" for depth in depths)


def _training(report: Report) -> tuple[Chart, ...]:
    charts = []
    rows = series.training(report)
    # Losses of the two tasks are of another size, so each has axes of its own.
    for task, title in TRAINING_TITLES.items():
        chosen = [row for row in rows if row["task"] == task]
        if chosen:
            chart = _training_chart(report, chosen)
            charts.append(Chart(title, "Mean over neighbouring steps.", chart, wide=False))
    return tuple(charts)


def _training_chart(report: Report, rows: series.Rows) -> dict[str, Any]:
    x = alt.X("step:Q", axis=alt.Axis(format="~s"))
    y = alt.Y("loss:Q", title="nats per target", scale=alt.Scale(zero=False))
    tips = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip("step:Q", format=",.0f"),
        alt.Tooltip("loss:Q", format=".3f"),
    ]
    base = alt.Chart(parts.data(rows)).encode(x=x, y=y, tooltip=tips)
    return parts.spec(parts.layered(parts.lines(report, rows, base, points=False)), 240)
