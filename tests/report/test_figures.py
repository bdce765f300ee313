"""Figures exist, show what they should, and nothing where there is nothing to show."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.text import Annotation

from posjax.report import bins, figure_axes, figures, marks, series
from posjax.report.load import load
from tests.report import synthetic

pytestmark = pytest.mark.versionless


@pytest.mark.parametrize("name", list(figures.FIGURES))
def test_every_figure_is_a_png(folder, name):
    drawn = figures.draw(load(folder), name, dpi=40)
    assert drawn is not None and drawn.startswith(b"\x89PNG")


def test_figures_are_the_same_each_time(folder):
    assert figures.draw(load(folder), "retrieval", dpi=40) == figures.draw(load(folder), "retrieval", dpi=40)


@pytest.mark.exhaustive
def test_what_was_not_measured_is_not_drawn(tmp_path):
    folder = synthetic.make(tmp_path / "work")
    for run in ("alibi-needles", "rope-needles"):
        (folder / run / "results.json").unlink()
    written = figures.write(load(folder), tmp_path / "figures")
    assert "retrieval.png" not in {path.name for path in written} and len(written) == 4


def test_lines_carry_the_colour_of_the_method_and_the_style_of_the_variant(folder):
    report = load(folder)
    figure = figures.loss_by_length(report)
    assert figure is not None
    right = figure.axes[1]
    colours = {line.get_color() for line in right.lines if line.get_marker() == "o"}
    assert colours == {marks.LIGHT[marks.colours(report)["RoPE"]]}
    named = [text.get_text() for text in right.texts]
    assert {"RoPE", "RoPE, windowed", "RoPE + Linear", "RoPE + NTK", "RoPE + Yarn", "unigram", "bigram"} == set(named)


def test_an_ended_line_says_where_it_ended(folder):
    figure = figures.loss_by_length(load(folder))
    assert figure is not None
    assert "Learned (to 1x)" in [text.get_text() for text in figure.axes[0].texts]


def test_names_at_the_ends_of_lines_do_not_cover_each_other(folder):
    figure = figures.mass_beyond(load(folder))
    assert figure is not None
    heights = sorted(text.xy[1] for text in figure.axes[0].texts if isinstance(text, Annotation))
    assert len(heights) == 8
    assert all(b - a >= figure_axes.LABEL_GAP - 1e-9 for a, b in itertools.pairwise(heights))


@pytest.mark.parametrize(
    ("values", "placed"),
    [([0.5, 0.5, 0.5], [0.5, 0.6, 0.7]), ([0.95, 0.2, 0.96], [0.9, 0.2, 1.0]), ([], []), ([0.0, 1.0], [0.0, 1.0])],
)
def test_values_are_spread_upwards_and_kept_below_the_top(values, placed):
    assert series.spread(values, 0.1, 0.0, 1.0) == pytest.approx(placed)


def test_every_variant_has_a_line_style_of_its_own(folder):
    styles = marks.dashes(load(folder))
    assert styles["raw"] == marks.SOLID and styles["windowed"] == marks.DOTTED
    assert len(set(styles.values())) == len(styles) == 5


def test_long_curves_are_thinned_without_losing_their_ends(folder):
    steps = [row["step"] for row in series.training(load(folder)) if (row["name"], row["task"]) == ("RoPE", "text")]
    assert len(steps) <= series.STEPS and steps[-1] == 398


@pytest.mark.parametrize("count", [1, 2, 40, 5000])
def test_bins_of_distance_cover_every_distance_once(folder, count):
    path = folder / "rope" / "results.json"
    synthetic.edit(
        path,
        scores={
            "distances": list(range(count + 1)),
            "random": [0.0, *range(1, count + 1)],
            "trained": [0.0] * (count + 1),
        },
    )
    rows = [row for row in series.scores(load(folder), "random") if row["method"] == "RoPE"]
    assert 1 <= len(rows) <= bins.DISTANCES and rows[0]["low"] == 1
    assert all(a["high"] == b["low"] for a, b in itertools.pairwise(rows))
    # The score of a distance is the distance itself here, so each bin's mean lies within the bin.
    assert all(row["low"] - 1 <= row["score"] <= row["high"] for row in rows)
    assert rows[-1]["high"] >= count
