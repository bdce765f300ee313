"""A run of several trainings, each from the last one's end, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from posjax.data import TrainingData
from posjax.errors import InputError
from posjax.fields import check_fields
from posjax.interop import Pretrained
from posjax.models import Architecture, Compute
from posjax.models.compute import COMPUTE
from posjax.training import CausalLM, Objective, Train


@dataclass(frozen=True)
class Untrained:
    """Initial weights, in the place of a training: for what an encoding does by itself, and for what a step costs.

    `length` is the context that evaluations take for the trained one; a run's seed draws the weights.

    >>> Untrained(length=512).steps
    0
    """

    length: int
    compute: Compute = COMPUTE
    """In which dtype and with which attention backend it is computed."""

    def __post_init__(self) -> None:
        check_fields(self, positive=("length",))

    @property
    def steps(self) -> int:
        """Nothing is trained."""
        return 0

    @property
    def batch(self) -> int:
        """Rows of a batch, as for a training: one, since none is read."""
        return 1

    @property
    def tokens(self) -> int:
        """None is read."""
        return 0


@dataclass(frozen=True)
class Stage:
    """One training of several, by default of the run's own model on the run's own data.

    `model` has the layers of the run's and other encodings: parameters go over by their names, what an encoding has
    learned is dropped where the next model has no place for it, and drawn where it is new.
    """

    train: Train | Pretrained | Untrained
    model: Architecture | None = None
    data: TrainingData | None = None

    @property
    def objective(self) -> Objective:
        """What it trains: the next token, where nothing is."""
        if isinstance(self.train, Train):
            return self.train.objective
        return CausalLM()


@dataclass(frozen=True)
class Stages:
    """Trainings one after the other, each from the parameters that the last one ended with, by an optimiser of its own.

    Everything may change between two of them but the layers: data, length, batch, optimiser, objective, the numbers or
    the kind of encodings, and whether the output is of classes. The first may be `interop.pretrained(folder)`. The last
    one trains the run's own model.

    Errors: `InputError` for no training, a published model behind the first place, or a model of its own where it is
    said elsewhere: in the last stage, and in that of a published model.
    Source: Chen et al. 2023, arXiv:2306.15595 (fine-tuning after interpolation); Gelberg et al. 2025, arXiv:2512.12167
    (dropping the encoding).

    >>> run = Stages((Stage(Train(steps=300, length=64)), Stage(Train(steps=100, length=256))))
    >>> run.steps, run.length
    (400, 256)
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        if any(isinstance(stage.train, Untrained) for stage in self.stages):
            raise InputError("a stage is Untrained: what begins with initial weights is a training, so leave it out")
        if not self.stages or isinstance(self.stages[-1].train, Pretrained):
            raise InputError(
                "Stages end with no training: needed is one Train or more, after interop.pretrained(folder) if that is "
                "where they begin"
            )
        # Said twice, one of the two would be wrong some day.
        if self.stages[-1].model is not None:
            raise InputError("the last of the stages has a model of its own: it is the run's, so give it to the run")
        # It can only be where parameters begin.
        for number, stage in enumerate(self.stages):
            if isinstance(stage.train, Pretrained) and (number or stage.model or stage.data):
                raise InputError(
                    f"stage {number} is a published model: needed is that it comes first, and its folder says what it "
                    "is, so give it neither model nor data"
                )

    @property
    def last(self) -> Train:
        """The training that the run ends with."""
        last = self.stages[-1].train
        assert isinstance(last, Train)
        return last

    @property
    def length(self) -> int:
        """The length that was trained last."""
        return self.last.length

    @property
    def batch(self) -> int:
        """The rows of a batch of the last training."""
        return self.last.batch

    @property
    def steps(self) -> int:
        """Those of all trainings."""
        return sum(stage.train.steps for stage in self.stages)

    @property
    def tokens(self) -> int:
        """Those that all trainings read."""
        return sum(stage.train.tokens for stage in self.stages)
