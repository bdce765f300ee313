"""Stages: each training begins with what the last one ended with, and none is done twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from posjax import report, runs
from posjax.data import Needles
from posjax.encodings import Learned, NoPE, Rope, T5Bias, Yarn
from posjax.errors import InputError
from posjax.evaluation import Extrapolation, Retrieval
from posjax.files import read_json, write_json
from posjax.interop import describe, pretrained, write
from posjax.lines import read
from posjax.models import Compute, build
from posjax.runs import Run
from posjax.stages import Stage, Stages
from posjax.training import Devices, EarlyStop, Lion, carried, restored
from posjax.training.validating import Validation
from tests.cases import first_of
from tests.training.tiny import corpus, decoder, optax_promotes, patch_optax, run, train  # noqa: F401

TABLE = Learned(length=16)
LONGER = Rope(schedule=Yarn(factor=2.0, original_length=8))


class Dead(BaseException):
    """Not an error that anything catches, as with kill -9."""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("text"))


def first(**changes) -> Stage:
    return Stage(train(steps=2, checkpoint_every=1), **changes)


def second(**changes) -> Stage:
    changes = {"steps": 3, "length": 16, "batch": 2, "checkpoint_every": 1, "optimizer": Lion()} | changes
    return Stage(train(**changes))


def staged(text, *stages, encoding=LONGER) -> Run:
    evaluation = Extrapolation(multiples=(1, 2), windows=2, extensions=())
    return Run("two", "Two", decoder(encoding), text, Stages(stages or (first(model=decoder()), second())), evaluation)


def learned(folder: Path, part) -> dict:
    """What a stage has kept in its newest checkpoint."""
    found = restored(folder / "checkpoints", part.trainer().abstract(), only="params")
    return jax.device_get(found.state)


def state_of(model):
    return nnx.state(model)


def same(one, two) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, jax.device_get(one), jax.device_get(two)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, text):
    """A run of two stages, trained and evaluated, and what it said."""
    folder, said = tmp_path_factory.mktemp("work") / "two", []
    plan = staged(text)
    with pytest.MonkeyPatch.context() as patch:
        patch_optax(patch)
        runs.check(plan)
        results = runs.evaluate(plan, folder, runs.train(plan, folder, say=said.append))
    return plan, folder, results, said


def test_each_stage_has_a_folder_and_the_run_counts_all_of_them(whole):
    plan, folder, results, said = whole
    assert not (folder / "checkpoints").exists() and not (folder / "metrics.jsonl").exists() and said == []
    assert [read(folder / f"stages/{n}/metrics.jsonl").missing(steps) for n, steps in ((0, 2), (1, 3))] == [0, 0]
    assert results["tokens"] == 2 * 4 * 8 + 3 * 2 * 16 == plan.train.tokens
    assert results["trained_length"] == 16 and results["seconds"]["train"] > 0
    told = read_json(folder / "run.json")["stages"]
    assert [(stage["folder"], stage["steps"]) for stage in told] == [("stages/0", 2), ("stages/1", 3)]


def test_the_report_shows_the_stages_one_after_the_other(whole):
    _, folder, _, _ = whole
    write_json(folder.parent / "experiment.json", {"name": "n", "title": "t", "question": "q?", "command": "c"})
    (shown,) = report.load(folder.parent).runs
    assert [line["step"] for line in shown.metrics] == [1, 2, 3, 4, 5]
    losses = [line["loss"] for n in (0, 1) for line in read(folder / f"stages/{n}/metrics.jsonl").steps]
    assert [line["loss"] for line in shown.metrics] == losses


def test_a_finished_run_is_restored_and_not_trained_again(whole, monkeypatch):
    plan, folder, _, _ = whole
    before = {path: path.read_bytes() for path in folder.rglob("metrics.jsonl")}
    monkeypatch.setattr("posjax.training.step.Trainer.compiled", None)
    models = [runs.train(plan, folder).model, runs.restore(plan, folder).model]
    assert {path: path.read_bytes() for path in before} == before
    kept = learned(folder / "stages/1", plan.parts()[1])
    assert all(same(jax.tree.leaves(kept), jax.tree.leaves(state_of(model))) for model in models)
    assert models[0].architecture.encoding == LONGER


@pytest.mark.exhaustive
@first_of("died_in", [0, 1], keep=1)
def test_a_run_that_dies_in_a_stage_ends_with_the_same_bits(tmp_path, whole, monkeypatch, died_in):
    plan, straight, _, _ = whole
    fit, seen = runs.stages.training.fit, []

    class Rows:
        def __init__(self, inner):
            self.inner, self.size = inner, inner.size

        def rows(self, step, start, stop):
            if step == 1:
                raise Dead
            return self.inner.rows(step, start, stop)

    def dying(plan_of_stage, trainer, batches, seed, folder, *rest):
        seen.append(folder.name)
        if folder.name == str(died_in):
            batches = Rows(batches)
        return fit(plan_of_stage, trainer, batches, seed, folder, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(runs.stages.training, "fit", dying)
        with pytest.raises(Dead):
            runs.train(plan, tmp_path)
    with pytest.raises(InputError, match=rf"stages/1 is trained to step {died_in} of 3: run experiments.train first"):
        runs.restore(plan, tmp_path)
    again = runs.train(plan, tmp_path).model
    assert same(jax.tree.leaves(state_of(again)), jax.tree.leaves(learned(straight / "stages/1", plan.parts()[1])))


@pytest.mark.exhaustive
def test_a_stage_begins_with_the_last_ones_parameters(tmp_path, text):
    # A step so small that it changes no number.
    still = train(steps=1, length=16, batch=2, optimizer=Lion(learning_rate=1e-30))
    plan = staged(text, first(model=decoder()), Stage(still))
    model = runs.train(plan, tmp_path).model
    assert same(jax.tree.leaves(state_of(model)), jax.tree.leaves(learned(tmp_path / "stages/0", plan.parts()[0])))


def test_stages_draw_rows_of_their_own(text):
    plan = staged(text, first(), first())
    rows = [batches.batch(0)["inputs"] for batches in runs.Material.open(plan).rows]
    assert not np.array_equal(*rows)
    alone = replace(plan, train=train(steps=2))
    assert np.array_equal(runs.Material.open(alone).batches.batch(0)["inputs"], rows[0])


@pytest.mark.exhaustive
def test_a_table_is_dropped_and_a_bias_is_drawn_and_both_are_told(tmp_path, text):
    said = []
    plan = staged(text, first(model=decoder(TABLE)), second(), encoding=T5Bias(buckets=4))
    runs.check(plan)
    model = runs.train(plan, tmp_path, say=said.append).model
    assert (
        said
        == [
            "two, stage 1: dropped, as this model has no place for it: encodings.decoder.0.table",
            "two, stage 1: drawn anew, as the model before has not learned it: encodings.decoder.0.table",
        ]
        or len(said) == 2
    )
    assert model.architecture.encoding == T5Bias(buckets=4)


@pytest.mark.parametrize(
    ("before", "after", "dropped", "drawn"),
    [
        (decoder(TABLE), decoder(NoPE()), 1, 0),
        (decoder(NoPE()), decoder(TABLE), 0, 1),
        (decoder(Rope()), decoder(LONGER), 0, 0),
    ],
)
def test_what_goes_over_is_known_before_anything_is_trained(before, after, dropped, drawn):
    found = carried(before, after, 257)
    assert (len(found.dropped), len(found.drawn)) == (dropped, drawn) and len(found.told) == dropped + drawn


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (decoder(width=32), decoder(), "in more than its encodings: width is 32 there and 16 here"),
        (
            decoder(TABLE),
            decoder(Learned(length=32)),
            r"encodings\.decoder\.0\.\S+ is of shape \[16, 16\] in the model",
        ),
    ],
)
def test_what_does_not_go_over_is_refused_by_name(text, before, after, why):
    with pytest.raises(InputError, match=why):
        carried(before, after, 257)
    with pytest.raises(InputError, match=f"two: .*{why}"):
        runs.check(replace(staged(text, first(model=before), second()), model=after))


@pytest.mark.exhaustive
def test_layers_may_be_looped_over_and_split_in_one_stage_alone(tmp_path, text):
    deep = decoder(layers=2)
    looped = replace(second().train, compute=Compute(scan=True), devices=Devices(data=1, fsdp=2), steps=1)
    stages = (first(), Stage(looped), Stage(replace(first().train, steps=1, optimizer=Lion(learning_rate=1e-30))))
    plan = replace(staged(text, *stages), model=deep)
    model = runs.train(plan, tmp_path).model
    kept = jax.tree.leaves(learned(tmp_path / "stages/1", plan.parts()[1]))
    mine = jax.tree.leaves(state_of(model))
    assert sum(leaf.size for leaf in kept) == sum(leaf.size for leaf in mine) and len(kept) < len(mine)
    total = [
        sum(float(np.square(leaf.astype(np.float64)).sum()) for leaf in jax.device_get(one)) for one in (kept, mine)
    ]
    assert total[0] == pytest.approx(total[1], rel=1e-12)


def test_another_first_stage_is_another_run(tmp_path, whole):
    plan, straight, _, _ = whole
    shutil.copytree(straight, tmp_path / "two")
    (tmp_path / "two/run.json").unlink()
    other = replace(plan, train=Stages((Stage(train(steps=2, batch=2), decoder()), second())))
    with pytest.raises(InputError, match=r"belongs to another config: before\.batch is 4 there and 2 here"):
        runs.train(other, tmp_path / "two", say=lambda line: None)


@pytest.mark.exhaustive
def test_a_stage_may_stop_early_and_the_next_begins_with_its_best(tmp_path, text, monkeypatch):
    losses = {1: 1.0, 2: 2.0, 3: 3.0}
    monkeypatch.setattr(Validation, "__call__", lambda self, state: losses[int(state.step)])
    stop = EarlyStop(every=1, patience=2, windows=2)
    stopped = train(steps=9, checkpoint_every=9, stop=stop)
    still = train(steps=1, optimizer=Lion(learning_rate=1e-30))
    plan = staged(text, Stage(stopped, decoder()), Stage(still))
    runs.check(plan)
    results = runs.evaluate(plan, tmp_path, runs.train(plan, tmp_path))
    assert results["tokens"] == (3 + 1) * 4 * 8 and results["seconds"]["train"] > 0
    best = restored(tmp_path / "stages/0/checkpoints/best", plan.parts()[0].trainer().abstract(), only="params", at=1)
    assert same(jax.tree.leaves(best.state), jax.tree.leaves(state_of(runs.restore(plan, tmp_path).model)))


@pytest.mark.exhaustive
def test_a_published_model_is_trained_further(tmp_path, text):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40}
    llama = {"model_type": "llama", "vocab_size": 300, "rope_theta": 1e4, "max_position_embeddings": 8, **sizes}
    model = build(describe(llama).required(), 300, 0)
    write(model, tmp_path / "published", config=llama)
    weights = pretrained(tmp_path / "published")
    still = train(steps=1, devices=Devices(data=1, fsdp=2), optimizer=Lion(learning_rate=1e-30))
    extended = weights.architecture.with_encodings(lambda encoding: LONGER)
    plan = replace(staged(text, Stage(weights), Stage(still)), model=extended)
    runs.check(plan)
    trained = runs.train(plan, tmp_path / "run")
    results = runs.evaluate(plan, tmp_path / "run", trained)
    assert same(jax.tree.leaves(state_of(trained.model)), jax.tree.leaves(state_of(model)))
    assert trained.model.vocabulary == 300 and results["tokens"] == 32
    assert same(jax.tree.leaves(state_of(runs.restore(plan, tmp_path / "run").model)), jax.tree.leaves(state_of(model)))


def test_what_makes_no_run_is_refused(text):
    with pytest.raises(InputError, match="Stages end with no training"):
        Stages(())
    with pytest.raises(InputError, match="the last of the stages has a model of its own"):
        Stages((first(model=decoder()),))
    with pytest.raises(InputError, match="task in one stage and text in another"):
        staged(text, first(data=Needles()), second())
    with pytest.raises(InputError, match=r"trains at length 8 and .* holds 4 positions"):
        staged(text, first(model=decoder(Learned(length=4))), second())
    with pytest.raises(InputError, match="stops early on a task"):
        stop = replace(first().train, stop=EarlyStop())
        replace(staged(text), data=Needles(), evaluation=Retrieval(), train=Stages((Stage(stop), second())))
