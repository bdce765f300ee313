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
from posjax.evaluation.variants import RAW, Extension, TrainedModel, Variant, chosen_variants
from posjax.fields import check_fields
from posjax.models import Architecture


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
        check_fields(self, positive=("windows",))
        if self.multiples[:1] != (1,) or sorted(set(self.multiples)) != list(self.multiples):
            raise InputError(
                f"Extrapolation got multiples={self.multiples}: needed are rising multiples of the "
                "trained length that begin with 1, such as 1 2 4 8 16"
            )

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        """Errors: `InputError` where a model of this configuration could not be measured, before it is trained."""
        measure.rehearse(self, model, vocabulary, trained_length, answers=False)

    def evaluate(self, trained_model: TrainedModel, documents: Documents, seed: int) -> dict[str, Any]:
        """All measurements of one model, as plain values for a JSON file."""
        trained = trained_model.trained_length
        # The same windows for every model of an experiment, so that models are compared on the same bytes.
        longest = self.multiples[-1] * trained
        windows = validation_windows(documents, longest, self.windows, seed)
        last = trained_model.last_multiple(self.multiples)
        # Measured once: within the trained length all variants but fills are this one.
        ends = windows[:, -trained - 1 :]
        base = measure.losses_and_mass(trained_model, RAW, 1, ends)
        by_variant = []
        for variant in chosen_variants(trained_model, self):
            measured = self._variant(trained_model, variant, windows, base, last, seed)
            by_variant.append(measured)
        return {
            "kind": "language",
            "trained_length": trained,
            "lengths": list(self.multiples),
            "windows": self.windows,
            "yardsticks": yardsticks(documents, windows, max(trained // 2, 1)),
            "corpus": documents.describe(),
            "variants": by_variant,
            "scores": self._scores(trained_model, windows, last, seed),
        }

    def _variant(
        self, trained_model: TrainedModel, variant: Variant, windows: np.ndarray, base: Any, last: int, seed: int
    ) -> dict[str, Any]:
        trained = trained_model.trained_length
        lengths = {}
        for multiple in self.multiples:
            if multiple > last:
                break
            if multiple == 1 and variant.kind != "fill":
                # Within the trained length every variant is the raw model: factor 1, a window as long as the text.
                losses, mass = base
            else:
                # Cut at its beginning, so that the targets are the same bytes at every length.
                length = multiple * trained
                cut = windows[:, -length - 1 :]
                losses, mass = measure.losses_and_mass(trained_model, variant, multiple, cut)
            lengths[str(multiple)] = _at_length(losses, mass, base[0], trained, seed)
        ended_at = None
        if last != self.multiples[-1]:
            ended_at = last
        return {"name": variant.name, "kind": variant.kind, "lengths": lengths, "ended_at": ended_at}

    def _scores(self, trained_model: TrainedModel, windows: np.ndarray, last: int, seed: int) -> dict[str, Any]:
        """How scores fall with the distance between query and key, before training and after it."""
        length = trained_model.trained_length
        # Half a trained length less than all there is, so that some queries have a key at the furthest distance.
        longest = last * length
        furthest = max(longest - length // 2, 1)
        # Evenly on a logarithmic axis: what happens near by would else lie in the first few points.
        evenly = np.geomspace(1, furthest, 48)
        beyond_zero = evenly.round().astype(int)
        # Rounded, the nearest ones fall together: each counts once.
        from_zero = np.concatenate([[0], beyond_zero])
        distances = np.unique(from_zero)
        # A few windows: each gives a mean over many layers, heads and queries.
        few = windows[:8, -longest - 1 :]
        trained = measure.trained_scores(trained_model, few, distances)
        architecture = trained_model.architecture
        random = measure.random_scores(architecture.encoding, architecture.dims, distances, seed)
        return {"distances": distances.tolist(), "random": random.tolist(), "trained": trained.tolist()}


def _at_length(losses: np.ndarray, mass: np.ndarray, base: np.ndarray, trained: int, seed: int) -> dict[str, Any]:
    """What one length gave. `losses [n, length]` and `mass [n]` of it, `base [n, trained]` of the trained length."""
    tail = max(trained // 2, 1)
    last = losses[:, -tail:]
    last_of_base = base[:, -tail:]
    # Windows are paired, so the interval is of differences, and the spread between texts drops out.
    of_windows = last.mean(axis=1)
    of_base = last_of_base.mean(axis=1)
    ratio, low, high = bootstrap_ratio(of_windows, of_base, seed)
    # Four bins a trained length, whatever the length.
    _, length = losses.shape
    bin_size = max(trained // 4, 1)
    count = max(1, length // bin_size)
    targets = np.arange(length)
    bins = np.array_split(targets, count)
    return {
        "loss": float(last.mean()),
        "mean": float(losses.mean()),
        "ratio": ratio,
        "low": low,
        "high": high,
        "beyond": float(mass.mean()),
        "positions": [float(b.mean()) for b in bins],
        "by_position": [float(losses[:, b].mean()) for b in bins],
    }
