"""The figure of a record: one line for each method, drawn from its table alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from experiments.pages.picture_axes import LEGEND, style
from experiments.pages.pictures import png
from posjax.report.figure_axes import INK
from posjax.report.marks import LIGHT
from posjax.results import Coordinate, Measurement, Measurements

METRICS = ("accuracy", "loss_ratio", "loss", "shift_error", "score", "cpu_ratio")
"""What is drawn: the first of these that a table has along an axis."""
AXES = {
    "multiple": "tokens, as a multiple of the trained length",
    "distance": "distance",
    "offset": "offset of all positions",
    "length": "tokens",
}
PANELS = ("task", "kind", "pass", "angles", "of")
"""What is drawn apart: the first of these that takes several values."""
RATIOS = ("loss_ratio", "cpu_ratio")
LOGARITHMIC = (*RATIOS, "shift_error")
TITLES = {
    "raw": "as trained",
    "windowed": "with a window of the trained length",
    "extension": "extended, without training",
    "fill": "untrained rows filled",
}
MARKERS = "os^Dvx*P"
"""Colours come again after eight methods, and then with another of these."""
DASHES = {"windowed": ":", "extension": "--", "fill": "--"}
MOST = 18
"""Lines in a panel: more cannot be told apart."""


@dataclass(frozen=True)
class RecordChart:
    """What of a table is drawn: `rows` of one metric along one coordinate, apart by a third where there is one."""

    rows: Measurements
    metric: str
    axis: str
    apart: str | None

    @property
    def panels(self) -> tuple[Coordinate | None, ...]:
        if self.apart is None:
            return (None,)
        return self.rows.distinct(self.apart)

    def of(self, panel: Coordinate | None) -> Measurements:
        """The rows of one panel."""
        if self.apart is None or panel is None:
            return self.rows
        return self.rows.select(**{self.apart: panel})


def chart_of(table: Measurements) -> RecordChart | None:
    """What of a table is worth a figure; `None` where nothing in it has an axis.

    >>> from posjax.results import Measurement
    >>> rows = [Measurement("loss", 2.0 + n, coordinates={"label": "RoPE", "multiple": n}) for n in (1, 2)]
    >>> chart_of(Measurements(tuple(rows))).metric
    'loss'
    """
    for metric in METRICS:
        for axis in AXES:
            rows = Measurements.of(row for row in table.select(metric) if isinstance(row.at(axis), int | float))
            # The hardest depth alone: what is near is found by everyone.
            if depths := [depth for depth in rows.distinct("depth") if depth is not None]:
                rows = rows.select(depth=min(depths))
            if len(rows.distinct(axis)) > 1:
                several = [name for name in PANELS if len(rows.distinct(name)) > 1]
                return RecordChart(rows, metric, axis, next(iter(several), None))
    return None


def draw(chart: RecordChart, dpi: int = 110) -> bytes:
    """The figure as a PNG: a panel below the other, lines named at its right, bands from seed to seed."""
    count = len(chart.panels)
    figure = Figure(figsize=(8.0, 0.4 + 2.6 * count), layout="constrained")
    # Ways to evaluate the same models are compared with each other, and tasks are not.
    axes = np.atleast_1d(figure.subplots(count, 1, sharex=True, sharey=chart.apart == "kind"))
    for axis, panel in zip(axes, chart.panels, strict=True):
        left_out = _lines(axis, chart, chart.of(panel))
        style(axis, "", chart.metric.replace("_", " "))
        title = ""
        if panel is not None:
            title = TITLES.get(str(panel), str(panel))
        if left_out:
            title += f" ({left_out} more in the table)"
        if title:
            axis.set_title(title, loc="left", fontsize=9, color=INK)
        axis.legend(**LEGEND | {"fontsize": 7}, loc="center left", bbox_to_anchor=(1.0, 0.5))
    style(axes[-1], AXES[chart.axis], chart.metric.replace("_", " "))
    return png(figure, dpi)


def _lines(axis: Axes, chart: RecordChart, rows: Measurements) -> int:
    """The methods' lines, and how many of them the panel has no room for."""
    labels = chart.rows.distinct("label")
    methods: dict[tuple[Any, Any], list[Measurement]] = {}
    for row in rows:
        methods.setdefault((row.at("label"), row.at("variant")), []).append(row)
    marks: Counter[Any] = Counter()
    is_one = len({label for label, _ in methods}) == 1
    for n, ((label, variant), own) in enumerate(list(methods.items())[:MOST]):
        name = str(label)
        if variant not in (None, "raw"):
            name += f", {variant}"
        # Of a single model the colours are for its variants.
        cycle, colour = divmod(n if is_one else labels.index(label), len(LIGHT))
        # Of one method the variants differ by their markers.
        marker = (cycle + marks[label]) % len(MARKERS)
        look: dict[str, Any] = {"color": LIGHT[colour], "marker": MARKERS[marker]}
        marks[label] += 1
        _line(axis, chart, own, name, look)
    if chart.axis == "multiple":
        axis.set_xscale("log", base=2)
        ticks = [at for at in chart.rows.distinct(chart.axis) if isinstance(at, int)]
        axis.set_xticks(ticks, [f"{tick}x" for tick in ticks])
    elif chart.axis != "length":
        axis.set_xscale("symlog", base=2, linthresh=1)
    if chart.metric in LOGARITHMIC:
        axis.set_yscale("log")
    # Of a ratio there is no decade to count by.
    if chart.metric in RATIOS:
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(NullLocator())
    return max(len(methods) - MOST, 0)


def _line(axis: Axes, chart: RecordChart, rows: Sequence[Measurement], name: str, look: dict[str, Any]) -> None:
    """The mean of a method, and a band from its lowest seed to its highest."""
    places = sorted({row.at(chart.axis) for row in rows}, key=float)  # type: ignore[arg-type]
    values = [[row.value for row in rows if row.at(chart.axis) == place] for place in places]
    dashes = DASHES.get(str(rows[0].at("kind")), "-")
    means = [float(np.mean(several)) for several in values]
    lows, highs = [min(several) for several in values], [max(several) for several in values]
    axis.plot(places, means, ls=dashes, lw=1.4, ms=3.5, label=name, **look)
    axis.fill_between(places, lows, highs, color=look["color"], alpha=0.12, lw=0)
