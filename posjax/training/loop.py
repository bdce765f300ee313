"""The training loop: batches in order, metrics, checkpoints, and safe ends."""

from __future__ import annotations

import math
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import jax
import numpy as np
from rich.console import Console

from posjax.data import Batches
from posjax.errors import InputError, Stopped
from posjax.training import mesh as meshes
from posjax.training.checkpoints import Checkpoints
from posjax.training.mesh import Devices
from posjax.training.metrics import Metrics, Sink
from posjax.training.optimizer import AdamW
from posjax.training.progress import TrainingProgress
from posjax.training.step import State, Trainer


@dataclass(frozen=True)
class Train:
    """How a model is trained: `steps` batches of `batch` rows of `length` tokens.

    `checkpoint_every` and `log_every` are in steps: what is logged is one line a step, written in groups so that the
    device is not waited for. `sinks` adds "tensorboard" or "wandb" to the JSON lines.

    Errors: `InputError` for a number below 1.
    """

    steps: int = 400
    length: int = 64
    batch: int = 32
    optimizer: AdamW = AdamW()  # noqa: RUF009  (frozen)
    devices: Devices = Devices()  # noqa: RUF009
    checkpoint_every: int = 100
    log_every: int = 10
    sinks: tuple[Sink, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "length", "batch", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"Train got {name}={getattr(self, name)}: needed is 1 or more")


def trainer(train: Train, model: Any, vocabulary: int) -> Trainer:
    """What makes and advances the state of such a training."""
    return Trainer(model, vocabulary, train.optimizer, train.steps, train.devices.mesh(train.batch))


def fit(train: Train, machine: Trainer, batches: Batches, seed: int, folder: Path, progress: Any = None) -> State:
    """Trains to the last step, from the newest checkpoint in `folder` if there is one, and returns the final state.

    The result is a function of (train, model, data, seed): a run that was killed and started again ends with the same
    bits, on the same versions and devices. `progress(start)` makes what shows the progress.

    Errors: `Stopped` when the loss is not finite, or after Ctrl-C or SIGTERM, both with the last step that is kept.
    """
    with Checkpoints(folder / "checkpoints") as checkpoints:
        done, state, refused = checkpoints.restore(machine.abstract())
        state = machine.start(seed) if state is None else state
        shown = (progress or _quiet)(done)
        with shown, Metrics(folder / "metrics.jsonl", done, train.sinks) as metrics, Interrupts() as interrupts:
            for reason in refused:
                shown.console.print(f"checkpoint refused: {reason}; going on from step {done}")
            session = _Session(train, machine, checkpoints, metrics, shown, interrupts)
            return session.run(state, done, batches, seed)


def _quiet(start: int) -> TrainingProgress:
    return TrainingProgress("", 0, start, Console(quiet=True))


@dataclass
class _Session:
    """One process's part of a run."""

    train: Train
    machine: Trainer
    checkpoints: Checkpoints
    metrics: Metrics
    shown: TrainingProgress
    interrupts: Interrupts

    def run(self, state: State, done: int, batches: Batches, seed: int) -> State:
        advance, train = self.machine.step(seed), self.train
        waiting: list[tuple[int, dict[str, jax.Array]]] = []
        clock = time.perf_counter()
        for step in range(done + 1, train.steps + 1):
            state, numbers = advance(state, meshes.place(batches.batch(step - 1), self.machine.mesh))
            waiting.append((step, numbers))
            asked = self.interrupts.asked
            keep = asked or step % train.checkpoint_every == 0 or step == train.steps
            if keep or len(waiting) >= train.log_every:
                clock = self._report(waiting, clock)
                waiting = []
            if keep:
                self.checkpoints.save(step, state)
            if asked and step < train.steps:
                raise Stopped(f"stopped at step {step} of {train.steps}; the checkpoint is kept, and the same command "
                              "goes on from there")
        return state

    def _report(self, waiting: list[tuple[int, dict[str, jax.Array]]], clock: float) -> float:
        """Fetches, checks, writes and shows the numbers of the last few steps."""
        fetched = [(step, {name: float(n) for name, n in jax.device_get(numbers).items()}) for step, numbers in waiting]
        now = time.perf_counter()
        seconds = (now - clock) / len(fetched)
        tokens = self.train.batch * self.train.length
        schedule = self.train.optimizer.schedule(self.train.steps)
        for step, numbers in fetched:
            if not math.isfinite(numbers["loss"]):
                raise Stopped(self._diverged(step, numbers["loss"]))
            self.metrics.write(step, {**numbers, "learning_rate": float(np.asarray(schedule(step - 1))),
                                      "tokens_per_second": tokens / seconds, "seconds": seconds})
        self.shown.update(fetched[-1][0], fetched[-1][1]["loss"], tokens / seconds)
        return now

    def _diverged(self, step: int, loss: float) -> str:
        last = self.checkpoints.latest()
        kept = "no checkpoint was saved before it" if last is None else f"the last good checkpoint is step {last}"
        return (f"the loss is {loss} at step {step}; {kept} in {self.checkpoints.folder}. Lower "
                "train.optimizer.learning-rate, or raise its warmup, and use another folder with --work")


class Interrupts:
    """Turns the first Ctrl-C or SIGTERM into a request to stop after this step; the second one ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
