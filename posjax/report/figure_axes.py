"""Axes of the figures for papers: their look, lines in a method's colour, names at the lines' ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posjax.report import marks, series
from posjax.report.values import Report

INK = "#1d2126"
SOFT = "#5a626c"
GRID = "#e3e1da"
LABEL_GAP = 0.052
"""Least distance between two labels, as a share of the axes' height."""
LONGEST_NAME = 32
"""Characters of a method's name in a figure."""
DOTTED: dict[str, Any] = {"color": SOFT, "lw": 0.8, "ls": (0, (2, 3)), "zorder": 0}
"""Lines that others are compared with: behind all curves, so that none is cut by them."""


def single() -> tuple[Figure, Axes]:
    """A figure of one panel."""
    figure = Figure(figsize=(6.2, 3.9), layout="constrained")
    return figure, figure.subplots()


def panels(figure: Figure, count: int) -> list[Axes]:
    """Panels side by side that share their vertical axis, so that their curves compare."""
    # A single panel comes as an Axes and not as an array of them.
    return list(np.atleast_1d(figure.subplots(1, count, sharey=True)))


def curves(report: Report, axis: Axes, rows: series.Rows, x: str, y: str, points: bool = True) -> None:
    """One line for each name in `rows`, in the method's colour and the variant's style."""
    # Of the two palettes the one for light pages: paper is white.
    dashes, colours = marks.dashes(report), marks.colours(report)
    for line in lines_of(rows).values():
        method, variant = line[0]["method"], line[0]["variant"]
        axis.plot(
            [row[x] for row in line],
            [row[y] for row in line],
            color=marks.LIGHT[colours[method]],
            lw=1.6,
            ls=_line_style(dashes[variant]),
            # As on the page: a dot is a dash of next to no length with round ends.
            dash_capstyle="round",
            marker="o" if points else None,
            ms=3.2,
        )
    plain(axis)


def _line_style(dash: tuple[float, ...]) -> Any:
    if dash == marks.SOLID:
        return "-"
    # Marks are in pixels of the page, these in widths of the line.
    return (0, [length / 2 for length in dash])


def lines_of(rows: series.Rows) -> dict[str, series.Rows]:
    """The rows of each line, by name, in the order of the report."""
    found: dict[str, series.Rows] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row)
    return found


def name_lines(report: Report, axis: Axes, rows: series.Rows, x: str, y: str, only: str = "") -> None:
    """Names the lines of the variant `only`, or all, at the axes' right edge, as high as the limits now put them."""
    colours = marks.colours(report)
    edge = max(row[x] for row in rows)
    ends = []
    for name, line in lines_of(rows).items():
        last = line[-1]
        if only and last["variant"] != only:
            continue
        # Its name stands at the right edge all the same, so it says where the line stopped.
        if x == "length" and last[x] < edge:
            name += f" (to {last[x]:g}x)"
        ends.append((last[y], name, marks.LIGHT[colours[last["method"]]]))
    if ends:
        _write_names(axis, ends)


def _write_names(axis: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Writes names beside the right ends of lines, moved apart until none covers another."""
    # The limits are known only now: until they are, heights in data cannot be turned into heights on the axes.
    axis.autoscale_view()
    in_data = [(1.0, value) for value, _, _ in ends]
    on_axes = axis.transAxes.inverted().transform(axis.transData.transform(in_data))
    heights = series.spread(on_axes[:, 1].tolist(), LABEL_GAP, 0.0, 1.0)
    for height, (_, name, colour) in zip(heights, ends, strict=True):
        # A method's label may hold a dollar sign, which matplotlib would take for mathematics.
        axis.annotate(
            cut(name),
            (1.0, height),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=colour,
            annotation_clip=False,
            parse_math=False,
        )


def cut(name: str) -> str:
    """A name that leaves room for the curves."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 1]}…"


def by_length(axis: Axes, rows: series.Rows) -> None:
    """An axis of context lengths, with a tick at each that was measured and at no other."""
    lengths = sorted({row["length"] for row in rows})
    axis.set_xscale("log", base=2)
    axis.set_xticks(lengths, [f"{length}x" for length in lengths])
    axis.minorticks_off()
    axis.set_xlabel("context, in multiples of the trained length")


def in_percent(axis: Axes) -> None:
    """A vertical axis of shares, written in percent."""
    axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")


def by_token(axis: Axes) -> None:
    """A logarithmic axis of positions or distances, written as whole numbers and not as powers."""
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:,.0f}")


def yardsticks(report: Report, axis: Axes) -> None:
    """A dotted line for what knowing bytes, or pairs of bytes, is worth."""
    for name, loss in series.finite_yardsticks(report).items():
        axis.axhline(loss, **DOTTED)
        # Placed by the axes sideways and by the loss upwards, so that it stays at the left whatever the lengths are.
        axis.text(0.015, loss, name, transform=axis.get_yaxis_transform(), va="bottom", fontsize=8, color=SOFT)


def trained_edge(report: Report, axis: Axes) -> None:
    """A vertical line at the trained length, over whatever is drawn there."""
    for length in {run.trained_length for run in report.language}:
        axis.axvline(length, color=SOFT, lw=0.9, zorder=3)


def plain(axis: Axes) -> None:
    """The reports' axes: two spines, quiet lines, labels in the text's colours."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GRID)
    axis.grid(axis="y", color=GRID, lw=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(colors=SOFT, labelsize=8.5, length=0)
    axis.xaxis.label.set(color=SOFT, fontsize=9)
    axis.yaxis.label.set(color=SOFT, fontsize=9)
    axis.title.set(color=INK, fontsize=10.5, fontweight="bold")
