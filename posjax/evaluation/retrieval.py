"""Whether far context can be found again: a flat loss alone does not show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from posjax.data import Needles
from posjax.encodings.learned import Fill
from posjax.errors import InputError
from posjax.evaluation import measure
from posjax.evaluation.variants import Extension, TrainedModel, Variant, chosen_variants
from posjax.fields import check_fields
from posjax.models import Architecture


@dataclass(frozen=True)
class Retrieval:
    """Accuracy on needles at several depths and lengths.

    `multiples` of the trained length; `depths` from 0, farthest from the questions, up to 1; `sequences` for each
    pair, with several questions each. `extensions`, `fills` and `control` as in `Extrapolation`: the windowed control
    cannot reach a needle further back than the trained length, so it shows what guessing yields.

    Errors: `InputError` for a depth outside [0, 1) or fewer than one sequence.
    """

    multiples: tuple[int, ...] = (1, 2, 4, 16)
    depths: tuple[float, ...] = (0.0, 0.45, 0.9)
    sequences: int = 128
    extensions: tuple[Extension, ...] = ("yarn",)
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

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        """Errors: `InputError` where a model of this configuration could not be measured, before it is trained."""
        measure.rehearse(self, model, vocabulary, trained_length, answers=True)

    def evaluate(self, trained_model: TrainedModel, task: Needles, seed: int) -> dict[str, Any]:
        """All measurements of one model, as plain values for a JSON file."""
        last = trained_model.last_multiple(self.multiples)
        # Every variant answers the same questions, which are a function of the seed, the length and the depth.
        by_variant = []
        for variant in chosen_variants(trained_model, self):
            measured = self._variant(trained_model, variant, task, last, seed)
            by_variant.append(measured)
        asked = self.sequences * task.needles
        return {
            "kind": "retrieval",
            "trained_length": trained_model.trained_length,
            "lengths": list(self.multiples),
            "chance": task.chance,
            "depths": list(self.depths),
            "queries": asked,
            "variants": by_variant,
        }

    def _variant(
        self, trained_model: TrainedModel, variant: Variant, task: Needles, last: int, seed: int
    ) -> dict[str, Any]:
        lengths = {}
        for multiple in self.multiples:
            if multiple > last:
                continue
            length = multiple * trained_model.trained_length
            asked = [task.queries(length, depth, self.sequences, seed) for depth in self.depths]
            # All depths in one call, since they have one length.
            inputs = np.concatenate([rows["inputs"] for rows in asked])
            answers = measure.predictions(trained_model, variant, multiple, inputs)
            by_depth = np.split(answers, len(asked))
            right = [_accuracy(given, rows) for given, rows in zip(by_depth, asked, strict=True)]
            lengths[str(multiple)] = {
                "accuracy": [float(r.mean()) for r in right],
                "error": [float(r.std() / np.sqrt(len(r))) for r in right],
            }
        ended_at = None
        if last != max(self.multiples):
            ended_at = last
        return {"name": variant.name, "kind": variant.kind, "lengths": lengths, "ended_at": ended_at}


def _accuracy(answers: np.ndarray, asked: dict[str, np.ndarray]) -> np.ndarray:
    """The share of right answers in each sequence, `[n]`."""
    weights = asked["weights"]
    # The weights are 1 where a value is asked for, and 0 where nothing is.
    agrees = answers == asked["targets"]
    right = agrees * weights
    total = weights.sum(axis=1)
    return right.sum(axis=1) / total
