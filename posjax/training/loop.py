"""The training loop: batches in order, metrics, checkpoints, and safe ends."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from posjax.data import Batches
from posjax.errors import BrokenLaw, Diverged, InputError, Stopped
from posjax.lines import Lines, read
from posjax.training.checkpoints import Checkpoints, Restored
from posjax.training.checks import Checks
from posjax.training.launch import any_of, first, flags, owned_by_first
from posjax.training.mesh import load
from posjax.training.metrics import Metrics, NoMetrics
from posjax.training.plan import Train, about, training_fingerprint
from posjax.training.progress import TrainingProgress
from posjax.training.speed import Pace, Tracing, operations, peak
from posjax.training.step import ASKED, State, Trainer
from posjax.training.stopping import StopDecision
from posjax.training.validating import BEST, NoWatch, Watch, history


@dataclass(frozen=True)
class Given:
    """What a training is given beside its rows.

    `start` makes the parameters that it begins from, placed as the trainer's are; it is asked where there is no
    checkpoint to go on from. `before` says of which training they are, as `about` does, and so does each checkpoint.
    `validate` measures the loss of a state, for `Train.stop`. `data` is the task that is read, which no fingerprint of
    a text tells: each checkpoint says that it is of this too.
    """

    start: Callable[[], Any] | None = None
    before: Any = None
    validate: Callable[[State], float] | None = None
    data: Any = None


NOTHING = Given()


def fit(
    train: Train,
    trainer: Trainer,
    batches: Batches,
    seed: int,
    folder: Path,
    progress_from: Callable[[int], TrainingProgress] | None = None,
    corpus: str | None = None,
    given: Given = NOTHING,
) -> State:
    """Trains to the last step, from the newest checkpoint in `folder` if there is one, and returns the final state.

    Where `train.stop` is there, it may end before, and returns the best state.

    The result is a function of (train, model, data, seed): a run that was killed and started again ends with the same
    bits, on the same versions and devices. `progress_from(step)` makes what shows the progress. `corpus` is the text's
    fingerprint: with the configuration it is what each checkpoint says that it is of.

    Errors: `Diverged` where a number or the state is not finite, before such a state is kept; `Stopped` after Ctrl-C,
    SIGTERM or SIGHUP, both with the last step that is kept; `BrokenLaw` where `train.check` finds a model that breaks
    one of its laws; `Busy` for a folder that another process trains in; `StorageError` for a disk that refuses;
    `InputError` for a folder of another configuration.
    """
    mine = about(train, trainer.model, trainer.vocabulary, seed, corpus, given.before, given.data)
    with owned_by_first(folder), Checkpoints(folder / "checkpoints", mine) as checkpoints:
        pace = Pace()
        found = checkpoints.restore(trainer.abstract())
        done = found.step
        state = _begun(found, trainer, seed, given)
        # One process tells and writes what all of them do.
        if not first():
            progress_from = _quiet
        progress = (progress_from or _quiet)(done)
        # Before anything is written to it.
        path = folder / "metrics.jsonl"
        lines = read(path, training_fingerprint(mine))
        for note in (*found.told, *_gaps(path, lines, done)):
            progress.say(note)
        watch = _watch(train, folder, done, mine, given, lines)
        if done < train.steps and not watch.is_over:
            with (
                progress,
                _metrics(path, done, train, mine) as metrics,
                Interrupts() as interrupts,
                Tracing(train.profile, folder / "profile") as tracing,
                watch,
            ):
                checks = Checks(train.check, trainer, progress.say)
                session = _Session(
                    train, trainer, checkpoints, metrics, progress, interrupts, pace, checks, watch, tracing
                )
                session.skipped = _skipped_before(lines, done)
                state = session.to_the_end(state, done, batches, seed)
            # Whoever asked during the last step did not ask for what comes after the training either. That step took
            # nobody's word along any more.
            jax.block_until_ready(state)
            if any_of(interrupts.asked):
                checkpoints.wait()
                raise Stopped(_stopped(train.steps, train.steps))
        if isinstance(watch, Watch):
            progress.say(_best(watch.verdict))
            return watch.result(trainer.abstract())
        return state


def _begun(found: Restored, trainer: Trainer, seed: int, given: Given) -> State:
    """The state that was kept, or that before the first step."""
    if found.state is not None:
        return found.state
    if given.start is None:
        return trainer.start(seed)
    return trainer.start_from(given.start())


def _skipped_before(lines: Lines, done: int) -> int:
    """How many of the last steps that are done changed nothing: a training that goes on counts from there."""
    count = 0
    for line in reversed([line for line in lines.steps if line["step"] <= done]):
        if "skipped" not in line:
            break
        count += 1
    return count


def _watch(train: Train, folder: Path, done: int, mine: dict[str, Any], given: Given, lines: Lines) -> Watch | NoWatch:
    """What early stopping does after each step. Errors: `InputError` where nothing can measure, or lines are lost."""
    if train.stop is None:
        return NoWatch()
    if given.validate is None:
        raise InputError("Train has stop, and nothing measures the loss: give fit given=Given(validate=...)")
    measured = history(train.stop, train.steps, lines, done, folder / "metrics.jsonl")
    return Watch(train.stop, train.steps, given.validate, Checkpoints(folder / BEST, mine), measured)


def _best(verdict: StopDecision) -> str:
    return (
        f"the validation loss was lowest after step {verdict.best_step}, {verdict.best_loss:.3f}: that state is taken"
    )


def _gaps(path: Path, lines: Lines, done: int) -> list[str]:
    """What of the steps that are done a metrics file does not tell."""
    missing, damaged = lines.missing(done), len(lines.damaged)
    told = []
    if lines.others:
        told.append(f"{path} holds {len(lines.others)} lines of another run, which are not believed")
    if not missing and not damaged:
        return told
    return [
        *told,
        f"{path} lacks {missing} of {done} steps, and {damaged} of its lines are damaged: training goes on, and "
        "the report leaves these out",
    ]


def _metrics(path: Path, done: int, train: Train, mine: dict[str, Any]) -> Metrics | NoMetrics:
    if first():
        return Metrics(path, done, train.sinks, training_fingerprint(mine), mine)
    return NoMetrics()


def _quiet(start: int) -> TrainingProgress:
    return TrainingProgress("", 0, start, Console(quiet=True))


@dataclass
class _Session:
    """One process's part of a run."""

    train: Train
    trainer: Trainer
    checkpoints: Checkpoints
    metrics: Metrics | NoMetrics
    progress: TrainingProgress
    interrupts: Interrupts
    pace: Pace
    checks: Checks
    watch: Watch | NoWatch
    tracing: Tracing
    skipped: int = 0
    """How many steps in a row changed nothing, up to the last that was reported."""
    told: Any = False
    """Whether the last step said that one of many processes was asked to stop."""

    def to_the_end(self, state: State, done: int, batches: Batches, seed: int) -> State:
        train = self.train
        advance = self.trainer.compiled(seed)
        waiting: list[tuple[int, dict[str, jax.Array]]] = []
        clock = time.perf_counter()
        together = jax.process_count() > 1
        self.pace.mark("state")
        for step in range(done + 1, train.steps + 1):
            # Batches count from 0 and depend on nothing else, so that a run which goes on reads what it would have.
            self.tracing.before(step)
            batch = load(batches, step - 1, self.trainer.mesh)
            self.pace.mark("batch")
            if together:
                batch[ASKED] = flags(self.trainer.mesh, self.interrupts.asked)
            state, metrics = advance(state, batch)
            self.pace.mark("compiling")
            self.tracing.after(step, metrics)
            waiting.append((step, metrics))
            # Read once a step: what is asked for later is for the next step to see.
            asked = self.asked()
            self.told = metrics.pop(ASKED, False)
            clock += self._held(step, state, batch)
            keep = asked or step % train.checkpoint_every == 0 or step == train.steps
            measures = self.watch.measures(step)
            # Not at each step, since to fetch a number is to wait for the device.
            if keep or measures or len(waiting) >= train.log_every:
                clock = self._report(waiting, clock, state, measures)
                waiting = []
            # What ends the training is kept as its last step would be.
            if keep or self.watch.is_over:
                self._require_finite(step, state)
                # The lines first: a checkpoint whose lines are lost would leave a gap in the report.
                self.metrics.keep()
                # And the best state, which may be this one: no later process would measure it again.
                self.watch.wait()
                self.checkpoints.save(step, state)
            if asked:
                self.checkpoints.wait()
                raise Stopped(_stopped(step, train.steps))
            if self.watch.is_over:
                break
        # Most of the first step's time is compiling, which is told apart.
        self._tell_pace(step - done)
        return state

    def _tell_pace(self, steps: int) -> None:
        train, trainer = self.train, self.trainer
        each = operations(trainer.model, trainer.vocabulary, train.length)
        told = self.pace.told(steps, train.batch * train.length, each, peak(trainer.mesh))
        self.progress.say(f"{self.progress.label}: {told}")

    def _require_finite(self, step: int, state: State) -> None:
        """Errors: `Diverged`. The loss of a step says nothing of its own update: only a finite state may be kept."""
        if not bool(_finite(state)):
            raise Diverged(self._diverged(step, "a parameter or a moment of the optimiser is not finite"))

    def asked(self) -> bool:
        """Whether to stop: of many processes by what the last step told all, as none knows of another's signal."""
        if jax.process_count() > 1:
            return bool(self.told)
        return self.interrupts.asked

    def _held(self, step: int, state: State, batch: dict[str, jax.Array]) -> float:
        """How many seconds a check took, if one is due. Errors: `BrokenLaw`."""
        if not self.checks.due(step):
            return 0.0
        # Of two programs at once, processes would mix up what belongs to which.
        jax.block_until_ready(state)
        began = time.perf_counter()
        broken = self.checks.broken(state.params, batch)
        if broken is not None:
            raise BrokenLaw(
                f"at step {step} {broken}; {self._kept()}. No training mends that: mend the code and use another "
                "folder with --work, or go on without by --train.check.every 0"
            )
        # Tokens a second are those of training.
        taken = time.perf_counter() - began
        self.pace.aside(taken)
        return taken

    def _report(
        self, waiting: list[tuple[int, dict[str, jax.Array]]], clock: float, state: State, measures: bool
    ) -> float:
        """Fetches, checks, writes and shows the numbers of the last few steps, and measures the state after them."""
        fetched = [(step, _as_floats(metrics)) for step, metrics in waiting]
        # After the numbers are here: until then the device may still be computing them.
        now = time.perf_counter()
        # A clock that stands still, as in some sandboxes, divides nothing by zero.
        seconds = max(now - clock, 1e-9) / len(fetched)
        tokens = self.train.batch * self.train.length
        schedule = self.train.optimizer.rate(self.train.steps)
        last_step, last_metrics = fetched[-1]
        for step, metrics in fetched:
            numbers = self._sound(step, metrics)
            if measures and step == last_step:
                self._require_finite(step, state)
                numbers |= self.watch.after(step, state)
            line = {
                **numbers,
                "learning_rate": float(np.asarray(schedule(step - 1))),
                "tokens_per_second": tokens / seconds,
                "seconds": seconds,
            }
            self.metrics.write(step, line)
        self.progress.update(last_step, last_metrics["loss"], tokens / seconds)
        # What it took to measure is no part of the steps that come.
        if measures:
            measured = time.perf_counter()
            self.pace.aside(measured - now)
            return measured
        return now

    def _sound(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """What a step's line says of its numbers. Errors: `Diverged` for one skipped step too many in a row."""
        if not metrics.pop("skipped"):
            self.skipped = 0
            return metrics
        self.skipped += 1
        wrong = [
            f"the {name.replace('_', ' ')} is {value}" for name, value in metrics.items() if not math.isfinite(value)
        ]
        if self.skipped >= self.train.skips:
            often = ""
            if self.skipped > 1:
                often = f", {self.skipped} times in a row,"
            raise Diverged(self._diverged(step, f"{' and '.join(wrong)}{often}"))
        self.progress.say(f"step {step} was skipped: {' and '.join(wrong)}")
        # No JSON has such numbers.
        return {"skipped": 1.0}

    def _kept(self) -> str:
        last = self.checkpoints.latest()
        if last is None:
            return f"no checkpoint was saved before it in {self.checkpoints.folder}"
        return f"the last good checkpoint is step {last} in {self.checkpoints.folder}"

    def _diverged(self, step: int, what: str) -> str:
        return (
            f"{what} at step {step}; {self._kept()}. Lower train.optimizer.learning-rate, or "
            "raise its schedule.warmup, and use another folder with --work"
        )


def _as_floats(metrics: dict[str, jax.Array]) -> dict[str, float]:
    """The numbers of one step, fetched from the device together."""
    fetched = jax.device_get(metrics)
    return {name: float(number) for name, number in fetched.items()}


def _stopped(step: int, steps: int) -> str:
    return f"stopped at step {step} of {steps}; the checkpoint is kept, and the same command goes on from there"


@jax.jit
def _finite(state: State) -> jax.Array:
    """Whether every number of a state is finite."""
    # Counters of the optimiser are whole numbers, which always are.
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    each = [jnp.all(jnp.isfinite(leaf)) for leaf in leaves]
    return jnp.all(jnp.stack(each))


AT_ONCE = b"posjax: stopped at once; the last checkpoint is kept, and the same command goes on from it\n"
"""What a second signal is told."""


class Interrupts:
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into a request to stop after this step; the second ends at once.

    At once is safe: what is on disk is whole at any time.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python gives signals to its main thread, and lets no other set what becomes of them.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # As nohup leaves the last one.
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            # An exception might be raised, and lost, inside a callback of jax.
            # Nor is it told to a terminal that was closed: the code stays the same.
            with contextlib.suppress(OSError):
                os.write(2, AT_ONCE)
            os._exit(Stopped.code)
        self.asked = True
