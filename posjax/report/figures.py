"""PNG figures for papers, drawn by matplotlib: the same curves as the page's, with labels at the lines' ends."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure

from posjax.files import write_whole
from posjax.report import figure_axes as axes, marks, series
from posjax.report.rows import depth_names
from posjax.report.values import Report

PANEL_TITLES = {"random": "Random q and k", "trained": "Trained q and k"}
COLOURS = ("#b35806", "#f4f3ee", "#0f5fa6")
"""Of a score below that at distance 0, of one as large, and of one above."""


def write(report: Report, folder: str | Path) -> list[Path]:
    """Writes every figure this report can fill as `folder`/NAME.png, each whole or not at all."""
    written = []
    for name in FIGURES:
        if drawn := draw(report, name):
            written.append(write_whole(Path(folder) / f"{name}.png", drawn))
    return written


def draw(report: Report, name: str, dpi: int = 200) -> bytes | None:
    """One of `FIGURES` as a PNG; None where the report has no numbers for it. Errors: `KeyError` for another name."""
    figure = FIGURES[name](report)
    if figure is None:
        return None
    drawn = io.BytesIO()
    # A canvas of its own leaves pyplot's global state, and the user's backend, alone.
    FigureCanvasAgg(figure)
    # Matplotlib would write its version into the file, and an upgrade would change every figure.
    metadata = {"Software": "posjax"}
    figure.savefig(
        drawn, format="png", dpi=dpi, facecolor="white", bbox_inches="tight", pad_inches=0.08, metadata=metadata
    )
    return drawn.getvalue()


def loss_by_length(report: Report) -> Figure | None:
    """Loss against context length: each method with its windowed control, and the extensions of trained models."""
    as_trained = series.as_trained(report)
    extended = series.of_extended(report)
    if not as_trained:
        return None
    panels = [("As trained (solid) and windowed (dotted)", as_trained, "raw")]
    if extended:
        panels.append(("Extending the trained model", extended, ""))
    figure = Figure(figsize=(5.2 * len(panels), 3.9), layout="constrained")
    drawn = axes.panels(figure, len(panels))
    for axis, (title, rows, only) in zip(drawn, panels, strict=True):
        axis.set_title(title)
        # Both panels by the same question, since they share the axis.
        if series.is_past_sense(as_trained + extended, report):
            _logarithmic_loss(axis)
        axes.by_length(axis, rows)
        axes.curves(report, axis, rows, "length", "loss")
        axes.name_lines(report, axis, rows, "length", "loss", only)
        axes.yardsticks(report, axis)
    drawn[0].set_ylabel("nats per byte, last bytes of the window")
    return figure


def _logarithmic_loss(axis: Axes) -> None:
    axis.set_yscale("log")
    # Losses as numbers and not as powers of ten; those between would lie over each other.
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")


def loss_by_position(report: Report) -> Figure | None:
    """Loss against position in the longest windows."""
    rows = series.by_position(report)
    if not rows:
        return None
    figure, axis = axes.single()
    axes.by_token(axis)
    axis.set_xlabel("position in the window")
    axis.set_ylabel("nats per byte")
    axis.set_title("Loss by position (dotted: windowed)")
    axes.curves(report, axis, rows, "position", "loss", points=False)
    axes.name_lines(report, axis, rows, "position", "loss", "raw")
    axes.trained_edge(report, axis)
    return figure


def mass_beyond(report: Report) -> Figure | None:
    """Share of attention on positions farther away than the trained length."""
    rows = series.beyond_by_length(report)
    if not rows:
        return None
    figure, axis = axes.single()
    axes.by_length(axis, rows)
    axis.set_ylim(0, 1)
    axes.in_percent(axis)
    axis.set_title("Attention beyond the trained length")
    axes.curves(report, axis, rows, "length", "beyond")
    axes.name_lines(report, axis, rows, "length", "beyond")
    return figure


def scores(report: Report) -> Figure | None:
    """Mean attention score by distance as a heat map, for random and for trained queries and keys."""
    panels = [(title, series.scores(report, which)) for which, title in PANEL_TITLES.items()]
    panels = [(title, rows) for title, rows in panels if rows]
    if not panels:
        return None
    # Both panels have the same rows, since they share their axis.
    methods = list(dict.fromkeys(row["method"] for _, rows in panels for row in rows))
    figure = Figure(figsize=(5.2 * len(panels), 1.2 + 0.38 * len(methods)), layout="constrained")
    drawn = axes.panels(figure, len(panels))
    for axis, (title, rows) in zip(drawn, panels, strict=True):
        axis.set_title(title)
        cells = _heat_map(axis, rows, methods)
        axes.plain(axis)
        axes.trained_edge(report, axis)
        _colour_bar(figure, axis, cells, series.score_ticks(series.score_scale(rows)[0]))
    return figure


def _heat_map(axis: Axes, rows: series.Rows, methods: list[str]) -> ScalarMappable:
    """A rectangle for each row, drawn from `low` to `high`: the bins are not evenly wide, as an image's would be."""
    top, linear = series.score_scale(rows)
    colours = LinearSegmentedColormap.from_list("scores", COLOURS)
    cells = ScalarMappable(SymLogNorm(linear, vmin=-top, vmax=top), colours)
    for row in rows:
        y = methods.index(row["method"])
        colour = colours(cells.norm(row["score"]))
        axis.fill_between([row["low"], row["high"]], y - 0.46, y + 0.46, color=colour, lw=0)
    axes.by_token(axis)
    axis.set_xlabel("distance")
    axis.set_yticks(range(len(methods)), [axes.cut(method) for method in methods])
    axis.set_xlim(min(row["low"] for row in rows), max(row["high"] for row in rows))
    # Downwards, so that methods come in the order of the tables.
    axis.set_ylim(len(methods) - 0.5, -0.5)
    for name in axis.get_yticklabels():
        name.set_parse_math(False)
    return cells


def _colour_bar(figure: Figure, axis: Axes, cells: ScalarMappable, ticks: list[float]) -> None:
    bar = figure.colorbar(cells, ax=axis, ticks=ticks, pad=0.02)
    bar.ax.set_yticklabels([marks.number(tick) for tick in ticks])
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8, colors=axes.SOFT, length=0)


def retrieval(report: Report) -> Figure | None:
    """Share of needles found by length, one panel for each depth."""
    panels = [(depth, series.recall(report, index)) for index, depth in enumerate(depth_names(report))]
    panels = [(depth, rows) for depth, rows in panels if rows]
    if not panels:
        return None
    figure = Figure(figsize=(1.2 + 3.2 * len(panels), 3.5), layout="constrained")
    drawn = axes.panels(figure, len(panels))
    for axis, (depth, rows) in zip(drawn, panels, strict=True):
        axes.by_length(axis, rows)
        # A little past both ends: needles that are always found would lie on the frame.
        axis.set_ylim(-0.02, 1.04)
        axes.in_percent(axis)
        axis.set_title(f"Needle: {depth}")
        _chance(axis, report.retrieval[0].chance)
        axes.curves(report, axis, rows, "length", "accuracy")
    # The last panel's names stand for all: between two panels there is no room.
    _, rows = panels[-1]
    axes.name_lines(report, drawn[-1], rows, "length", "accuracy")
    return figure


def _chance(axis: Axes, chance: float) -> None:
    axis.axhline(chance, **axes.DOTTED)
    axis.text(0.02, chance + 0.02, "chance", transform=axis.get_yaxis_transform(), fontsize=8, color=axes.SOFT)


FIGURES: dict[str, Callable[[Report], Figure | None]] = {
    "loss_by_length": loss_by_length,
    "loss_by_position": loss_by_position,
    "mass_beyond": mass_beyond,
    "scores": scores,
    "retrieval": retrieval,
}
"""The first is also shown where scripts do not run."""
