"""The benchmarks' figures: times and memory by length, on logarithmic axes, in the reports' colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.benchmarks.common import tables
from posjax.report.figure_axes import INK, plain
from posjax.report.marks import LIGHT

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""Named lines of (length, value)."""


def attention(rows: Sequence[Any], path: Path) -> None:
    """CPU time with gradients by length: a panel for each encoding, a line for each peer."""
    kept = [r for r in rows if r.backward and r.cpu is not None]
    encodings = list(dict.fromkeys(r.encoding for r in kept))
    if not encodings:
        return
    peers = list(dict.fromkeys(r.peer for r in kept))
    wide = min(4, len(encodings))
    tall = -(-len(encodings) // wide)
    figure = Figure(figsize=(3.1 * wide, 2.9 * tall + 0.5), layout="constrained")
    grid = figure.subplots(tall, wide, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, encoding in zip(grid, encodings, strict=False):
        for index, peer in enumerate(peers):
            points = [(r.length, r.cpu) for r in kept if (r.encoding, r.peer) == (encoding, peer)]
            _line(axis, points, peer, LIGHT[index % len(LIGHT)])
        _dress(axis, encoding, sorted({r.length for r in kept}))
    for axis in grid[len(encodings) :]:
        axis.set_visible(False)
    grid[0].set_ylabel("CPU seconds, forward + backward")
    handles = {label: handle for axis in grid for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(4, len(handles)),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
    save(figure, path)


def by_length(panels: Mapping[str, Curves], label: str, path: Path) -> None:
    """One panel for each name, with its curves; all share their axes."""
    figure = Figure(figsize=(4.6 * len(panels), 3.9), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    for axis, (title, curves) in zip(grid, panels.items(), strict=True):
        for name, points in curves.items():
            _line(axis, points, name, LIGHT[names.index(name) % len(LIGHT)])
        _dress(axis, title, sorted({n for points in curves.values() for n, _ in points}))
    grid[0].set_ylabel(label)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(4, max(1, len(labels))),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
    save(figure, path)


def _line(axis: Axes, points: Sequence[tuple[int, float]], name: str, colour: str) -> None:
    if points:
        axis.plot(*zip(*points, strict=True), color=colour, lw=1.6, marker="o", ms=3.2, label=name)


def _dress(axis: Axes, title: str, lengths: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    named = [n for n in lengths if n & (n - 1) == 0] or lengths  # Others would stand in their neighbours' way.
    axis.set_xticks(named, [tables.length(n) for n in named])
    axis.minorticks_off()
    axis.set_title(title, fontweight="bold")
    plain(axis)


def save(figure: Figure, path: Path) -> None:
    """The figure as a PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(
        part,
        format="png",
        dpi=160,
        facecolor="white",
        bbox_inches="tight",
        pad_inches=0.08,
        metadata={"Software": "posjax"},
    )
    part.replace(path)
