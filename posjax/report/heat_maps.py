"""The page's heat maps: the mean score by distance, a row for each method."""

from __future__ import annotations

from typing import Any

import altair as alt

from posjax.report import chart_parts as parts, series
from posjax.report.chart_values import Chart
from posjax.report.values import Report

TITLES = {"random": "Score by distance, random q and k", "trained": "Score by distance, trained q and k"}


def charts(report: Report) -> list[Chart]:
    """One for random and one for trained queries and keys, where the folder has their scores."""
    found = []
    for which, title in TITLES.items():
        rows = series.scores(report, which)
        if rows:
            caption = (
                "Mean score less its value at distance 0. Orange lies below, blue above; the "
                "colour scale is logarithmic away from zero."
            )
            found.append(Chart(title, caption, _heat_map(report, rows), wide=False))
    return found


def _heat_map(report: Report, rows: series.Rows) -> dict[str, Any]:
    x = alt.X(
        "low:Q",
        title="distance",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(grid=False, format=",.0f", labelOverlap=True),
    )
    # Unsorted, so that methods come in the order of the tables.
    y = alt.Y("method:N", title=None, sort=None, axis=alt.Axis(grid=False), scale=alt.Scale(paddingInner=0.12))
    tips = [
        alt.Tooltip("method:N"),
        alt.Tooltip("low:Q", title="distance from", format=",.0f"),
        alt.Tooltip("high:Q", title="to below", format=",.0f"),
        alt.Tooltip("score:Q", format=".3f"),
    ]
    base = alt.Chart(parts.data(rows)).mark_rect()
    # A map put aside stays legible as a map: less faint than a line, whose neighbours it does not cover.
    cells = base.encode(x=x, x2="high:Q", y=y, color=_colour(rows), opacity=parts.focused(1, 0.25), tooltip=tips)
    methods = {row["method"] for row in rows}
    height = max(90, 34 * len(methods))
    return parts.spec(parts.layered(cells, parts.trained_edge(report, "low")), height)


def _colour(rows: series.Rows) -> alt.Color:
    top, linear = series.score_scale(rows)
    # As far on both sides, so that zero has the middle colour whichever way scores lean.
    scale = alt.Scale(type="symlog", constant=linear, domain=[-top, top], range="diverging", interpolate="rgb")
    legend = alt.Legend(
        orient="bottom",
        gradientLength=220,
        gradientThickness=8,
        format=".3~r",
        values=series.score_ticks(top),
    )
    return alt.Color("score:Q", title=None, scale=scale, legend=legend)
