"""A run and its folder: claimed once, never mistaken for another, written whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import jax
import pytest

from posjax import feasibility, runs, workfolder
from posjax.attention import Full
from posjax.data import Needles
from posjax.encodings import Alibi, Learned
from posjax.errors import InputError
from posjax.evaluation import Extrapolation, Retrieval
from posjax.files import read_json
from posjax.models import Output, build, encoder
from posjax.results import Measurements
from posjax.runs import Experiment, Material, Run
from posjax.training import Devices
from tests.data.tokenizers_of_tests import by_characters
from tests.small import small
from tests.training.tiny import corpus, decoder, optax_promotes, run, train  # noqa: F401


@pytest.fixture
def text(tmp_path):
    return corpus(tmp_path / "text")


@pytest.fixture
def mine(text):
    return run(text)


def snapshot(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_config_in_the_manifest_rebuilds_the_run(mine):
    import posjax
    from posjax import data, evaluation, models, training

    names = {**vars(posjax), **vars(runs), **vars(data), **vars(models), **vars(training), **vars(evaluation)}
    assert eval(workfolder.manifest(mine, None)["config"], names) == mine


def test_a_folder_without_a_run_is_not_made_one_by_looking(tmp_path, mine):
    for action in (lambda: workfolder.hold(mine, tmp_path / "run"), lambda: runs.restore(mine, tmp_path / "run")):
        with pytest.raises(InputError, match="holds no run: train it first"):
            action()
    assert not (tmp_path / "run").exists()


def test_training_that_has_not_ended_is_not_evaluated(tmp_path, mine):
    workfolder.claim(mine, tmp_path / "run", Material.open(mine).fingerprint)
    with pytest.raises(InputError, match="trained to step 0 of 6"):
        runs.restore(mine, tmp_path / "run")


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
        ("model", "width", 1.5),
        ("model", "width", 0),
        ("model", "embedding", None),
        ("model", "decoder", "two layers"),
        ("model", "width", 2**30),
        ("train", "compute", "bfloat16"),
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
        ("model", {"decoder": replace(small().decoder, layers=10**9)}),
        ("model", {"width": 2**26, "decoder": small(width=2**26, heads=2**12, key_value_heads=1).decoder}),
        ("train", {"batch": 2**31 - 1}),
        ("evaluation", {"windows": 2**31 - 1}),
    ],
)
def test_what_this_machine_cannot_hold_is_told_before_it_is_tried(mine, where, change):
    lower = "layers" if where == "model" else next(iter(change))
    with pytest.raises(InputError, match=f"GiB and this machine has .*: lower .*{lower}"):
        runs.check(replace(mine, **{where: replace(getattr(mine, where), **change)}))


def test_what_a_machine_holds_of_a_state_follows_the_mesh(mine):
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # Two thirds of the memory: once it fits, and on each of two devices it does not.
    parameters = memory * 2 // (3 * 16)

    def held(**devices):
        plan = replace(mine.train, devices=Devices(**devices))
        feasibility.room("mine", parameters, plan, measured=8)

    held(data=1)
    held(fsdp=2)
    with pytest.raises(InputError, match="the model's parameters would take"):
        held(data=2)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (encoder(width=16, heads=2), "has an encoder"),
        (small(mask=Full()), "lets tokens look ahead"),
        (replace(small(), output=Output(classes=2)), "predicts classes"),
    ],
)
def test_a_model_that_sees_its_answers_is_not_trained_on_them(mine, model, said):
    with pytest.raises(InputError, match=said):
        replace(mine, model=model)


@pytest.mark.exhaustive
def test_heads_that_are_wider_than_the_stream_are_trained_and_evaluated(tmp_path, text):
    plan = run(text, steps=2)
    plan = replace(plan, model=small(feed_forward=16, head_size=32))
    runs.check(plan)
    found = taken(runs.evaluate(plan, tmp_path, runs.train(plan, tmp_path)))
    assert found.one("score", of="random", distance=0).value == 0


@pytest.mark.exhaustive
def test_results_of_a_folder_that_may_only_be_read_go_elsewhere(tmp_path, text):
    plan, folder = run(text, steps=2), tmp_path / "theirs"
    runs.train(plan, folder)
    (folder / "owner.lock").unlink()
    before = snapshot(folder)
    runs.evaluate(plan, folder, runs.restore(plan, folder), to=tmp_path / "mine")
    assert snapshot(folder) == before
    assert {"run.json", "results.json"} < {p.name for p in (tmp_path / "mine").iterdir()}


def test_a_mesh_that_leaves_devices_of_many_processes_out_is_refused(mine, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="takes 1 devices, and the 2 processes have 2 together: all are needed"):
        runs.check(mine)


def test_what_does_not_go_together_is_refused(text):
    good = run(text)
    with pytest.raises(InputError, match=r"Needles is a task|no answers at a depth"):
        replace(good, data=Needles())
    with pytest.raises(InputError, match=r"Needles is a task|no answers at a depth"):
        replace(good, evaluation=Retrieval())
    with pytest.raises(InputError, match="lengthen the table"):
        replace(good, model=decoder(Learned(length=4)))
    with pytest.raises(InputError, match="two runs named 'rope'"):
        Experiment("t", "q?", (good, good))
    with pytest.raises(InputError, match="no runs"):
        Experiment("t", "q?", ())


@pytest.mark.exhaustive
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
    trained_model = runs.train(plan, tmp_path)
    results = runs.evaluate(plan, tmp_path, trained_model)
    assert workfolder.finished(tmp_path) and read_json(tmp_path / "results.json") == json.loads(json.dumps(results))
    assert results["labels"] == {"raw": "Needle", "yarn": "Needle + YaRN", "windowed": "Needle + window"}
    assert taken(results).one("chance").value == 0.25 and results["tokens"] == 2 * 4 * 16
    assert {row.count for row in taken(results).select("accuracy")} == {8}
    assert results["parameters"] == sum(
        x.size
        for x in jax.tree.leaves(
            jax.eval_shape(lambda: __import__("flax").nnx.state(build(plan.model, task.vocabulary, 0)))
        )
    )
    assert timeless(runs.evaluate(plan, tmp_path, runs.restore(plan, tmp_path))) == timeless(results)
    assert read_json(tmp_path / "run.json")["corpus"] is None


def taken(results: dict) -> Measurements:
    return Measurements.from_tree(results["measurements"])


def timeless(results: dict) -> dict:
    """Results without how long it took to find them."""
    return {name: value for name, value in results.items() if name != "seconds"}


@pytest.mark.exhaustive
def test_a_text_run_is_evaluated(tmp_path, text):
    plan = run(text, steps=2, encoding=Alibi())
    results = runs.evaluate(plan, tmp_path, runs.train(plan, tmp_path))
    assert isinstance(plan.evaluation, Extrapolation)
    assert taken(results).distinct("variant") == ("raw", "windowed")
    assert all(results["seconds"][what] > 0 for what in ("train", "evaluate"))
    assert results["corpus"]["fingerprint"] == text.load().fingerprint


@pytest.mark.exhaustive
def test_a_run_with_a_tokenizer_is_held_to_its_content(tmp_path, text):
    file = by_characters(tmp_path)
    data = replace(text, tokenizer=str(file), begin="<s>")
    plan = run(data, steps=2, encoding=Alibi())
    results = runs.evaluate(plan, tmp_path / "run", runs.train(plan, tmp_path / "run"))
    assert results["corpus"]["fingerprint"] == read_json(tmp_path / "run/run.json")["corpus"] == data.load().fingerprint
    assert taken(results).one("bytes_per_token").value > 0.9 and results["corpus"]["vocabulary"] == data.vocabulary
    runs.restore(plan, tmp_path / "run")
    # The same size and other text: nothing in the model's numbers would tell.
    file.write_text(file.read_text().replace('"q"', '"Q"'))
    with pytest.raises(InputError, match=r"trained with another content of .*characters.json"):
        runs.restore(plan, tmp_path / "run")
