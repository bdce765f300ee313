"""How a language model fares past the length it was trained at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from posjax.data import Documents, validation_windows
from posjax.encodings.learned import Fill
from posjax.errors import InputError
from posjax.evaluation import measure
from posjax.evaluation.statistics import bootstrap_ratio, yardsticks
from posjax.evaluation.variants import RAW, Extension, TrainedModel, Variant, abstract, variants
from posjax.fields import check_fields
from posjax.models import Decoder, dims


@dataclass(frozen=True)
class Extrapolation:
    """Loss by context length, paired: the same target bytes with more and more text before them.

    `multiples` of the trained length L. Each of `windows` windows is as long as the longest multiple; for a shorter
    one its beginning is cut off, so all end at the same byte. The headline is the loss over the last L/2 targets, as
    the ratio exp(loss at k L - loss at L) with a bootstrap interval; the mean over the whole window comes second.
    `extensions` are tried on rotary encodings with factor k, `fills` on learned tables; `control` adds each model's
    windowed control, which may see only the last L tokens.

    Errors: `InputError` unless the multiples begin with 1 and rise.
    """

    multiples: tuple[int, ...] = (1, 2, 4, 8, 16)
    windows: int = 64
    extensions: tuple[Extension, ...] = ("linear", "ntk", "yarn")
    fills: tuple[Fill, ...] = ()
    control: bool = True

    def __post_init__(self) -> None:
        check_fields(self, positive=("windows",), choices=True)
        if self.multiples[:1] != (1,) or sorted(set(self.multiples)) != list(self.multiples):
            raise InputError(
                f"Extrapolation got multiples={self.multiples}: needed are rising multiples of the "
                "trained length that begin with 1, such as 1 2 4 8 16"
            )

    def rehearse(self, model: Decoder, vocabulary: int, trained_length: int) -> None:
        """Errors: `InputError` where a model of this configuration could not be measured, before it is trained."""
        trained_model = abstract(model, vocabulary, trained_length)
        chosen = variants(trained_model, self.extensions, self.fills, self.control)
        measure.rehearse(trained_model, chosen, trained_model.last_multiple(self.multiples), answers=False)

    def evaluate(self, trained_model: TrainedModel, documents: Documents, seed: int) -> dict[str, Any]:
        """All measurements of one model, as plain values for a JSON file."""
        trained = trained_model.trained_length
        windows = validation_windows(documents, self.multiples[-1] * trained, self.windows, seed)
        last = trained_model.last_multiple(self.multiples)
        chosen = variants(trained_model, self.extensions, self.fills, self.control)
        base = measure.losses_and_mass(trained_model, RAW, 1, windows[:, -trained - 1 :])
        return {
            "kind": "language",
            "trained_length": trained,
            "lengths": list(self.multiples),
            "windows": self.windows,
            "yardsticks": yardsticks(documents, windows, max(trained // 2, 1)),
            "corpus": documents.describe(),
            "variants": [self._variant(trained_model, variant, windows, base, last, seed) for variant in chosen],
            "scores": self._scores(trained_model, windows, last, seed),
        }

    def _variant(
        self, trained_model: TrainedModel, variant: Variant, windows: np.ndarray, base: Any, last: int, seed: int
    ) -> dict[str, Any]:
        trained = trained_model.trained_length
        tail = max(trained // 2, 1)
        at_one = base[0][:, -tail:].mean(axis=1)
        lengths = {}
        for multiple in (m for m in self.multiples if m <= last):
            # Within the trained length every variant is the raw model: factor 1, a window as long as the text.
            same = multiple == 1 and variant.kind != "fill"
            cut = windows[:, -multiple * trained - 1 :]
            losses, mass = base if same else measure.losses_and_mass(trained_model, variant, multiple, cut)
            ratio, low, high = bootstrap_ratio(losses[:, -tail:].mean(axis=1), at_one, seed)
            bins = np.array_split(np.arange(losses.shape[1]), max(1, losses.shape[1] // max(trained // 4, 1)))
            lengths[str(multiple)] = {
                "loss": float(losses[:, -tail:].mean()),
                "mean": float(losses.mean()),
                "ratio": ratio,
                "low": low,
                "high": high,
                "beyond": float(mass.mean()),
                "positions": [float(b.mean()) for b in bins],
                "by_position": [float(losses[:, b].mean()) for b in bins],
            }
        return {
            "name": variant.name,
            "kind": variant.kind,
            "lengths": lengths,
            "ended_at": None if last == self.multiples[-1] else last,
        }

    def _scores(self, trained_model: TrainedModel, windows: np.ndarray, last: int, seed: int) -> dict[str, Any]:
        furthest = max(last * trained_model.trained_length - trained_model.trained_length // 2, 1)
        distances = np.unique(np.concatenate([[0], np.geomspace(1, furthest, 48).round().astype(int)]))
        few = windows[:8, -last * trained_model.trained_length - 1 :]
        trained = measure.trained_scores(trained_model, few, distances)
        random = measure.random_scores(trained_model.config.encoding, dims(trained_model.config), distances, seed)
        return {"distances": distances.tolist(), "random": random.tolist(), "trained": trained.tolist()}
