"""Early stopping: the best state is kept apart, and a training that was interrupted stops where it would have."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from posjax.data import begun, validation_windows
from posjax.errors import InputError
from posjax.lines import read
from posjax.training import AdamW, Checkpoints, Devices, EarlyStop, Train, fit, restored
from posjax.training.loop import Given
from posjax.training.validating import Validation
from tests.cases import first_of
from tests.training.tiny import LENGTH, Warm, batches, corpus, decoder, optax_promotes, patch_optax, train  # noqa: F401

SEED = 5
STOP = EarlyStop(every=2, patience=2, windows=3)
LOSSES = {2: 3.0, 4: 2.0, 6: 2.5, 8: 2.0, 10: 1.0, 12: 1.0}
"""By step: the training stops after 8, and 4 is the best."""


class Dead(BaseException):
    """Not an error that anything catches, as with kill -9."""


def plan(**changes) -> Train:
    return train(**{"steps": 12, "checkpoint_every": 3, "stop": STOP} | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return batches(corpus(tmp_path_factory.mktemp("text")))


@pytest.fixture(scope="module")
def trainer():
    return Warm(plan(), decoder())


def told(die_at=None):
    """Measures what `LOSSES` says, once each; and dies at a step."""

    def validate(state):
        if int(state.step) == die_at:
            raise Dead
        return LOSSES[int(state.step)]

    return Given(validate=validate)


def same(one, two):
    return jax.tree.all(jax.tree.map(np.array_equal, jax.device_get(one), jax.device_get(two)))


def measured(folder):
    lines = read(folder / "metrics.jsonl").steps
    return {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, trainer, data):
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch_optax(patch)
        return folder, fit(plan(), trainer, data, SEED, folder, given=told())


@pytest.mark.exhaustive
def test_it_stops_after_its_patience_and_gives_the_best_state(whole):
    folder, state = whole
    assert int(state.step) == 4
    assert measured(folder) == {step: LOSSES[step] for step in (2, 4, 6, 8)}
    lines = read(folder / "metrics.jsonl").steps
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert [line["step"] for line in lines if "stopped" in line] == [8]


@pytest.mark.exhaustive
def test_what_does_not_stop_early_reads_the_same_rows_and_loses_nothing(tmp_path, trainer, data, whole):
    plain = fit(plan(steps=12, stop=None), trainer, data, SEED, tmp_path)
    mine, theirs = ([line["loss"] for line in read(f / "metrics.jsonl").steps] for f in (whole[0], tmp_path))
    assert mine == theirs[:8] and int(plain.step) == 12


@first_of("die_at", [2, 4, 6, 8], keep=2)
def test_a_training_that_dies_stops_where_it_would_have(tmp_path, trainer, data, whole, die_at):
    with pytest.raises(Dead):
        fit(plan(), trainer, data, SEED, tmp_path, given=told(die_at))
    assert same(fit(plan(), trainer, data, SEED, tmp_path, given=told()), whole[1])
    assert measured(tmp_path) == measured(whole[0])


def test_one_that_has_stopped_takes_no_step(trainer, data, whole):
    folder, state = whole
    before = (folder / "metrics.jsonl").read_bytes()
    assert same(fit(plan(), trainer, data, SEED, folder, given=told(2)), state)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_the_best_is_never_taken_away_by_newer_steps(whole):
    folder, state = whole
    kept = {path.name for path in (folder / "checkpoints").iterdir() if path.name.isdecimal()}
    assert kept == {"6", "8"}
    found = restored(folder / "checkpoints/best", jax.eval_shape(lambda: state), at=4)
    assert same(found.state, state)


def test_lines_that_are_lost_are_no_reason_to_take_a_worse_state(tmp_path, trainer, data):
    with pytest.raises(Dead):
        fit(plan(), trainer, data, SEED, tmp_path, given=told(6))
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="lacks the validation loss of step 2, by which the training stops"):
        fit(plan(), trainer, data, SEED, tmp_path, given=told())


def test_another_patience_is_another_training(trainer, data, whole):
    other = plan(stop=replace(STOP, patience=3))
    with pytest.raises(InputError, match=r"stop\.patience is 2 there and 3 here"):
        fit(other, trainer, data, SEED, whole[0], given=told())


def test_without_anything_that_measures_it_is_refused(tmp_path, trainer, data):
    with pytest.raises(InputError, match="nothing measures the loss"):
        fit(plan(), trainer, data, SEED, tmp_path)


@pytest.mark.exhaustive
def test_the_loss_is_the_mean_of_its_windows_on_any_mesh(tmp_path):
    documents = corpus(tmp_path).load()
    windows = begun(documents, validation_windows(documents, LENGTH, 3, SEED))
    found = []
    for devices in (1, 2):
        shared = Train(length=LENGTH, batch=2, optimizer=AdamW(), devices=Devices(data=devices))
        trainer = shared.trainer(decoder(), 257)
        state = trainer.start(SEED)
        # Three windows, two at a time: what fills the second batch counts nothing.
        found.append(Validation(trainer, windows, rows=2)(state))
    logits = trainer.trained(jax.device_get(state.params))(windows[:, :-1])
    losses = -np.take_along_axis(jax.nn.log_softmax(logits), windows[:, 1:, None], axis=-1)
    assert found == pytest.approx([float(losses.mean())] * 2, abs=1e-6)


def test_the_best_and_the_newest_are_written_at_once(tmp_path):
    state = {str(number): np.ones((64, 64), np.float32) for number in range(8)}
    for step in range(1, 6):
        with Checkpoints(tmp_path / "newest") as newest, Checkpoints(tmp_path / "newest/best") as best:
            newest.save(step, state)
            best.save(step, state)
    assert newest.latest() == best.latest() == 5
