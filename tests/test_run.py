"""A run and its folder: claimed once, never mistaken for another, written whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from posjax import run as runs
from posjax.data import Needles
from posjax.encodings import Alibi, Learned, Rope, Yarn
from posjax.errors import InputError, StorageError
from posjax.evaluation import Extrapolation, Retrieval
from posjax.files import read_json, write_json
from posjax.identity import differences, tree
from posjax.models import build
from posjax.run import REMEDY, Experiment, Material, Run
from posjax.surroundings import PACKAGES, commit
from posjax.training import Devices
from tests.training.tiny import corpus, decoder, optax_promotes, run, train  # noqa: F401


@pytest.fixture
def text(tmp_path):
    return corpus(tmp_path / "text")


@pytest.fixture
def mine(text):
    return run(text)


def snapshot(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_is_claimed_by_writing_what_repeats_the_run(tmp_path, mine):
    material = Material.open(mine)
    runs.claim(mine, tmp_path / "run", material)
    assert os.listdir(tmp_path / "run") == ["run.json"]
    found = json.loads((tmp_path / "run/run.json").read_text())
    assert found["name"] == "rope" and found["label"] == "ROPE"
    assert found["config"] == repr(mine)
    assert found["config_tree"] == json.loads(json.dumps(tree(mine)))
    assert found["versions"]["jax"] == jax.__version__ and set(PACKAGES) < set(found["versions"])
    assert found["versions"]["python"].startswith("3.")
    assert found["devices"] == [str(jax.devices()[0])] and found["mesh"] == {"data": 1}
    assert found["device_kind"] == "cpu" and found["backend"] == "chunked"
    assert found["attention"].startswith("chunked, for float32 on cpu") and "bias: " in found["attention"]
    assert found["corpus"] == material.fingerprint == mine.data.load().fingerprint
    assert found["commit"] == commit()


def test_the_config_in_the_manifest_rebuilds_the_run(mine):
    import posjax
    from posjax import data, evaluation, models, training

    names = {**vars(posjax), **vars(runs), **vars(data), **vars(models), **vars(training), **vars(evaluation)}
    assert eval(runs.manifest(mine, Material.open(mine))["config"], names) == mine


def test_the_same_run_may_come_back(tmp_path, mine, text):
    runs.claim(mine, tmp_path / "run", Material.open(mine))
    before = snapshot(tmp_path / "run")
    runs.claim(run(text), tmp_path / "run", Material.open(mine))
    runs.claim(mine, tmp_path / "run", None)
    assert snapshot(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: replace(r, seed=7), "seed is 0 there and 7 here"),
        (lambda r: replace(r, train=replace(r.train, steps=50)), "train.steps is 6 there and 50 here"),
        (
            lambda r: replace(r, model=replace(r.model, encoding=Rope(base=5.0))),
            "model.encoding.base is 10000.0 there and",
        ),
        (
            lambda r: replace(r, model=replace(r.model, encoding=Alibi())),
            "model.encoding.is is 'Rope' there and 'Alibi'",
        ),
        (
            lambda r: replace(r, evaluation=replace(r.evaluation, multiples=(1, 4))),
            "multiples is [1, 2] there and [1, 4]",
        ),
    ],
)
def test_another_config_is_refused_and_nothing_is_changed(tmp_path, mine, change, said):
    folder, material = tmp_path / "run", Material.open(mine)
    runs.claim(mine, folder, material)
    before = snapshot(folder)
    for kept in (material, None):
        with pytest.raises(InputError) as refusal:
            runs.claim(change(mine), folder, kept)
        assert said in str(refusal.value) and str(folder) in str(refusal.value)
        assert "Nothing was changed; choose another folder with --work" in str(refusal.value)
    assert snapshot(folder) == before


def test_many_differences_are_counted(tmp_path, mine):
    runs.claim(mine, tmp_path / "run", Material.open(mine))
    other = replace(mine, seed=1, train=replace(mine.train, steps=1, batch=8, length=4, log_every=1))
    with pytest.raises(InputError, match="and 2 more"):
        runs.claim(other, tmp_path / "run", None)


def test_a_corpus_that_changed_is_refused(tmp_path, mine):
    runs.claim(mine, tmp_path / "run", Material.open(mine))
    was = mine.data.load().fingerprint
    (Path(mine.data.paths[0]) / "d.txt").write_text("one more")
    with pytest.raises(InputError, match=f"{was}, and it is {mine.data.load().fingerprint} now"):
        runs.claim(mine, tmp_path / "run", Material.open(mine))


def test_a_folder_without_a_run_is_not_made_one_by_looking(tmp_path, mine):
    for action in (lambda: runs.claim(mine, tmp_path / "run", None), lambda: runs.restore(mine, tmp_path / "run")):
        with pytest.raises(InputError, match="holds no run: train it first"):
            action()
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, mine):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        runs.claim(mine, tmp_path / "file" / "x", Material.open(mine))


def test_training_that_has_not_ended_is_not_evaluated(tmp_path, mine):
    runs.claim(mine, tmp_path / "run", Material.open(mine))
    with pytest.raises(InputError, match="trained to step 0 of 6"):
        runs.restore(mine, tmp_path / "run")


def test_trees_are_plain_and_name_their_classes(text):
    mine = run(text, encoding=Rope(schedule=Yarn(4.0, 64)))
    plain = tree(mine)
    assert plain["is"] == "Run" and plain["model"]["encoding"]["schedule"]["is"] == "Yarn"
    assert plain["evaluation"]["multiples"] == [1, 2]
    assert differences(json.loads(json.dumps(plain)), mine) == []
    # A folder of a posjax that did not know a field yet is of the same config while the field is at its default.
    del plain["model"]["tied"], plain["train"]["optimizer"]["b2"]
    assert differences(plain, mine) == []
    other = replace(mine, model=replace(mine.model, tied=True))
    assert differences(plain, other) == ["model.tied is None there and True here"]
    assert tree(Rope()) != tree(Rope(fraction=0.5))


def test_differences_name_the_place():
    there, here = {"a": {"b": 1, "c": [1, 2]}, "d": None}, {"a": {"b": 2, "c": [1, 2]}, "e": 3}
    assert differences(there, here) == ["a.b is 1 there and 2 here", "e is None there and 3 here"]
    assert differences({"a": {"b": 1}}, {"a": 5}) == ["a is {'b': 1} there and 5 here"]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    assert read_json(path, REMEDY) == {"a": 1}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path, REMEDY) == {"a": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed here")))
        with pytest.raises(StorageError, match="killed here"):
            write_json(path, {"a": 2})
    assert read_json(path, REMEDY) == {"a": 1}


def test_damaged_json_is_told(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_json(tmp_path / "run.json", REMEDY)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/abs",
        "..",
        ".",
        "",
        "a/b",
        "report.html",
        "figures",
        "[/x]",
        "experiment.json",
        "a\0b",
        "\udcff",
        "x" * 101,
        "-x",
        "con\nsole",
    ],
)
def test_a_name_is_a_plain_folder_name(mine, name):
    with pytest.raises(InputError, match="needed is"):
        replace(mine, name=name)


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        ("train", "steps", 2.5),
        ("train", "length", 16.0),
        ("train", "steps", 10**12),
        ("train", "optimizer", None),
        ("train", "devices", None),
        ("train", "sinks", ("prometheus",)),
        ("model", "layers", 1.5),
        ("model", "layers", 0),
        ("model", "feed_forward", 0),
        ("model", "feed_forward", -1),
        ("model", "epsilon", -1.0),
        ("model", "dtype", "int8"),
        ("model", "model_size", 2**30),
        ("evaluation", "multiples", (1, 2.0)),
        ("evaluation", "extensions", ("yarm",)),
        ("", "seed", 1.5),
        ("", "seed", 2**67),
        ("", "seed", -1),
        ("", "data", None),
        ("", "evaluation", None),
        ("", "label", b"x"),
        ("", "label", "\ud800"),
    ],
)
def test_every_field_of_a_config_is_held_to_its_type(mine, where, field, value):
    with pytest.raises(InputError, match=field):
        replace(getattr(mine, where) if where else mine, **{field: value})


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("model", {"layers": 10**9}),
        ("model", {"model_size": 2**26, "heads": 2**12, "kv_heads": 1}),
        ("train", {"batch": 2**31 - 1}),
        ("evaluation", {"windows": 2**31 - 1}),
    ],
)
def test_what_this_machine_cannot_hold_is_told_before_it_is_tried(mine, where, change):
    with pytest.raises(InputError, match=f"GiB and this machine has .*: lower .*{next(iter(change))}"):
        runs.check(replace(mine, **{where: replace(getattr(mine, where), **change)}))


def test_heads_that_are_wider_than_the_stream_are_trained_and_evaluated(tmp_path, text):
    plan = run(text, steps=2)
    plan = replace(plan, model=replace(plan.model, head_size=2 * plan.model.model_size))
    runs.check(plan)
    assert runs.evaluate(plan, tmp_path, runs.train(plan, tmp_path))["scores"]["random"][0] == 0


def test_without_its_manifest_a_folder_still_knows_whose_it_is(tmp_path, text):
    plan = run(text, steps=2)
    runs.train(plan, tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match="another config: seed is 0 there and 7 here"):
        runs.train(replace(plan, seed=7), tmp_path)
    assert not (tmp_path / "run.json").exists()
    runs.train(plan, tmp_path)
    assert read_json(tmp_path / "run.json", REMEDY)["name"] == "rope"


def test_going_on_elsewhere_is_told_and_kept(tmp_path, mine, monkeypatch):
    runs.claim(mine, tmp_path, Material.open(mine))
    here = runs.surroundings
    monkeypatch.setattr(runs, "surroundings", lambda *given: {**here(*given), "device_kind": "TPU v9"})
    said = runs.claim(mine, tmp_path, Material.open(mine))
    assert said == ["this goes on elsewhere than it was begun: device_kind was cpu and is TPU v9"]
    assert [s["device_kind"] for s in read_json(tmp_path / "run.json", REMEDY)["sessions"]] == ["TPU v9"]
    assert runs.claim(mine, tmp_path, Material.open(mine)) == []


def test_results_of_a_folder_that_may_only_be_read_go_elsewhere(tmp_path, text):
    plan, folder = run(text, steps=2), tmp_path / "theirs"
    runs.train(plan, folder)
    (folder / "owner.lock").unlink()
    before = snapshot(folder)
    runs.evaluate(plan, folder, runs.restore(plan, folder), to=tmp_path / "mine")
    assert snapshot(folder) == before
    assert {"run.json", "results.json"} < {p.name for p in (tmp_path / "mine").iterdir()}


def test_several_processes_are_refused(mine, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="process 0 of 2: posjax trains in one process"):
        runs.check(mine)


def test_what_does_not_go_together_is_refused(text):
    good = run(text)
    with pytest.raises(InputError, match="Needles go with Retrieval"):
        replace(good, data=Needles())
    with pytest.raises(InputError, match="Needles go with Retrieval"):
        replace(good, evaluation=Retrieval())
    with pytest.raises(InputError, match="lengthen the table"):
        replace(good, model=decoder(Learned(length=4)))
    with pytest.raises(InputError, match="two runs named 'rope'"):
        Experiment("t", "q?", (good, good))
    with pytest.raises(InputError, match="no runs"):
        Experiment("t", "q?", ())


def test_a_needle_run_goes_all_the_way(tmp_path):
    task = Needles(keys=4, values=4, fillers=2, needles=2)
    plan = Run(
        "needle",
        "Needle",
        decoder(),
        task,
        train(length=16, steps=2, devices=Devices(data=2)),
        Retrieval(multiples=(1, 2), depths=(0.0, 0.5), sequences=4),
    )
    subject = runs.train(plan, tmp_path)
    results = runs.evaluate(plan, tmp_path, subject)
    assert runs.finished(tmp_path) and read_json(tmp_path / "results.json", REMEDY) == json.loads(json.dumps(results))
    assert [v["label"] for v in results["variants"]] == ["Needle", "Needle + YaRN", "Needle + window"]
    assert results["chance"] == 0.25 and results["queries"] == 8 and results["tokens"] == 2 * 4 * 16
    assert results["parameters"] == sum(
        x.size
        for x in jax.tree.leaves(
            jax.eval_shape(lambda: __import__("flax").nnx.state(build(plan.model, task.vocabulary, 0)))
        )
    )
    assert timeless(runs.evaluate(plan, tmp_path, runs.restore(plan, tmp_path))) == timeless(results)
    assert read_json(tmp_path / "run.json", REMEDY)["corpus"] is None


def timeless(results: dict) -> dict:
    """Results without how long it took to find them."""
    return {name: value for name, value in results.items() if name != "seconds"}


def test_a_text_run_is_evaluated(tmp_path, text):
    plan = run(text, steps=2, encoding=Alibi())
    results = runs.evaluate(plan, tmp_path, runs.train(plan, tmp_path))
    assert isinstance(plan.evaluation, Extrapolation)
    assert [v["name"] for v in results["variants"]] == ["raw", "windowed"]
    assert all(results["seconds"][what] > 0 for what in ("train", "evaluate"))
    assert results["corpus"]["fingerprint"] == text.load().fingerprint
