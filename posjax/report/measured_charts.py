"""Charts of any evaluation's numbers: curves along one coordinate, heat maps over two, dots where none varies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from posjax.report import chart_parts as parts, series
from posjax.report.chart_values import Chart, Section
from posjax.report.measured_maps import maps
from posjax.report.measured_names import Names, method_of
from posjax.report.sheets import Place, Sheet, in_words, sheets
from posjax.report.values import Report
from posjax.results import Coordinate, Measurement

MOST = 6
"""Curves of one metric, each at another place along the coordinates that are no axis of them."""
WIDE_RANGE = 8
"""The largest over the least value from which an axis is logarithmic."""
LENGTHS = ("multiple", "length", "distance", "position")
"""Coordinates that grow by doubling wherever they are measured."""


def sections(report: Report) -> tuple[Section, ...]:
    """A section for each metric that has no charts of its own."""
    names = Names.of(report)
    found = []
    for sheet in sheets(report):
        title = f"{sheet.evaluation.replace('_', ' ').capitalize()}: {sheet.title}"
        found.append(Section(title, (*_curves(report, names, sheet), *_dots(report, names, sheet))))
        # In a grid of their own, since they are of another height.
        found.append(Section(f"{title}, as maps", tuple(maps(names, sheet))))
    return tuple(section for section in found if section.charts)


def _curves(report: Report, names: Names, sheet: Sheet) -> list[Chart]:
    if not sheet.numeric:
        return []
    axis = sheet.numeric[0]
    facets = sheet.facets(without=(axis,))
    # So many would be looked at by no one; two coordinates that vary have a heat map.
    if len(facets) > MOST and len(sheet.numeric) > 1:
        return []
    shown = list(facets.items())[:MOST]
    left_out = ""
    if len(facets) > MOST:
        left_out = f" The first {MOST} of {len(facets)}; all are in the export."
    behind = _facets_of_seeds(sheet, axis)
    charts = []
    for place, taken in shown:
        rows = _rows(names, sheet, axis, taken)
        seeds = _rows(names, sheet, axis, behind.get(place, []))
        if rows:
            said = f"By {_words(axis)}{_of_bands(rows, seeds)}.{left_out}"
            spec = _curve(report, sheet, axis, rows, seeds)
            charts.append(Chart(_titled(sheet, place), said, spec, wide=len(shown) == 1))
    return charts


def _titled(sheet: Sheet, place: Place) -> str:
    # The section says the metric already.
    return in_words(place).capitalize() or _words(sheet.metric).capitalize()


def _facets_of_seeds(sheet: Sheet, axis: str) -> dict[Place, list[Measurement]]:
    found: dict[Place, list[Measurement]] = {}
    others = [name for name in sheet.axes if name != axis]
    for row in sheet.seeds:
        place = tuple((name, row.coordinates[name]) for name in others if name in row.coordinates)
        found.setdefault(place, []).append(row)
    return found


def _of_bands(rows: series.Rows, seeds: series.Rows) -> str:
    said = ""
    if any(row["low"] is not None for row in rows):
        said = ", with the 95 % interval"
    if seeds:
        said += "; a dot for each seed"
    return said


def _rows(names: Names, sheet: Sheet, axis: str, taken: Sequence[Measurement]) -> series.Rows:
    rows = []
    for row in taken:
        method = method_of(row)
        label, variant = method
        marked: dict[str, Coordinate] = {
            "method": sheet.methods.get(label, label),
            "variant": variant or "raw",
            "name": names.full(method),
        }
        if axis in row.coordinates:
            marked[axis] = row.coordinates[axis]
        rows.append(marked | {"value": row.value, "low": row.low, "high": row.high})
    # In the order of the axis: a line is drawn through its points as they come.
    if axis:
        rows = sorted((row for row in rows if axis in row), key=lambda row: row[axis])
    return series.finite(rows, "value")


def _curve(report: Report, sheet: Sheet, axis: str, rows: series.Rows, seeds: series.Rows) -> dict[str, Any]:
    scale = _scale(axis, [row[axis] for row in rows])
    x = alt.X(f"{axis}:Q", title=_words(axis), scale=scale, axis=_ticks(axis, rows))
    y = alt.Y("value:Q", title=_words(sheet.metric), scale=alt.Scale(zero=False))
    tips = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip(f"{axis}:Q", title=_words(axis)),
        *_tips(sheet),
    ]
    base = alt.Chart(parts.data(rows)).encode(x=x, y=y, tooltip=tips)
    return parts.spec(
        parts.layered(
            *_band(axis, rows), *parts.seeds(seeds, base, x, y), parts.lines(report, rows, base, _few(rows, axis))
        ),
        260,
    )


def _band(axis: str, rows: series.Rows) -> list[alt.Chart]:
    banded = [row for row in rows if row["low"] is not None and row["high"] is not None]
    if not banded:
        return []
    area = alt.Chart(parts.data(banded)).mark_area()
    colour = alt.Color("method:N", legend=None)
    return [
        area.encode(
            x=f"{axis}:Q",
            y="low:Q",
            y2="high:Q",
            color=colour,
            detail="name:N",
            opacity=parts.focused(0.12, 0.02),
        )
    ]


def _few(rows: series.Rows, axis: str) -> bool:
    """Whether points may be seen on the line: of hundreds they would hide it."""
    return len({row[axis] for row in rows}) <= 24


def _scale(axis: str, values: Sequence[Coordinate]) -> alt.Scale:
    low, high = min(map(float, values)), max(map(float, values))
    if axis in LENGTHS and low > 0 and high / low >= WIDE_RANGE:
        return alt.Scale(type="log", base=2, nice=False, padding=8)
    return alt.Scale(zero=False, nice=False, padding=8)


def _ticks(axis: str, rows: series.Rows) -> alt.Axis:
    values = sorted({row[axis] for row in rows})
    if len(values) > 12:
        return alt.Axis(grid=False, labelOverlap=True)
    # A tick at each that was measured and at no other: between two layers there is none.
    label = "datum.value"
    if axis == "multiple":
        label = "datum.value + 'x'"
    return alt.Axis(grid=False, values=values, labelExpr=label, labelOverlap=True)


def _dots(report: Report, names: Names, sheet: Sheet) -> list[Chart]:
    """One number for each method, or for each word of a coordinate: dots on a line, each with its interval."""
    if sheet.numeric:
        return []
    shown = list(sheet.facets(without=()).items())[:MOST]
    behind = _facets_of_seeds(sheet, "")
    charts = []
    for place, taken in shown:
        rows = _rows(names, sheet, "", taken)
        seeds = _rows(names, sheet, "", behind.get(place, []))
        if rows:
            said = f"Each method{_of_bands(rows, seeds)}."
            spec = _dot_chart(report, sheet, rows, seeds)
            charts.append(Chart(_titled(sheet, place), said, spec, wide=len(shown) == 1))
    return charts


def _dot_chart(report: Report, sheet: Sheet, rows: series.Rows, seeds: series.Rows) -> dict[str, Any]:
    colour = alt.Color("method:N", legend=None, scale=parts.colours(report))
    opacity = parts.focused(1, parts.FAINT)
    # Unsorted, so that methods come in the order of the tables.
    y = alt.Y("name:N", title=None, sort=None, axis=alt.Axis(grid=False, labelLimit=130))
    x = alt.X("value:Q", title=_words(sheet.metric), scale=alt.Scale(zero=False, padding=8))
    base = alt.Chart(parts.data(rows)).encode(y=y, color=colour, opacity=opacity)
    dots = base.mark_point(size=60, filled=True).encode(x=x, tooltip=[alt.Tooltip("name:N"), *_tips(sheet)])
    banded = [row for row in rows if row["low"] is not None and row["high"] is not None]
    whiskers = (
        base.properties(data=parts.data(banded)).mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", color=colour)
    )
    behind = [base.properties(data=parts.data(seeds)).mark_point(size=16, filled=True).encode(x=x)]
    return parts.spec(parts.layered(whiskers, *behind, dots), 40 + 24 * len({row["name"] for row in rows}))


def _tips(sheet: Sheet) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("value:Q", title=_words(sheet.metric), format=".4g"),
        alt.Tooltip("low:Q", title="interval from", format=".4g"),
        alt.Tooltip("high:Q", title="to", format=".4g"),
    ]


def _words(name: str) -> str:
    return name.replace("_", " ")
