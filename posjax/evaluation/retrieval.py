"""Whether far context can be found again: a flat loss alone does not show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from posjax.data import DepthTask
from posjax.encodings.learned import Fill
from posjax.errors import InputError
from posjax.evaluation import measure
from posjax.evaluation.accuracy import right_shares
from posjax.evaluation.base import Evaluation, last_measured
from posjax.evaluation.variants import ExtensionLike, TrainedModel, Variant, chosen_variants
from posjax.fields import check_fields
from posjax.models import Architecture
from posjax.results import Measurement


@dataclass(frozen=True)
class Retrieval(Evaluation):
    """Accuracy on needles at several depths and lengths.

    `multiples` of the trained length; `depths` from 0, farthest from the questions, up to 1; `sequences` for each
    pair, with several questions each. `extensions`, `fills` and `control` as in `Extrapolation`: the windowed control
    cannot reach a needle further back than the trained length, so it shows what guessing yields.

    Errors: `InputError` for a depth outside [0, 1) or fewer than one sequence.
    """

    name: ClassVar[str] = "retrieval"

    multiples: tuple[int, ...] = (1, 2, 4, 16)
    depths: tuple[float, ...] = (0.0, 0.45, 0.9)
    sequences: int = 128
    extensions: tuple[ExtensionLike, ...] = ("yarn",)
    fills: tuple[Fill, ...] = ()
    control: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.sequences < 1 or not self.multiples or min(self.multiples) < 1:
            raise InputError(
                f"Retrieval got sequences={self.sequences} and multiples={self.multiples}: each must be 1 or more"
            )
        if not all(0 <= depth < 1 for depth in self.depths):
            raise InputError(f"Retrieval got depths={self.depths}: needed are parts of the body in [0, 1), 0 farthest")

    def require(self, data: Any) -> None:
        if not isinstance(data, DepthTask):
            raise InputError(
                f"{type(data).__name__} has no answers at a depth: Retrieval asks such tasks as Needles, and "
                "Extrapolation reads text"
            )

    def longest(self, trained_length: int) -> int:
        return max(self.multiples) * trained_length

    def held(self, trained_length: int) -> int:
        return self.sequences * self.longest(trained_length)

    def smaller(self) -> Retrieval:
        return replace(self, sequences=2, multiples=self.multiples[:2])

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        measure.rehearse(self, model, vocabulary, trained_length, answers=True)

    def run(self, trained_model: TrainedModel, data: DepthTask, seed: int) -> Iterator[Measurement]:
        last = trained_model.last_multiple(self.multiples)
        yield Measurement("chance", data.chance)
        # Every variant answers the same questions, which are a function of the seed, the length and the depth.
        for variant in chosen_variants(trained_model, self):
            yield last_measured(variant, last)
            yield from self._variant(trained_model, variant, data, last, seed)

    def _variant(
        self, trained_model: TrainedModel, variant: Variant, task: DepthTask, last: int, seed: int
    ) -> Iterator[Measurement]:
        for multiple in self.multiples:
            if multiple > last:
                continue
            length = multiple * trained_model.trained_length
            at = {**variant.coordinates, "multiple": multiple, "length": length}
            asked = [task.queries(length, depth, self.sequences, seed) for depth in self.depths]
            # All depths in one call, since they have one length.
            inputs = np.concatenate([rows["inputs"] for rows in asked])
            answers = measure.predictions(trained_model, variant, multiple, inputs)
            by_depth = np.split(answers, len(asked))
            for depth, given, rows in zip(self.depths, by_depth, asked, strict=True):
                yield _accuracy(given, rows).placed(**at, depth=depth)


def _accuracy(answers: np.ndarray, asked: dict[str, np.ndarray]) -> Measurement:
    """The share of right answers, over rows of several questions each."""
    of_rows = right_shares(answers, asked)
    mean = float(of_rows.mean())
    # Of rows and not of questions: those of one row stand or fall together.
    error = float(of_rows.std() / np.sqrt(len(of_rows)))
    return Measurement("accuracy", mean, mean - 1.96 * error, mean + 1.96 * error, int(asked["weights"].sum()))
