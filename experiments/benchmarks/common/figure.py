"""The benchmarks' figures: times and memory by length, on logarithmic axes, in the reports' colours."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.benchmarks.common import tables
from posjax.files import write_whole
from posjax.report.figure_axes import INK, plain
from posjax.report.marks import LIGHT

Points = Sequence[tuple[int, float]]
"""(length, value)."""
Curves = Mapping[str, Points]
"""Named lines."""
WIDEST = 4
"""Panels in a row, and names in a row of the legend."""


def attention(rows: Sequence[Any], path: Path) -> None:
    """CPU time with gradients by length: a panel for each encoding, a line for each peer."""
    timed = [row for row in rows if row.backward and row.cpu is not None]
    if not timed:
        return
    # In the order of the rows, so that a peer keeps its colour from one measurement to the next.
    encodings = list(dict.fromkeys(row.encoding for row in timed))
    peers = list(dict.fromkeys(row.peer for row in timed))
    lengths = sorted({row.length for row in timed})
    wide = min(WIDEST, len(encodings))
    # Rounded up.
    tall = -(-len(encodings) // wide)
    # Constrained, so that the legend finds its room below the panels.
    figure = Figure(figsize=(3.1 * wide, 2.9 * tall + 0.5), layout="constrained")
    panels = figure.subplots(tall, wide, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, encoding in zip(panels, encodings, strict=False):
        for index, peer in enumerate(peers):
            # In every panel a peer keeps its index, and so its colour, also where another is missing.
            mine = [row for row in timed if (row.encoding, row.peer) == (encoding, peer)]
            _line(axis, [(row.length, row.cpu) for row in mine], peer, index)
        _dress(axis, encoding, lengths)
    # The last row of panels may not be full.
    for axis in panels[len(encodings) :]:
        axis.set_visible(False)
    panels[0].set_ylabel("CPU seconds, forward + backward")
    _legend(figure, panels)
    save(figure, path)


def by_length(panels: Mapping[str, Curves], label: str, path: Path) -> None:
    """One panel for each name, with its curves; all share their axes."""
    figure = Figure(figsize=(4.6 * len(panels), 3.9), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    # A name has one colour in all panels.
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        lengths = set()
        for name, points in curves.items():
            _line(axis, points, name, names.index(name))
            lengths |= {length for length, _ in points}
        _dress(axis, title, sorted(lengths))
    axes[0].set_ylabel(label)
    _legend(figure, axes[:1])
    save(figure, path)


def _line(axis: Axes, points: Points, name: str, index: int) -> None:
    # A line without points would stand in the legend all the same.
    if not points:
        return
    lengths, values = zip(*points, strict=True)
    colour = LIGHT[index % len(LIGHT)]
    axis.plot(lengths, values, color=colour, lw=1.6, marker="o", ms=3.2, label=name)


def _dress(axis: Axes, title: str, lengths: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    # Powers of 2 alone are named: others would stand in their neighbours' way.
    named = [length for length in lengths if length & (length - 1) == 0] or lengths
    axis.set_xticks(named, [tables.length(length) for length in named])
    axis.minorticks_off()
    axis.set_title(title, fontweight="bold")
    plain(axis)


def _legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """One legend below all panels, each name once: a peer may be missing from any of them."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles[label] = handle
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(WIDEST, max(1, len(handles))),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )


def save(figure: Figure, path: Path) -> None:
    """The figure as a PNG, whole or not at all. Errors: `StorageError`."""
    # Without pyplot, which would ask for a display and keep every figure.
    FigureCanvasAgg(figure)
    png = io.BytesIO()
    figure.savefig(
        png,
        format="png",
        dpi=160,
        facecolor="white",
        bbox_inches="tight",
        pad_inches=0.08,
        # Without the version of matplotlib, so that equal figures are equal files.
        metadata={"Software": "posjax"},
    )
    write_whole(path, png.getvalue())
