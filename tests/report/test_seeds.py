"""Runs that differ in their seed alone are one method; whatever else they differ in keeps them apart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from posjax.report import charts, details, rows, words
from posjax.report.load import load
from posjax.results import interval
from tests.report import synthetic


@pytest.fixture
def swept(tmp_path):
    return synthetic.swept(tmp_path / "swept")


def test_a_row_is_the_mean_of_its_seeds_with_students_interval(swept):
    report = load(swept)
    assert [(run.label, len(run.each)) for run in report.language] == [("ALiBi", 3), ("RoPE", 3)]
    point = report.language[1].raw.lengths[4]
    ratios = np.array([2.98, 2.98 * 1.2, 2.98 * 0.9])
    assert point.ratio == pytest.approx(ratios.mean())
    assert (point.low, point.high) == pytest.approx(
        (ratios.mean() - interval(ratios), ratios.mean() + interval(ratios))
    )
    headline = rows.headline(report)
    assert [row.name for row in headline.rows if row.kind == "raw"] == ["ALiBi", "RoPE"]
    assert "of a mean over 3 seeds, by Student's t" in headline.notes[0]
    assert headline.rows[0].cells[0].detail == "±0.00"


def test_what_is_said_of_seeds_is_true(swept):
    report = load(swept)
    said = " ".join(words.caveats(report))
    assert "3 seeds: numbers are means" in said and "One seed" not in said
    assert "<dt>seeds</dt><dd>3</dd>" in details.facts(report)
    found = {conclusion.topic: conclusion.text for conclusion in words.conclusions(report)}
    assert found["Not the same in every seed"] == "ALiBi (flat by the mean at 4x, of 1.00, 1.20, 0.90)."


def test_one_seed_less_of_a_method_is_told(swept):
    for seed in (1, 2):
        (swept / f"alibi-s{seed}" / "results.json").unlink()
    report = load(swept)
    assert "Several seeds of RoPE (3)" in " ".join(words.caveats(report))
    assert "for RoPE (3), and of a bootstrap over windows for all others" in rows.headline(report).notes[0]


def test_every_run_has_its_costs_and_its_config_on_the_page(swept):
    told = details.reproduce(load(swept))
    assert all(f"<td>{name}-s{seed}</td>" in told for name in ("rope", "alibi") for seed in range(3))
    assert "<td>all 12</td>" in told


@pytest.mark.exhaustive
def test_dots_of_seeds_lie_behind_the_lines(swept):
    (chart, *_) = charts.sections(load(swept))[0].charts
    dots = [layer for layer in chart.spec["layer"] if layer.get("mark", {}) != {} and layer["mark"].get("size") == 16]
    values = [row for layer in dots for row in layer["data"]["values"]]
    assert len(values) == 2 * 2 * 3 * len(synthetic.LENGTHS) and {row["method"] for row in values} == {"RoPE", "ALiBi"}


def test_the_seed_in_a_swept_label_is_no_part_of_the_method(swept):
    for seed in range(3):
        path = swept / f"rope-s{seed}" / "results.json"
        tree = json.loads(path.read_text())
        for variant in tree["variants"][2:]:
            variant["label"] = f"RoPE seed={seed} + {variant['label']}"
        synthetic.edit(path, label=f"RoPE seed={seed}", variants=tree["variants"])
    (_, rope) = load(swept).language
    assert rope.label == "RoPE" and rope.of_kind("extension")[0].label == "RoPE + Linear"


def test_another_config_or_the_same_seed_twice_is_not_gathered(swept):
    synthetic.edit(swept / "rope-s1" / "run.json", config_tree={"name": "rope-s1", "steps": 500})
    synthetic.edit(swept / "alibi-s1" / "results.json", seed=0)
    sizes = [(run.label, len(run.each)) for run in load(swept).language]
    assert sizes == [("ALiBi", 1), ("ALiBi", 1), ("ALiBi", 1), ("RoPE", 2), ("RoPE", 1)]
