"""Early stopping beside a training: the loss is measured on held-out text, and the best state is kept apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posjax.errors import InputError
from posjax.lines import STOPPED, Lines
from posjax.models import cross_entropy
from posjax.training.checkpoints import Checkpoints, Restored
from posjax.training.mesh import place, shared
from posjax.training.objectives import Batch
from posjax.training.step import State, Trainer
from posjax.training.stopping import EarlyStop, StopDecision

LOSS = "validation_loss"
"""Under which name a step's line has what was measured after it."""
BEST = Path("checkpoints", "best")
"""Where the best state lies in a training's folder, apart from the newest ones."""

_WORST = float(np.finfo(np.float32).max)


class Validation:
    """The mean loss of a state on fixed windows int32 `[n, length + 1]`, in nats a token; nothing in it is random.

    `rows` are computed at a time: a multiple of the devices that split a batch.
    """

    def __init__(self, trainer: Trainer, windows: np.ndarray, rows: int):
        self._mesh, self._targets = trainer.mesh, windows[:, 1:].size
        self._batches = [_batch(windows[start : start + rows], rows) for start in range(0, len(windows), rows)]
        graph = trainer.graph()

        # Of the tokens alone: what an objective adds to its loss, such as smoothing, would hide overfitting.
        def total(params: Any, batch: Batch) -> jax.Array:
            logits_BTV = nnx.merge(graph, params)(batch["inputs"])
            return jnp.sum(cross_entropy(logits_BTV, batch["targets"]) * batch["weights"])

        self._total = jax.jit(total, out_shardings=shared(trainer.mesh))

    def __call__(self, state: State) -> float:
        # Kernels that the compiler cannot split look for the mesh here.
        with jax.set_mesh(self._mesh):
            # All of them are on their way before the first is waited for.
            totals = [self._total(state.params, place(batch, self._mesh)) for batch in self._batches]
        return sum(map(float, totals)) / self._targets


def _batch(windows: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    """Windows as a batch of that many rows; those that are filled in count nothing."""
    weights = np.ones((len(windows), windows.shape[1] - 1), np.float32)
    # Of one shape, so that the last batch compiles nothing anew.
    missing = ((0, rows - len(windows)), (0, 0))
    windows = np.pad(windows, missing)
    return {"inputs": windows[:, :-1], "targets": windows[:, 1:], "weights": np.pad(weights, missing)}


def history(stop: EarlyStop, steps: int, lines: Lines, done: int, path: Path) -> list[tuple[int, float]]:
    """The losses that were measured up to a step. Errors: `InputError` where one is missing."""
    found = {line["step"]: line[LOSS] for line in lines.steps if LOSS in line}
    measured = [step for step in range(1, done + 1) if stop.measures(step, steps)]
    for step in measured:
        # Without it the training would end elsewhere, or take a worse state for the best.
        if step not in found:
            raise InputError(
                f"{path} lacks the validation loss of step {step}, by which the training stops: bring the file back, "
                "or choose another folder with --work"
            )
    return [(step, found[step]) for step in measured]


class Watch:
    """What early stopping does after the steps of a training, which goes on after those of `measured`.

    `validate` gives the loss of a state, and `best` keeps the best one.
    """

    def __init__(
        self,
        stop: EarlyStop,
        steps: int,
        validate: Callable[[State], float],
        best: Checkpoints,
        measured: Sequence[tuple[int, float]],
    ):
        self._stop = stop
        self._steps = steps
        self._validate = validate
        self._best = best
        # All that was measured: the decision is a function of it, and of nothing that a kill would lose.
        self._history = list(measured)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._best.__exit__(*error)

    @property
    def verdict(self) -> StopDecision:
        """What follows from all that was measured."""
        return self._stop.verdict(self._history)

    @property
    def is_over(self) -> bool:
        """Whether the training ends before its last step."""
        return self.verdict.stop

    def measures(self, step: int) -> bool:
        """Whether the loss is measured after a step."""
        return self._stop.measures(step, self._steps)

    def after(self, step: int, state: State) -> dict[str, float]:
        """Measures the loss of a finite state, keeps it if none was better, and returns what its line says."""
        # A number that no loss is better than, in the place of one that JSON does not have.
        loss = float(np.nan_to_num(self._validate(state), nan=_WORST, posinf=_WORST))
        self._history.append((step, loss))
        # In the background, while training goes on; `wait` comes before any later step is kept.
        if self.verdict.best_step == step:
            self._best.save(step, state)
        said = {LOSS: loss}
        # For whoever reads the lines without the config, as `experiments.status` does.
        if self.is_over:
            said[STOPPED] = 1.0
        return said

    def wait(self) -> None:
        """Until the best state is on disk."""
        self._best.wait()

    def result(self, abstract: State) -> State:
        """The best state. Errors: `InputError` where it cannot be read."""
        self.wait()
        step = self.verdict.best_step
        return require_best(self._best.restore(abstract, step), step, self._best.folder)


class NoWatch:
    """Of a training to its last step."""

    is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measures(self, step: int) -> bool:
        """Nothing is measured."""
        return False

    def after(self, step: int, state: State) -> dict[str, float]:
        """Keeps nothing."""
        return {}

    def wait(self) -> None:
        """For nothing."""


def require_best(found: Restored, step: int | None, folder: Path) -> Any:
    """What was read of the best state. Errors: `InputError` where it is not there."""
    if found.state is None:
        raise InputError(
            f"the best state, of step {step}, is not in {folder}: bring it back from a copy, or train again in another "
            "folder with --work"
        )
    return found.state
