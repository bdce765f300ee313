"""How a language model fares past the length it was trained at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from posjax.data import Documents, Task, begun, target_bytes, validation_windows
from posjax.encodings.learned import Fill
from posjax.errors import InputError
from posjax.evaluation import measure
from posjax.evaluation.base import Evaluation, last_measured
from posjax.evaluation.statistics import bootstrap_ratio, yardsticks
from posjax.evaluation.variants import RAW, ExtensionLike, TrainedModel, Variant, chosen_variants
from posjax.fields import check_fields
from posjax.models import Architecture
from posjax.results import Measurement


@dataclass(frozen=True, eq=False)
class Sample:
    """Windows of a text, the longest multiple long, and how many bytes each of their targets stands for."""

    documents: Documents
    windows: np.ndarray
    target_bytes: np.ndarray

    @classmethod
    def draw(cls, documents: Documents, length: int, count: int, seed: int) -> Sample:
        windows = validation_windows(documents, length, count, seed)
        return cls(documents, windows, target_bytes(documents, length, count, seed))

    def last(self, length: int, rows: slice = slice(None)) -> np.ndarray:
        """The windows cut at their beginning, so that targets are the same at every length: `[n, length + 1]`."""
        return begun(self.documents, self.windows[rows, -length - 1 :])

    def bytes_each(self, targets: slice | np.ndarray) -> float:
        """The mean bytes of a target, by which nats per token become nats per byte: their sums are in proportion.

        Exactly 1 for bytes; not a number where no target stands for any.
        """
        mean = float(self.target_bytes[:, targets].mean())
        if mean == 0:
            return math.nan
        return mean


@dataclass(frozen=True)
class Extrapolation(Evaluation):
    """Loss by context length, paired: the same target bytes with more and more text before them.

    `multiples` of the trained length L. Each of `windows` windows is as long as the longest multiple; for a shorter
    one its beginning is cut off, so all end at the same byte. The headline is the loss over the last L/2 targets, as
    the ratio exp(loss at k L - loss at L) with a bootstrap interval; the mean over the whole window comes second.
    Losses are in nats per byte, whatever a token is: the nats of the targets by the bytes that they stand for, so that
    vocabularies compare. Where a tokenizer reads the text, the losses in nats per token stand beside them.
    `extensions`, as `extended` makes them, are tried on rotary encodings with factor k, `fills` on learned tables;
    `control` adds each model's windowed control, which may see only the last L tokens.

    Errors: `InputError` unless the multiples begin with 1 and rise.
    """

    name: ClassVar[str] = "extrapolation"

    multiples: tuple[int, ...] = (1, 2, 4, 8, 16)
    windows: int = 64
    extensions: tuple[ExtensionLike, ...] = ("linear", "ntk", "yarn")
    fills: tuple[Fill, ...] = ()
    control: bool = True

    def __post_init__(self) -> None:
        check_fields(self, positive=("windows",))
        if self.multiples[:1] != (1,) or sorted(set(self.multiples)) != list(self.multiples):
            raise InputError(
                f"Extrapolation got multiples={self.multiples}: needed are rising multiples of the "
                "trained length that begin with 1, such as 1 2 4 8 16"
            )

    def require(self, data: Any) -> None:
        if isinstance(data, Task):
            raise InputError(f"{type(data).__name__} is a task, and Extrapolation reads text: give it a text")

    def longest(self, trained_length: int) -> int:
        return self.multiples[-1] * trained_length

    def held(self, trained_length: int) -> int:
        return self.windows * self.longest(trained_length)

    def smaller(self) -> Extrapolation:
        return replace(self, windows=2, multiples=self.multiples[:2])

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        measure.rehearse(self, model, vocabulary, trained_length, answers=False)

    def room(self, data: Any, trained_length: int, seed: int) -> None:
        # One window tells whether the text has room for all of them.
        validation_windows(data, self.longest(trained_length), 1, seed)

    def run(self, trained_model: TrainedModel, data: Documents, seed: int) -> Iterator[Measurement]:
        trained = trained_model.trained_length
        # The same windows for every model of an experiment, so that models are compared on the same bytes.
        sample = Sample.draw(data, self.longest(trained), self.windows, seed)
        trained_model.model.check_tokens(jnp.asarray(sample.windows))
        last = trained_model.last_multiple(self.multiples)
        # Measured once: within the trained length all variants are this one but those that are always there.
        base = measure.losses_and_mass(trained_model, RAW, 1, sample.last(trained))
        for variant in chosen_variants(trained_model, self):
            yield last_measured(variant, last)
            yield from self._variant(trained_model, variant, sample, base, last, seed)
        tail = max(trained // 2, 1)
        by_counting = yardsticks(data, sample.windows, tail)
        each = sample.bytes_each(slice(-tail, None))
        for name, loss in by_counting.items():
            yield Measurement("yardstick_loss", loss / each, count=self.windows, coordinates={"counted": name})
        if data.encoded is not None:
            yield Measurement("bytes_per_token", each)
        yield from self._scores(trained_model, sample, last, seed)

    def _variant(
        self, trained_model: TrainedModel, variant: Variant, sample: Sample, base: Any, last: int, seed: int
    ) -> Iterator[Measurement]:
        trained = trained_model.trained_length
        for multiple in self.multiples:
            if multiple > last:
                break
            if multiple == 1 and not variant.always:
                # Within the trained length every variant is the raw model: factor 1, a window as long as the text.
                losses, mass = base
            else:
                cut = sample.last(multiple * trained)
                losses, mass = measure.losses_and_mass(trained_model, variant, multiple, cut)
            at = {**variant.coordinates, "multiple": multiple, "length": multiple * trained}
            for found in _at_length(losses, mass, base[0], sample, seed):
                yield found.placed(**at)

    def _scores(self, trained_model: TrainedModel, sample: Sample, last: int, seed: int) -> Iterator[Measurement]:
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
        few = sample.last(longest, slice(8))
        trained = measure.trained_scores(trained_model, few, distances)
        architecture = trained_model.architecture
        random = measure.random_scores(architecture.encoding, architecture.dims, distances, seed)
        for of, scores in (("random", random), ("trained", trained)):
            for distance, score in zip(distances.tolist(), scores.tolist(), strict=True):
                yield Measurement("score", score, coordinates={"of": of, "distance": distance})


def _at_length(
    losses: np.ndarray, mass: np.ndarray, base: np.ndarray, sample: Sample, seed: int
) -> Iterator[Measurement]:
    """What one length gave. `losses [n, length]` and `mass [n]` of it, `base [n, trained]` of the trained length."""
    _, length = losses.shape
    _, trained = base.shape
    tail = max(trained // 2, 1)
    last = losses[:, -tail:]
    last_of_base = base[:, -tail:]
    each = sample.bytes_each(slice(-tail, None))
    # Windows are paired, so the interval is of differences, and the spread between texts drops out.
    of_windows = last.mean(axis=1) / each
    of_base = last_of_base.mean(axis=1) / each
    ratio, low, high = bootstrap_ratio(of_windows, of_base, seed)
    # Four bins a trained length, whatever the length.
    bin_size = max(trained // 4, 1)
    count = max(1, length // bin_size)
    targets = np.arange(length)
    bins = np.array_split(targets, count)
    windows = len(losses)
    mean = float(losses.mean()) / sample.bytes_each(slice(-length, None))
    yield Measurement("loss", float(last.mean()) / each, count=windows)
    yield Measurement("mean_loss", mean, count=windows)
    yield Measurement("loss_ratio", ratio, low, high, windows)
    yield Measurement("mass_beyond", float(mass.mean()), count=windows)
    if sample.documents.encoded is not None:
        yield Measurement("loss_per_token", float(last.mean()), count=windows)
        yield Measurement("mean_loss_per_token", float(losses.mean()), count=windows)
    for places in bins:
        # Counted from the end, where a sample's windows are the same at every length.
        loss = float(losses[:, places].mean()) / sample.bytes_each(places - length)
        at = {"position": float(places.mean())}
        yield Measurement("loss_at_position", loss, count=windows, coordinates=at)
