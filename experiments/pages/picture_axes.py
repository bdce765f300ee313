"""How the axes of the pictures look: quiet lines, colours in the reports' order, names where there is room."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posjax.report.figure_axes import GRID, INK, SOFT
from posjax.report.marks import LIGHT

FAR = 4096
"""The farthest distance."""
FAINTEST = -12.0
"""Logits below leave less than a hundred-thousandth of the weight, and are cut off."""
LEGEND: dict[str, Any] = {"fontsize": 8, "frameon": False, "labelcolor": INK}


def ramp(index: int, count: int) -> Any:
    """A colour for one of several lines with an order, such as heads."""
    # The palest end of the map is left out for the white ground.
    share = 0.88 * index / max(count - 1, 1)
    return colormaps["viridis"](share)


def line(axis: Axes, x: Any, y: Any, label: str, colour: int) -> None:
    """One line in the colour of that index."""
    axis.plot(x, np.asarray(y), color=LIGHT[colour % len(LIGHT)], lw=1.6, label=label)


def lines_by_head(axis: Axes, x: np.ndarray, lines: np.ndarray) -> None:
    """A line for each head, `lines[head]`, with their names beside the axes."""
    for head, y in enumerate(lines):
        axis.plot(x, y, color=ramp(head, len(lines)), lw=1.5, label=f"head {head}")
    legend_outside(axis)
    # Steep heads fall to minus thousands, and would press all that matters into one line at the top.
    if np.nanmin(lines) < FAINTEST:
        top = max(np.nanmax(lines) + 0.5, 0.5)
        axis.set_ylim(FAINTEST, top)


def legend_outside(axis: Axes) -> None:
    """The names to the right of the axes, where no line runs."""
    axis.legend(**LEGEND, loc="center left", bbox_to_anchor=(1.0, 0.5))


def by_distance(axis: Axes, y: str, far: int = FAR, x: str = "distance") -> None:
    """An axis of distances up to `far`, and the names of both axes."""
    # Linear up to 1 and logarithmic past it: distance 0, where every curve begins, has no logarithm.
    axis.set_xscale("symlog", base=2, linthresh=1, linscale=0.5)
    ticks = [0, *(4**power for power in range(7) if 4**power <= far)]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.set_xlim(0, far)
    style(axis, x, y)


def image(figure: Figure, axis: Axes, values: np.ndarray, top: float, names: tuple[str, str], reach: int = 0) -> None:
    """A heat map from -top to top; with `reach` its middle is the origin, and both axes go that far."""
    aspect, extent = "auto", None
    if reach:
        aspect, extent = "equal", (-reach, reach, reach, -reach)
    # As far on both sides, so that zero is white.
    drawn = axis.imshow(
        values, cmap="RdBu_r", vmin=-top, vmax=top, aspect=aspect, extent=extent, interpolation="nearest"
    )
    bar = figure.colorbar(drawn, ax=axis, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=SOFT, length=0)
    style(axis, *names)
    # After the style, which draws a grid: it would lie over the cells.
    axis.grid(visible=False)


def style(axis: Axes, x: str, y: str) -> None:
    """The look that all axes share, with their names."""
    axis.set_xlabel(x, color=SOFT, fontsize=9)
    axis.set_ylabel(y, color=SOFT, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GRID)
    axis.grid(axis="y", color=GRID, lw=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", colors=SOFT, labelsize=8.5, length=0)
