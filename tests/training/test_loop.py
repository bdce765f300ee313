"""The loop: a run that is interrupted anywhere ends with the bits of one that never was."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from rich.console import Console

from posjax.errors import Busy, Diverged, InputError, Stopped, StorageError
from posjax.files import owned
from posjax.lines import read
from posjax.training import AdamW, Checkpoints, Cosine, Devices, Train, TrainingProgress, fit, restored
from posjax.training.loop import Interrupts
from tests.training.tiny import Warm, batches, corpus, decoder, optax_promotes, patch_optax, train  # noqa: F401

SEED = 5


class Source:
    """Batches that call something before they hand out the batch of one step."""

    def __init__(self, inner, at, action):
        self.inner, self.at, self.action, self.asked = inner, at, action, []
        self.size = inner.size

    def rows(self, step, start, stop):
        self.asked.append(step)
        if step == self.at:
            self.action()
        return self.inner.rows(step, start, stop)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return batches(corpus(tmp_path_factory.mktemp("text")))


@pytest.fixture(scope="module")
def trainer():
    return Warm(train(), decoder())


@pytest.fixture(scope="module")
def whole(tmp_path_factory, trainer, data):
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch_optax(patch)
        return folder, fit(train(), trainer, data, SEED, folder)


@pytest.fixture
def straight(tmp_path, whole):
    """Six steps in one go: a folder to break, and the state."""
    folder = tmp_path / "straight"
    shutil.copytree(whole[0], folder)
    return folder, whole[1]


def losses(folder):
    return [
        (line["step"], line["loss"], line["gradient_norm"], line["learning_rate"])
        for line in read(folder / "metrics.jsonl").steps
    ]


def same(one, two):
    return jax.tree.all(jax.tree.map(np.array_equal, jax.device_get(one), jax.device_get(two)))


def test_every_step_is_logged_once_with_what_it_cost(straight):
    folder, state = straight
    lines = read(folder / "metrics.jsonl").steps
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert int(state.step) == 6
    schedule = AdamW(learning_rate=1e-2).rate(6)
    for line in lines:
        assert set(line) == {"step", "loss", "gradient_norm", "learning_rate", "tokens_per_second", "seconds"}
        assert line["learning_rate"] == pytest.approx(float(schedule(line["step"] - 1)))
        assert line["tokens_per_second"] == pytest.approx(4 * 8 / line["seconds"])


def test_a_run_that_dies_between_two_checkpoints_ends_with_the_same_bits(tmp_path, trainer, data, straight):
    class Dead(BaseException):
        """Not an error that anything catches, as with kill -9."""

    def die():
        raise Dead

    whole, state = straight
    folder = tmp_path / "killed"
    with pytest.raises(Dead):
        fit(train(), trainer, Source(data, 5, die), SEED, folder)
    assert [line["step"] for line in read(folder / "metrics.jsonl").steps][-1] in (3, 4, 5)
    resumed = Source(data, -1, None)
    again = fit(train(), trainer, resumed, SEED, folder)
    assert resumed.asked == [3, 4, 5]
    assert same(again, state)
    assert losses(folder) == losses(whole)


def test_a_finished_run_takes_no_step_and_changes_nothing(trainer, data, straight):
    folder, state = straight
    before = (folder / "metrics.jsonl").read_bytes()
    asked = Source(data, -1, None)
    assert same(fit(train(), trainer, asked, SEED, folder), state)
    assert asked.asked == [] and (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.exhaustive
def test_another_seed_is_another_run(tmp_path, trainer, data, straight):
    other = fit(train(), trainer, data, SEED + 1, tmp_path / "other")
    assert not same(other.params, straight[1].params)


def test_logging_more_often_changes_no_number(tmp_path, trainer, data, straight):
    folder = tmp_path / "often"
    state = fit(train(log_every=1, checkpoint_every=2), trainer, data, SEED, folder)
    assert same(state, straight[1]) and losses(folder) == losses(straight[0])


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def number(request):
    """A signal that is not ignored, as `nohup` would have it: what is ignored is not listened to."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_ends_the_step_keeps_it_and_tells_how_to_go_on(tmp_path, trainer, data, straight, number):
    folder = tmp_path / "stopped"
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="step 2 of 6; the checkpoint is kept, and the same command goes on"):
        fit(train(), trainer, Source(data, 1, lambda: os.kill(os.getpid(), number)), SEED, folder)
    assert signal.getsignal(number) is before
    with Checkpoints(folder / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 2
    resumed = Source(data, -1, None)
    assert same(fit(train(), trainer, resumed, SEED, folder), straight[1])
    assert resumed.asked == [2, 3, 4, 5] and losses(folder) == losses(straight[0])


def test_a_signal_in_the_last_step_keeps_it_and_lets_nothing_after_it_begin(tmp_path, trainer, data, straight):
    source = Source(data, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped, match="stopped at step 6 of 6; the checkpoint is kept"):
        fit(train(), trainer, source, SEED, tmp_path / "last")
    assert same(fit(train(), trainer, data, SEED, tmp_path / "last"), straight[1])


def test_the_second_signal_ends_at_once():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.asked
        with pytest.MonkeyPatch.context() as patch:
            ended = []
            patch.setattr(os, "_exit", ended.append)
            os.kill(os.getpid(), signal.SIGINT)
        assert ended == [75]


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(tmp_path, data):
    wild = train(steps=40, optimizer=AdamW(1e30, Cosine(warmup=1.0)), checkpoint_every=1, log_every=1)
    with pytest.raises(Diverged) as stop:
        fit(wild, wild.trainer(decoder(), 257), data, SEED, tmp_path)
    said = str(stop.value)
    lines = read(tmp_path / "metrics.jsonl").steps
    assert all(np.isfinite(line.get("loss", 0.0)) for line in lines)
    step = lines[-1]["step"] + 1
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        last = checkpoints.latest()
    assert last is not None and last < step
    assert f"at step {step}; the last good checkpoint is step {last} in {tmp_path}" in said
    assert "nan" in said or "inf" in said or "not finite" in said
    assert "learning-rate" in said and "\n" not in said


def test_a_loss_that_is_no_number_before_any_checkpoint_says_so(tmp_path, data):
    wild = train(steps=20, optimizer=AdamW(1e30, Cosine(warmup=0.0)), checkpoint_every=20)
    with pytest.raises(Diverged, match="no checkpoint was saved before it"):
        fit(wild, wild.trainer(decoder(), 257), data, SEED, tmp_path)


INFINITE = {"gradient_norm": jnp.float32(np.inf), "skipped": jnp.bool_(True)}


@dataclass
class Changed:
    """A trainer whose steps end otherwise: `change` is given each state and its numbers, and gives others."""

    trainer: Any
    change: Callable[[Any, Any], Any]

    def __getattr__(self, name):
        return getattr(self.trainer, name)

    def compiled(self, seed):
        advance = self.trainer.compiled(seed)
        return lambda state, batch: self.change(*advance(state, batch))


@pytest.mark.parametrize("number", ["gradient_norm", "parameter"])
def test_what_is_not_finite_is_never_kept(tmp_path, trainer, data, number):
    """A finite loss is not enough: the update of a step that looked well may not be."""

    def wild(state, numbers):
        if int(state.step) >= 4 and number == "gradient_norm":
            numbers = {**numbers, **INFINITE}
        if int(state.step) == 6 and number == "parameter":
            state = jax.tree.map(lambda x: x * jnp.nan if x.dtype == jnp.float32 else x, state)
        return state, numbers

    with pytest.raises(
        Diverged,
        match="the gradient norm is inf, 3 times in a row, at step 6"
        if number == "gradient_norm"
        else "a parameter or a moment of the optimiser is not finite at step 6",
    ):
        fit(train(), Changed(trainer, wild), data, SEED, tmp_path)
    found = restored(tmp_path / "checkpoints", trainer.abstract())
    assert found.step == 3 and all(np.isfinite(x).all() for x in jax.tree.leaves(found.state))


def test_a_folder_in_use_says_by_whom(tmp_path, trainer, data):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom posjax.files import owned\n"
        "with owned(Path(sys.argv[1])):\n    print('mine', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(Busy, match=f"is in use by process {other.pid} on .* since .*: wait"):
            fit(train(), trainer, data, SEED, tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["owner.lock"]
        other.kill()
    with owned(tmp_path), owned(tmp_path):  # A lock goes with its process; one process may take it twice.
        assert f"process {os.getpid()} on " in (tmp_path / "owner.lock").read_text()


def test_a_disk_that_refuses_a_save_ends_with_one_line(tmp_path, trainer, data, monkeypatch):
    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: no space left on device\nand\nmany\nmore lines")

    monkeypatch.setattr(ocp.Checkpointer, "save", full)
    with pytest.raises(StorageError, match=r"step 3 could not be written .*RESOURCE_EXHAUSTED") as said:
        fit(train(), trainer, data, SEED, tmp_path)
    assert "\n" not in str(said.value) and said.value.code == 74
    assert list((tmp_path / "checkpoints").iterdir()) == []
    monkeypatch.undo()
    assert int(fit(train(), trainer, data, SEED, tmp_path).step) == 6


def test_lines_that_are_gone_are_told_and_training_goes_on(tmp_path, trainer, data, straight):
    folder, state = straight
    shutil.rmtree(folder / "checkpoints" / "6")
    (folder / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 1.0}\n{"ste\xff}\n')
    out = io.StringIO()
    console = Console(file=out, width=500)
    again = fit(train(), trainer, data, SEED, folder, lambda start: TrainingProgress("x", 6, start, console))
    assert "lacks 2 of 3 steps, and 1 of its lines are damaged" in out.getvalue()
    assert same(again, state)
    assert [line["step"] for line in read(folder / "metrics.jsonl").steps] == [1, 4, 5, 6]


def test_a_refused_checkpoint_is_told_to_the_reader(tmp_path, trainer, data, straight):
    folder, state = straight
    newest = folder / "checkpoints" / "6" / "state"
    path = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:100])
    out = io.StringIO()
    console = Console(file=out, width=500)
    again = fit(train(), trainer, data, SEED, folder, lambda start: TrainingProgress("x", 6, start, console))
    assert "the checkpoint of step 6 was refused: " in out.getvalue() and "taken is step 3" in out.getvalue()
    assert same(again, state)
    assert len(list((folder / "checkpoints").glob("6.refused.*"))) == 1  # Set aside, for whoever can use it.


@pytest.mark.exhaustive
def test_two_devices_resume_to_the_bit_too(tmp_path, data):
    plan = train(devices=Devices(data=2))
    trainer = Warm(plan, decoder())
    state = fit(plan, trainer, data, SEED, tmp_path / "whole")
    source = Source(data, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped):
        fit(plan, trainer, source, SEED, tmp_path / "cut")
    assert same(fit(plan, trainer, data, SEED, tmp_path / "cut"), state)


@pytest.mark.parametrize("name", ["steps", "length", "batch", "checkpoint_every", "log_every"])
def test_a_number_below_one_is_refused_by_name(name):
    with pytest.raises(InputError, match=f"{name}=0"):
        Train(**{name: 0})


def test_skipped_steps_are_counted_on_where_a_training_goes_on(tmp_path, trainer, data):
    def skipping(stopped_at):
        def wild(state, numbers):
            if int(state.step) == stopped_at:
                os.kill(os.getpid(), signal.SIGTERM)
            if int(state.step) >= 4:
                numbers = {**numbers, **INFINITE}
            return state, numbers

        return Changed(trainer, wild)

    plan = train(steps=9, checkpoint_every=1, log_every=1)
    for stopped_at in (4, 5):
        with pytest.raises(Stopped):
            fit(plan, skipping(stopped_at), data, SEED, tmp_path)
    with pytest.raises(Diverged, match="3 times in a row, at step 6"):
        fit(plan, skipping(0), data, SEED, tmp_path)
