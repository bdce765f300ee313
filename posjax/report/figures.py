"""PNG figures for papers, drawn by matplotlib: the same curves as the page's, with labels at the lines' ends."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure

from posjax.files import write_whole
from posjax.report import marks, series
from posjax.report.load import Report
from posjax.report.rows import depth_names

INK, SOFT, GRID = "#1d2126", "#5a626c", "#e3e1da"
LABEL_GAP = 0.052
"""Least distance between two labels, as a share of the axes' height."""
LONGEST_NAME = 32
"""Characters of a method's name in a figure."""


def write(report: Report, folder: str | Path) -> list[Path]:
    """Writes every figure this report can fill as `folder`/NAME.png, each whole or not at all."""
    drawn = ((name, draw(report, name)) for name in FIGURES)
    return [write_whole(Path(folder) / f"{name}.png", png) for name, png in drawn if png]


def draw(report: Report, name: str, dpi: int = 200) -> bytes | None:
    """One of `FIGURES` as a PNG; None where the report has no numbers for it. Raises KeyError for another name."""
    figure = FIGURES[name](report)
    if figure is None:
        return None
    drawn = io.BytesIO()
    # A canvas of its own leaves pyplot's global state, and the user's backend, alone.
    FigureCanvasAgg(figure)
    figure.savefig(
        drawn,
        format="png",
        dpi=dpi,
        facecolor="white",
        bbox_inches="tight",
        pad_inches=0.08,
        metadata={"Software": "posjax"},
    )
    return drawn.getvalue()


def loss_by_length(report: Report) -> Figure | None:
    """Loss against context length: each method with its windowed control, and the extensions of trained models."""
    panels = [("As trained (solid) and windowed (dotted)", series.by_length(report, ("raw", "windowed")), "raw")]
    labels = {run.label for run in series.extended(report)}
    kinds = ("raw", "windowed", "extension", "fill")
    rows = [row for row in series.by_length(report, kinds) if row["method"] in labels]
    if rows:
        panels.append(("Extending the trained model", rows, ""))
    if not panels[0][1]:
        return None
    figure = Figure(figsize=(5.2 * len(panels), 3.9), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for index, (axis, (title, chosen, only)) in enumerate(zip(axes, panels, strict=True)):
        axis.set_title(title)
        if series.is_past_sense(panels[0][1] + panels[-1][1], report):
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("")
        _lengths_axis(axis, chosen)
        _curves(report, axis, chosen, "length", "loss", only)
        _yardsticks(report, axis)
        if not index:
            axis.set_ylabel("nats per byte, last bytes of the window")
    return figure


def loss_by_position(report: Report) -> Figure | None:
    """Loss against position in the longest windows."""
    rows = series.by_position(report)
    if not rows:
        return None
    figure, axis = _single()
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("position in the window")
    axis.set_ylabel("nats per byte")
    axis.set_title("Loss by position (dotted: windowed)")
    _curves(report, axis, rows, "position", "loss", "raw", points=False)
    _trained_edge(report, axis)
    return figure


def mass_beyond(report: Report) -> Figure | None:
    """Share of attention on positions farther away than the trained length."""
    rows = [row for row in series.by_length(report, ("raw", "extension", "fill")) if row["beyond"] is not None]
    if not rows:
        return None
    figure, axis = _single()
    _lengths_axis(axis, rows)
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axis.set_title("Attention beyond the trained length")
    _curves(report, axis, rows, "length", "beyond")
    return figure


def scores(report: Report) -> Figure | None:
    """Mean attention score by distance as a heat map, for random and for trained queries and keys."""
    panels = [
        (title, rows)
        for which, title in (("random", "Random q and k"), ("trained", "Trained q and k"))
        if (rows := series.scores(report, which))
    ]
    if not panels:
        return None
    methods = list(dict.fromkeys(row["method"] for _, rows in panels for row in rows))
    figure = Figure(figsize=(5.2 * len(panels), 1.2 + 0.38 * len(methods)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    colours = LinearSegmentedColormap.from_list("scores", ["#b35806", "#f4f3ee", "#0f5fa6"])
    for axis, (title, rows) in zip(axes, panels, strict=True):
        top, linear = series.score_scale(rows)
        norm = SymLogNorm(linear, vmin=-top, vmax=top)
        for row in rows:
            y = methods.index(row["method"])
            axis.fill_between([row["low"], row["high"]], y - 0.46, y + 0.46, color=colours(norm(row["score"])), lw=0)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.set(
            title=title,
            xlabel="distance",
            yticks=range(len(methods)),
            yticklabels=map(_cut, methods),
            xlim=(min(r["low"] for r in rows), max(r["high"] for r in rows)),
            ylim=(len(methods) - 0.5, -0.5),
        )
        for name in axis.get_yticklabels():
            name.set_parse_math(False)
        plain(axis)
        _trained_edge(report, axis)
        bar = figure.colorbar(ScalarMappable(norm, colours), ax=axis, ticks=series.score_ticks(top), pad=0.02)
        bar.ax.set_yticklabels(map(marks.number, series.score_ticks(top)))
        bar.outline.set_visible(False)
        bar.ax.minorticks_off()
        bar.ax.tick_params(labelsize=8, colors=SOFT, length=0)
    return figure


def retrieval(report: Report) -> Figure | None:
    """Share of needles found by length, one panel for each depth."""
    panels = [
        (depth, rows) for index, depth in enumerate(depth_names(report)) if (rows := series.recall(report, index))
    ]
    if not panels:
        return None
    figure = Figure(figsize=(1.2 + 3.2 * len(panels), 3.5), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for index, (axis, (depth, rows)) in enumerate(zip(axes, panels, strict=True)):
        _lengths_axis(axis, rows)
        axis.set_ylim(-0.02, 1.04)
        axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        axis.set_title(f"Needle: {depth}")
        chance = report.retrieval[0].chance
        axis.axhline(chance, color=SOFT, lw=0.8, ls=(0, (2, 3)), zorder=0)
        axis.text(0.02, chance + 0.02, "chance", transform=axis.get_yaxis_transform(), fontsize=8, color=SOFT)
        _curves(report, axis, rows, "length", "accuracy", label=index == len(panels) - 1)
    return figure


FIGURES: dict[str, Callable[[Report], Figure | None]] = {
    "loss_by_length": loss_by_length,
    "loss_by_position": loss_by_position,
    "mass_beyond": mass_beyond,
    "scores": scores,
    "retrieval": retrieval,
}


def _single() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.2, 3.9), layout="constrained")
    return figure, figure.subplots()


def _curves(
    report: Report,
    axis: Axes,
    rows: series.Rows,
    x: str,
    y: str,
    only: str = "",
    points: bool = True,
    label: bool = True,
) -> None:
    """One line for each name in `rows`; those of the variant `only`, or all, are named at their right ends."""
    dashes, colours = marks.dashes(report), marks.colours(report)
    ends, edge = [], max(row[x] for row in rows)
    for name in dict.fromkeys(row["name"] for row in rows):
        line = [row for row in rows if row["name"] == name]
        colour = marks.LIGHT[colours[line[0]["method"]]]
        dash = dashes[line[0]["variant"]]
        axis.plot(
            [row[x] for row in line],
            [row[y] for row in line],
            color=colour,
            lw=1.6,
            ls="-" if dash == marks.SOLID else (0, [length / 2 for length in dash]),
            dash_capstyle="round",
            marker="o" if points else None,
            ms=3.2,
        )
        if only and line[0]["variant"] != only:
            continue
        until = f" (to {line[-1][x]:g}x)" if x == "length" and line[-1][x] < edge else ""
        ends.append((line[-1][y], name + until, colour))
    plain(axis)
    if label and ends:
        _name_ends(axis, ends)


def _name_ends(axis: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Writes names beside the right ends of lines, moved apart until none covers another."""
    axis.autoscale_view()
    wanted = axis.transAxes.inverted().transform(axis.transData.transform([(1.0, value) for value, _, _ in ends]))
    heights = series.spread(wanted[:, 1].tolist(), LABEL_GAP, 0.0, 1.0)
    for height, (_, name, colour) in zip(heights, ends, strict=True):
        axis.annotate(
            _cut(name),
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


def _cut(name: str) -> str:
    """A name that leaves room for the curves."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _lengths_axis(axis: Axes, rows: series.Rows) -> None:
    lengths = sorted({row["length"] for row in rows})
    axis.set_xscale("log", base=2)
    axis.set_xticks(lengths, [f"{length}x" for length in lengths])
    axis.minorticks_off()
    axis.set_xlabel("context, in multiples of the trained length")


def _yardsticks(report: Report, axis: Axes) -> None:
    levels = {name: loss for run in report.language for name, loss in run.yardsticks.items() if math.isfinite(loss)}
    for name, loss in levels.items():
        axis.axhline(loss, color=SOFT, lw=0.8, ls=(0, (2, 3)), zorder=0)
        axis.text(0.015, loss, name, transform=axis.get_yaxis_transform(), va="bottom", fontsize=8, color=SOFT)


def _trained_edge(report: Report, axis: Axes) -> None:
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
