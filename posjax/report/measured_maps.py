"""Heat maps of any evaluation's numbers over two coordinates: query by key, layer by head, depth by length."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import altair as alt

from posjax.report import chart_parts as parts, series
from posjax.report.chart_values import Chart
from posjax.report.measured_names import Method, Names, method_of
from posjax.report.sheets import Sheet, in_words
from posjax.results import Coordinate, Measurement

PAIRS = (("query", "key"), ("layer", "head"), ("depth", "length"), ("depth", "multiple"), ("layer", "distance"))
"""Coordinates that belong together: the first downwards, the second to the right."""
MOST = 9
"""Maps of one metric."""
CELLS = 48
"""Cells along an axis; of more values, neighbours share a cell."""


def maps(names: Names, sheet: Sheet) -> list[Chart]:
    """A map for each method and place of the other coordinates; none where fewer than two numbers vary."""
    pair = _pair(sheet.numeric)
    if pair is None:
        return []
    panels = []
    for place, taken in sheet.facets(without=pair).items():
        by_method: dict[Method, list[Measurement]] = {}
        for row in taken:
            by_method.setdefault(method_of(row), []).append(row)
        for method in names.methods(taken):
            said = ", ".join(part for part in (names.full(method), in_words(place)) if part)
            panels.append((said, method, _rows(sheet, pair, by_method[method])))
    panels = [panel for panel in panels if panel[2]]
    # One scale for all, so that they compare.
    every = [row["value"] for _, _, rows in panels for row in rows]
    caption = f"{pair[0].capitalize()} by {pair[1]}; all maps of this metric have one scale."
    if len(panels) > MOST:
        caption += f" The first {MOST} of {len(panels)}."
    charts = []
    for said, _, rows in panels[:MOST]:
        charts.append(Chart(said, caption, _map(sheet, pair, rows, every), wide=False))
    return charts


def _pair(numeric: Sequence[str]) -> tuple[str, str] | None:
    for pair in PAIRS:
        if set(pair) <= set(numeric):
            return pair
    if len(numeric) < 2:
        return None
    # What makes the columns of the table lies along the bottom.
    return numeric[1], numeric[0]


def _rows(sheet: Sheet, pair: tuple[str, str], taken: Sequence[Measurement]) -> series.Rows:
    down, right = pair
    downwards, rightwards = _cells(sheet.values(down)), _cells(sheet.values(right))
    together: dict[tuple[str, str], list[float]] = {}
    method = ""
    for row in taken:
        label, _ = method_of(row)
        method = sheet.methods.get(label, label)
        if all(name in row.coordinates for name in pair):
            at = (downwards[row.coordinates[down]], rightwards[row.coordinates[right]])
            together.setdefault(at, []).append(row.value)
    rows = []
    for at, values in together.items():
        rows.append({"method": method, "down": at[0], "right": at[1], "value": statistics.fmean(values)})
    return series.finite(rows, "value")


def _cells(values: Sequence[Coordinate]) -> dict[Coordinate, str]:
    """The cell of each value, by the name of the first value in it."""
    width = -(-len(values) // CELLS)
    return {value: f"{values[place - place % width]:g}" for place, value in enumerate(values)}


def _map(sheet: Sheet, pair: tuple[str, str], rows: series.Rows, every: Sequence[float]) -> dict[str, Any]:
    down, right = pair
    x = alt.X("right:O", **_axis(sheet, right))
    y = alt.Y("down:O", **_axis(sheet, down))
    tips = [
        alt.Tooltip("down:O", title=down),
        alt.Tooltip("right:O", title=right),
        alt.Tooltip("value:Q", title=sheet.metric.replace("_", " "), format=".4g"),
    ]
    cells = alt.Chart(parts.data(rows)).mark_rect()
    chart = cells.encode(x=x, y=y, color=_colour(every), opacity=parts.focused(1, 0.25), tooltip=tips)
    return parts.spec(parts.layered(chart), min(260, max(80, 26 * len(sheet.values(down)))))


def _axis(sheet: Sheet, name: str) -> dict[str, Any]:
    # All cells of the metric, so that maps of one page have the same places.
    cells = list(dict.fromkeys(_cells(sheet.values(name)).values()))
    axis = alt.Axis(grid=False, labelAngle=0, labelOverlap=True)
    return {"title": name.replace("_", " "), "sort": cells, "axis": axis, "scale": alt.Scale(domain=cells)}


def _colour(every: Sequence[float]) -> alt.Color:
    low, high = min(every), max(every)
    legend = alt.Legend(orient="bottom", gradientLength=180, gradientThickness=8, format=".3~r", tickCount=3)
    if low < 0 < high:
        # As far on both sides, so that zero has the middle colour.
        top = max(-low, high)
        scale = alt.Scale(domain=[-top, top], range="diverging", interpolate="rgb")
    else:
        # A single value has no width, and still needs a scale with two ends.
        scale = alt.Scale(domain=[low, high + (high == low)], range="heatmap", interpolate="rgb")
    return alt.Color("value:Q", title=None, scale=scale, legend=legend)
