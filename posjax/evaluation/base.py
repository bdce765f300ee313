"""The contract of an evaluation: what it can be run on, and what it yields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from posjax.evaluation.variants import TrainedModel, Variant
from posjax.models import Architecture
from posjax.results import Measurement


class Evaluation:
    """A frozen dataclass that measures a trained model on data. A new one is a file that derives from this.

    `name` stands beside each of its measurements, as the coordinate `evaluation`.
    """

    name: ClassVar[str]
    next_token: ClassVar[bool] = True
    """Whether it measures how the next token is predicted, and so a model that was trained to do so."""

    def require(self, data: Any) -> None:
        """What it needs of a run's data. Errors: `InputError` for data that it cannot measure on.

        Whatever data there is will do unless it is defined.
        """

    def longest(self, trained_length: int) -> int:
        """The largest number of tokens that a model reads at once, for one that was trained at `trained_length`."""
        return trained_length

    def held(self, trained_length: int) -> int:
        """How many tokens of samples it holds at once."""
        return self.longest(trained_length)

    def smaller(self) -> Evaluation:
        """The same with as few samples as there can be: what tells whether it works."""
        return self

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        """Errors: `InputError` where a model of this configuration could not be measured, before it is trained."""

    def room(self, data: Any, trained_length: int, seed: int) -> None:
        """Errors: `InputError` where the data, which are `run`'s, are too short for what it reads."""

    def run(self, trained_model: TrainedModel, data: Any, seed: int) -> Iterator[Measurement]:
        """The measurements of one model. `data` are the documents of a run's text, the rows of its
        examples, or its task.

        A function of its arguments, so that the same model is measured on the same samples whenever it is.
        """
        raise NotImplementedError


def last_measured(variant: Variant, multiple: int) -> Measurement:
    """Up to which multiple of the trained length a variant could be measured: a table of rows may end early."""
    return Measurement("last_multiple", multiple, coordinates=variant.coordinates)
