"""How often the answers of a task are right, at the trained length and past it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np

from posjax.data import Task
from posjax.encodings.learned import Fill
from posjax.errors import InputError
from posjax.evaluation import measure
from posjax.evaluation.base import Evaluation, last_measured
from posjax.evaluation.statistics import wilson
from posjax.evaluation.variants import ExtensionLike, TrainedModel, Variant, chosen_variants
from posjax.fields import AtLeast, check_fields
from posjax.models import Architecture
from posjax.results import Measurement


@dataclass(frozen=True)
class Accuracy(Evaluation):
    """The share of right answers to the questions of a task, which are as long as the context has room for.

    At each of the `multiples` of the trained length and for each variant it yields

        accuracy   the mean over `sequences` of the share of a sequence's answers that are right
        exact      the share of sequences answered wholly right, which is what greedy decoding would get right too

    and once `chance`, the accuracy of a blind guess.

    Answers are foretold with the right ones before them in view. The intervals are Wilson's, 95 %, with one sample a
    sequence, whose answers are not independent. `extensions`, `fills` and `control` as in `Extrapolation`.

    Errors: `InputError` for fewer than one sequence, or no multiples.
    """

    name: ClassVar[str] = "accuracy"

    multiples: tuple[int, ...] = (1, 2, 4)
    sequences: Annotated[int, AtLeast(1, "the rows at each length")] = 128
    extensions: tuple[ExtensionLike, ...] = ()
    fills: tuple[Fill, ...] = ()
    control: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.multiples or min(self.multiples) < 1:
            raise InputError(f"Accuracy got multiples={self.multiples}: needed is one or more, each 1 or more")

    def require(self, data: Any) -> None:
        if not isinstance(data, Task):
            raise InputError(
                f"Accuracy got {type(data).__name__}, which asks nothing: give a task of posjax.data, such as Copy(), "
                "or measure text with Extrapolation"
            )

    def longest(self, trained_length: int) -> int:
        return max(self.multiples) * trained_length

    def held(self, trained_length: int) -> int:
        return self.sequences * self.longest(trained_length)

    def smaller(self) -> Accuracy:
        return replace(self, sequences=2, multiples=self.multiples[:2])

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        measure.rehearse(self, model, vocabulary, trained_length, answers=True)

    def run(self, trained_model: TrainedModel, data: Any, seed: int) -> Iterator[Measurement]:
        # A table that is too short for the longest still tells of the shorter ones.
        last = trained_model.last_multiple(self.multiples)
        task = type(data).__name__
        yield Measurement("chance", data.chance, coordinates={"task": task})
        for variant in chosen_variants(trained_model, self):
            yield last_measured(variant, last).placed(task=task)
            # A table of positions ends somewhere, and what is past its end has no row rather than a wrong one.
            for multiple in self.multiples:
                if multiple <= last:
                    yield from self._at(trained_model, variant, multiple, data, seed)

    def _at(
        self, trained_model: TrainedModel, variant: Variant, multiple: int, task: Task, seed: int
    ) -> Iterator[Measurement]:
        length = multiple * trained_model.trained_length
        # A function of the seed and the length, so that every variant and every model answers the same.
        asked = task.questions(length, self.sequences, seed)
        # One pass over each sequence: greedy decoding would say the same up to its first mistake.
        given = measure.predictions(trained_model, variant, multiple, asked["inputs"])
        shares = right_shares(given, asked)
        where = {
            "task": type(task).__name__,
            **variant.coordinates,
            "multiple": multiple,
            "length": length,
        }
        found = {"accuracy": shares.mean(), "exact": (shares == 1).mean()}
        for metric, share in found.items():
            low, high = wilson(share, self.sequences)
            yield Measurement(metric, float(share), low, high, self.sequences, where)


def right_shares(given: np.ndarray, asked: dict[str, np.ndarray]) -> np.ndarray:
    """The share of right answers in each sequence, `[n]`: `given` and what is `asked` are `[n, length]`.

    >>> asked = {"targets": np.array([[5, 6, 7]]), "weights": np.array([[0.0, 1.0, 1.0]])}
    >>> right_shares(np.array([[5, 6, 8]]), asked).tolist()
    [0.5]
    """
    # The weights are 1 where something is asked for, and 0 where nothing is.
    weights = asked["weights"]
    right = (given == asked["targets"]) * weights
    return right.sum(axis=1) / weights.sum(axis=1)
