"""A work folder is read whole, or the file at fault is named."""

from __future__ import annotations

import json
import math
import shutil

import pytest

from posjax.errors import InputError
from posjax.report import marks
from posjax.report.load import load
from tests.report import synthetic

pytestmark = pytest.mark.versionless


def test_runs_come_in_the_order_of_the_experiment_with_the_unfinished_one_named(folder):
    report = load(folder)
    assert [run.name for run in report.language] == ["learned", "sinusoidal", "t5", "rope", "alibi"]
    assert [run.name for run in report.retrieval] == ["alibi-needles", "rope-needles"]
    assert report.unfinished == ("kerple",)


def test_without_an_order_runs_come_by_name(folder):
    synthetic.edit(folder / "experiment.json", runs=[])
    assert [run.name for run in load(folder).language] == ["alibi", "learned", "rope", "sinusoidal", "t5"]


def test_numbers_arrive_where_they_belong(folder):
    run = next(run for run in load(folder).language if run.name == "rope")
    point = run.raw.at(4)
    assert point is not None
    assert (point.ratio, point.low, point.high) == (2.98, 2.98 * 0.95, 2.98 * 1.06)
    assert math.isclose(point.loss, 1.637 + math.log(2.98))
    assert [variant.kind for variant in run.variants] == ["raw", "windowed"] + 3 * ["extension"]
    assert (run.yardsticks, run.manifest["backend"]) == ({"unigram": 3.31, "bigram": 2.38}, "chunked")


def test_an_ended_method_has_nothing_past_its_end(folder):
    learned = load(folder).language[0].raw
    assert learned.at(1) is not None
    assert learned.at(2) is None and learned.ends_before(2) and not learned.ends_before(1)


def test_null_stands_for_a_number_that_is_not_one(folder):
    path = folder / "rope" / "results.json"
    tree = json.loads(path.read_text())
    tree["variants"][0]["lengths"]["4"]["ratio"] = None
    synthetic.write(path, tree)
    point = next(run for run in load(folder).language if run.name == "rope").raw.at(4)
    assert point is not None and math.isnan(point.ratio)


def test_variants_without_a_label_are_spelled_from_their_names(folder):
    path = folder / "rope" / "results.json"
    tree = json.loads(path.read_text())
    synthetic.edit(path, variants=[{k: v for k, v in variant.items() if k != "label"} for variant in tree["variants"]])
    run = next(run for run in load(folder).language if run.name == "rope")
    assert [marks.name(run, variant) for variant in run.variants] == [
        "RoPE",
        "RoPE, windowed",
        "RoPE + Linear",
        "RoPE + NTK",
        "RoPE + Yarn",
    ]


def test_a_resumed_run_keeps_the_last_of_each_step_and_half_a_last_line_is_forgiven(folder):
    path = folder / "rope" / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 5}\n{"step": 2, "loss": 4}\n{"step": 2, "loss": 3}\n{"step": 3, "lo')
    metrics = next(run for run in load(folder).language if run.name == "rope").metrics
    assert [(entry["step"], entry["loss"]) for entry in metrics] == [(1, 5), (2, 3)]


def test_half_a_line_in_the_middle_is_damage(folder):
    (folder / "rope" / "metrics.jsonl").write_text('{"step": 1, "lo\n{"step": 2, "loss": 4}\n')
    with pytest.raises(InputError, match=r"rope/metrics\.jsonl is damaged \(line 1"):
        load(folder)


def test_a_missing_folder_and_a_folder_of_something_else(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no experiment\.json"):
        load(tmp_path)


def test_no_finished_run_says_which_were_begun(folder):
    for path in folder.glob("*/results.json"):
        path.unlink()
    with pytest.raises(InputError, match=r"no finished run \(begun: .*kerple.*\)"):
        load(folder)


def test_one_kind_of_run_is_enough(folder):
    for run in ("alibi-needles", "rope-needles"):
        shutil.rmtree(folder / run)
    assert load(folder).retrieval == ()


@pytest.mark.parametrize("text", ['{"kind": "langu', "[1, 2]", "\0\0\0", '{"kind": "poetry"}'])
def test_damaged_results_name_the_file(folder, text):
    (folder / "t5" / "results.json").write_text(text)
    with pytest.raises(InputError, match=r"t5/results\.json is damaged"):
        load(folder)


@pytest.mark.parametrize("entry", ["label", "variants", "yardsticks", "lengths", "tokens"])
def test_a_missing_entry_names_the_file_and_the_entry(folder, entry):
    path = folder / "t5" / "results.json"
    tree = json.loads(path.read_text())
    del tree[entry]
    synthetic.write(path, tree)
    with pytest.raises(InputError, match=rf"t5/results\.json is damaged \(no entry '{entry}'"):
        load(folder)


def test_results_without_a_raw_variant_are_damaged(folder):
    path = folder / "alibi" / "results.json"
    tree = json.loads(path.read_text())
    synthetic.edit(path, variants=tree["variants"][1:])
    with pytest.raises(InputError, match="no variant of kind 'raw'"):
        load(folder)
