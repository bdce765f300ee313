"""A run's folder: claimed once, never mistaken for another's, and told of what has changed since."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from posjax import runs, workfolder
from posjax.encodings import Alibi, Rope, Yarn
from posjax.errors import InputError
from posjax.files import read_json
from posjax.identity import differences, tree
from posjax.models import DropoutRates
from posjax.surroundings import PACKAGES, commit
from posjax.training import Devices
from tests.training.tiny import corpus, optax_promotes, run  # noqa: F401


@pytest.fixture
def text(tmp_path):
    return corpus(tmp_path / "text")


@pytest.fixture
def mine(text):
    return run(text)


def fingerprint(run):
    return run.data.load().fingerprint


def snapshot(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_is_claimed_by_writing_what_repeats_the_run(tmp_path, mine):
    material = fingerprint(mine)
    workfolder.claim(mine, tmp_path / "run", material)
    assert os.listdir(tmp_path / "run") == ["run.json"]
    found = json.loads((tmp_path / "run/run.json").read_text())
    assert found["name"] == "rope" and found["label"] == "ROPE"
    assert found["config"] == repr(mine)
    assert found["config_tree"] == json.loads(json.dumps(tree(mine)))
    assert found["versions"]["jax"] == jax.__version__ and set(PACKAGES) < set(found["versions"])
    assert found["versions"]["python"].startswith("3.")
    assert found["devices"] == [str(jax.devices()[0])] and found["mesh"] == {
        "data": 1,
        "fsdp": 1,
        "tensor": 1,
        "context": 1,
    }
    assert found["device_kind"] == "cpu" and found["backend"] == "chunked"
    assert found["attention"].startswith("chunked, for float32 on cpu") and "bias: " in found["attention"]
    assert found["corpus"] == material
    assert found["commit"] == commit()


def test_the_same_run_may_come_back(tmp_path, mine, text):
    workfolder.claim(mine, tmp_path / "run", fingerprint(mine))
    before = snapshot(tmp_path / "run")
    workfolder.claim(run(text), tmp_path / "run", fingerprint(mine))
    workfolder.hold(mine, tmp_path / "run")
    assert snapshot(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: replace(r, seed=7), "seed is 0 there and 7 here"),
        (lambda r: replace(r, train=replace(r.train, steps=50)), "train.steps is 6 there and 50 here"),
        (
            lambda r: replace(r, model=r.model.with_encodings(lambda _: Rope(base=5.0))),
            "sublayers.0.encoding.base is 10000.0 there and",
        ),
        (
            lambda r: replace(r, model=r.model.with_encodings(lambda _: Alibi())),
            "sublayers.0.encoding.is is 'Rope' there and 'Alibi'",
        ),
        (
            lambda r: replace(r, evaluation=replace(r.evaluation, multiples=(1, 4))),
            "multiples is [1, 2] there and [1, 4]",
        ),
    ],
)
def test_another_config_is_refused_and_nothing_is_changed(tmp_path, mine, change, said):
    folder, material = tmp_path / "run", fingerprint(mine)
    workfolder.claim(mine, folder, material)
    before = snapshot(folder)
    for look in (workfolder.hold, lambda *given: workfolder.claim(*given, material)):
        with pytest.raises(InputError) as refusal:
            look(change(mine), folder)
        assert said in str(refusal.value) and str(folder) in str(refusal.value)
        assert "Nothing was changed; choose another folder with --work" in str(refusal.value)
    assert snapshot(folder) == before


def test_many_differences_are_counted(tmp_path, mine):
    workfolder.claim(mine, tmp_path / "run", fingerprint(mine))
    other = replace(mine, seed=1, train=replace(mine.train, steps=1, batch=8, length=4, accumulate=2))
    with pytest.raises(InputError, match="and 2 more"):
        workfolder.hold(other, tmp_path / "run")


def test_a_corpus_that_changed_is_refused(tmp_path, mine):
    workfolder.claim(mine, tmp_path / "run", fingerprint(mine))
    was = mine.data.load().fingerprint
    (Path(mine.data.paths[0]) / "d.txt").write_text("one more")
    with pytest.raises(InputError, match=f"{was}, and it is {mine.data.load().fingerprint} now"):
        workfolder.claim(mine, tmp_path / "run", fingerprint(mine))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, mine):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        workfolder.claim(mine, tmp_path / "file" / "x", fingerprint(mine))


def test_trees_are_plain_and_name_their_classes(text):
    mine = run(text, encoding=Rope(schedule=Yarn(4.0, 64)))
    plain = tree(mine)
    attention = plain["model"]["decoder"]["pattern"][0]["sublayers"][0]
    assert plain["is"] == "Run" and attention["encoding"]["schedule"]["is"] == "Yarn"
    assert plain["evaluation"]["multiples"] == [1, 2]
    assert differences(json.loads(json.dumps(plain)), mine) == []
    # A folder of a posjax that did not know a field yet is of the same config while the field is at its default.
    del plain["model"]["dropout"], plain["train"]["optimizer"]["b2"]
    assert differences(plain, mine) == []
    dropping = DropoutRates(residual=0.1)
    other = replace(mine, model=replace(mine.model, dropout=dropping))
    assert "model.dropout" in differences(plain, other)[0]
    assert tree(Rope()) != tree(Rope(fraction=0.5))


def test_differences_name_the_place():
    there, here = {"a": {"b": 1, "c": [1, 2]}, "d": None}, {"a": {"b": 2, "c": [1, 2]}, "e": 3}
    assert differences(there, here) == ["a.b is 1 there and 2 here", "e is None there and 3 here"]
    assert differences({"a": {"b": 1}}, {"a": 5}) == ["a is {'b': 1} there and 5 here"]


def test_without_its_manifest_a_folder_still_knows_whose_it_is(tmp_path, text):
    plan = run(text, steps=2)
    runs.train(plan, tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match="another config: seed is 0 there and 7 here"):
        runs.train(replace(plan, seed=7), tmp_path)
    assert not (tmp_path / "run.json").exists()
    runs.train(plan, tmp_path)
    assert read_json(tmp_path / "run.json")["name"] == "rope"


def test_the_commit_is_of_this_checkout_whatever_git_is_told(tmp_path, monkeypatch):
    told = commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert commit() == told


def test_going_on_elsewhere_is_told_and_kept(tmp_path, mine, monkeypatch):
    workfolder.claim(mine, tmp_path, fingerprint(mine))
    here = runs.surroundings
    monkeypatch.setattr(runs, "surroundings", lambda *given: {**here(*given), "device_kind": "TPU v9"})
    said = workfolder.claim(mine, tmp_path, fingerprint(mine))
    assert said == ["this goes on elsewhere than it was begun: device_kind was cpu and is TPU v9"]
    assert [s["device_kind"] for s in read_json(tmp_path / "run.json")["sessions"]] == ["TPU v9"]
    assert workfolder.claim(mine, tmp_path, fingerprint(mine)) == []


def test_how_a_run_is_computed_and_shown_is_no_part_of_what_it_is(tmp_path, mine):
    workfolder.claim(mine, tmp_path / "run", fingerprint(mine))
    changed = {"devices": Devices(fsdp=2, tensor=4), "log_every": 1, "profile": "1:2", "sinks": ("tensorboard",)}
    workfolder.hold(replace(mine, train=replace(mine.train, **changed)), tmp_path / "run")
    with pytest.raises(InputError, match="accumulate is 1 there and 2 here"):
        workfolder.hold(replace(mine, train=replace(mine.train, accumulate=2)), tmp_path / "run")


def test_results_that_nobody_knows_whose_they_are_stay_as_they_are(tmp_path, mine):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds results and no run\.json"):
        workfolder.check_target(mine, tmp_path)
    assert (tmp_path / "results.json").read_text() == "{}"
