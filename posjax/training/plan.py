"""How a model is trained, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh

from posjax.errors import InputError
from posjax.fields import check_fields
from posjax.identity import fingerprint
from posjax.models import Architecture, Compute
from posjax.training.checkpoints import DATA
from posjax.training.checks import Check
from posjax.training.mesh import Devices, Places
from posjax.training.metrics import Sink
from posjax.training.objectives import CausalLM, Objective
from posjax.training.optimizers import Adafactor, AdamW, Lion, Muon, Optimizer
from posjax.training.speed import Tracing
from posjax.training.step import Trainer
from posjax.training.stopping import EarlyStop


@dataclass(frozen=True)
class Train:
    """How a model is trained: `steps` batches of `batch` rows of `length` tokens.

    `accumulate` cuts each batch into that many parts whose gradients are summed, for a batch that the devices cannot
    hold at once. A step whose numbers are not finite is skipped; `skips` of them in a row end the training.
    `checkpoint_every` and `log_every` are in steps: what is logged is one line a step, written in groups so that the
    device is not waited for. `sinks` adds "tensorboard" or "wandb" to the JSON lines. `stop` measures the validation
    loss, ends the training where it does not fall any more, and takes the best state for its result.

    Errors: `InputError` for a number below 1, or a field of another type.
    """

    steps: int = 400
    length: int = 64
    batch: int = 32
    optimizer: AdamW | Adafactor | Lion | Muon | Optimizer = AdamW()  # noqa: RUF009
    """How the parameters follow their gradients."""
    devices: Devices = Devices()  # noqa: RUF009
    """Over how many devices batches and parameters are split."""
    compute: Compute = Compute()  # noqa: RUF009
    """In which dtype, with which attention backend, and what the backward pass computes again."""
    objective: Objective = CausalLM()  # noqa: RUF009
    """What the model is trained to predict, and how its loss is counted."""
    check: Check = Check()  # noqa: RUF009
    """How often the laws are asserted on the model itself."""
    accumulate: int = 1
    skips: int = 3
    checkpoint_every: int = 100
    log_every: int = 10
    profile: str = ""
    """Steps to trace for a profiler, such as 10:13, into the folder's `profile`."""
    sinks: tuple[Sink, ...] = ()
    stop: EarlyStop | None = None

    def __post_init__(self) -> None:
        counts = ("steps", "length", "batch", "accumulate", "skips", "checkpoint_every", "log_every")
        check_fields(self, positive=counts)
        # Read now: a mistake would else show at that step.
        Tracing.steps(self.profile)

    @property
    def tokens(self) -> int:
        """How many tokens it reads, unless it stops early."""
        return self.steps * self.batch * self.length

    def trainer(self, model: Architecture, vocabulary: int, places: Places | None = None) -> Trainer:
        """What makes and advances the state of such a training; on its own mesh, or where another's arrays lie."""
        self.objective.require(model)
        if places is None:
            places = Places(self.mesh(), self.devices.table)
        return Trainer(
            model,
            vocabulary,
            self.optimizer,
            self.steps,
            places,
            self.compute,
            self.objective,
            self.accumulate,
        )

    def mesh(self, devices: list[Any] | None = None) -> Mesh:
        """The devices, of all there are or of those given.

        Errors: `InputError` where batch or length do not divide among them.
        """
        mesh = self.devices.mesh(self.batch, self.length, devices)
        rows = mesh.shape["data"] * mesh.shape["fsdp"]
        if self.batch % (rows * self.accumulate):
            raise InputError(
                f"a batch of {self.batch} rows does not divide into accumulate={self.accumulate} parts for each of "
                f"{rows} devices: make the batch a multiple of {rows * self.accumulate}, or accumulate fewer"
            )
        return mesh


def about(
    train: Train,
    model: Architecture,
    vocabulary: int,
    seed: int,
    corpus: str | None,
    before: Any = None,
    data: Any = None,
) -> dict[str, Any]:
    """What the bits of a training depend on: each checkpoint says that it is of this.

    `before`: the same of the training whose parameters it begins from. `data`: what is read, which says more than
    the fingerprint of a text only where there is no text, as of a task.
    """
    said = {
        "seed": seed,
        "model": model,
        "vocabulary": vocabulary,
        "steps": train.steps,
        "length": train.length,
        "batch": train.batch,
        "optimizer": train.optimizer,
        "compute": train.compute,
        "objective": train.objective,
        "accumulate": train.accumulate,
        "corpus": corpus,
    }
    # Named only where they are there: trainings of before they could be are still the same ones.
    if train.stop is not None:
        said["stop"] = train.stop
    if before is not None:
        said["before"] = before
    if corpus is None and data is not None:
        said[DATA] = data
    return said


def training_fingerprint(said: Mapping[str, Any]) -> str:
    """Of which training a line of metrics is, from `about`.

    Without a task's data, which was not told before: lines of then would be taken for another run's.
    """
    return fingerprint(_untold(said))


def _untold(said: Any) -> Any:
    if not isinstance(said, Mapping):
        return said
    return {name: _untold(value) for name, value in said.items() if name != DATA}
