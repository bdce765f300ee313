"""How far back a model provably uses its context: what lies further back is swapped, and the loss is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from posjax.data import Documents, begun, validation_windows
from posjax.encodings.learned import Fill
from posjax.errors import InputError
from posjax.evaluation import measure
from posjax.evaluation.base import Evaluation
from posjax.evaluation.statistics import bootstrap_mean
from posjax.evaluation.texts import Excerpts, require_text
from posjax.evaluation.variants import ExtensionLike, TrainedModel, Variant, chosen_variants
from posjax.fields import check_fields
from posjax.models import Architecture
from posjax.results import Measurement


@dataclass(frozen=True)
class EffectiveContext(Evaluation):
    """What the context further back than d tokens is worth to the loss, and up to which d it provably is.

    In windows of `multiple` times the trained length L, everything further back than d from the first of the last L/2
    targets' queries is swapped for text of another document, at the same positions. The `swap_cost` by `distance` is
    the paired change of the loss of those targets, in nats per byte, with a bootstrap interval over windows. A flat
    loss may come from text that a model does not read; a cost above zero cannot.

    The `effective_context` is the largest d whose cost is provably above zero, after those of all smaller ones: as soon
    as one interval reaches zero, nothing further back counts, so that no test is a lucky one of many. At the largest d
    it means "at least", and 0 that no distance was provably used. `distances` are shares of L. `extensions`, `fills`
    and `control` as in `Extrapolation`: a windowed model of n layers cannot look back further than n (L - 1) tokens.

    Errors: `InputError` unless the distances rise and leave a token to swap, or for fewer than 2 windows.
    """

    name: ClassVar[str] = "context"

    multiple: int = 4
    distances: tuple[float, ...] = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
    windows: int = 64
    extensions: tuple[ExtensionLike, ...] = ()
    fills: tuple[Fill, ...] = ()
    control: bool = True

    def __post_init__(self) -> None:
        check_fields(self, positive=("multiple",))
        # The last half of a trained length are the targets, whose own text stays.
        rising = sorted(set(self.distances)) == list(self.distances)
        if not self.distances or not rising or self.distances[0] < 0 or self.distances[-1] >= self.multiple - 0.5:
            raise InputError(
                f"EffectiveContext got distances={self.distances}: needed are rising shares of the trained length, the "
                f"last below {self.multiple - 0.5} with multiple={self.multiple}, so that a token is left to swap"
            )
        if self.windows < 2:
            raise InputError(f"EffectiveContext got windows={self.windows}: needed are 2 or more, to swap text between")

    @property
    def multiples(self) -> tuple[int, ...]:
        return (self.multiple,)

    def require(self, data: Any) -> None:
        require_text(type(self).__name__, data)

    def longest(self, trained_length: int) -> int:
        return self.multiple * trained_length

    def held(self, trained_length: int) -> int:
        return self.windows * self.longest(trained_length)

    def smaller(self) -> EffectiveContext:
        return replace(self, windows=2, distances=self.distances[:1])

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        measure.rehearse(self, model, vocabulary, trained_length, answers=False)

    def room(self, data: Documents, trained_length: int, seed: int) -> None:
        validation_windows(data, self.longest(trained_length), 1, seed)

    def run(self, trained_model: TrainedModel, data: Documents, seed: int) -> Iterator[Measurement]:
        # A table that ends before the windows do is refused: in a shorter window it would be another question.
        trained_model.last_multiple(self.multiples)
        excerpts = Excerpts.draw(data, self.longest(trained_model.trained_length), self.windows, seed)
        trained_model.model.check_tokens(jnp.asarray(excerpts.tokens))
        for variant in chosen_variants(trained_model, self):
            yield from self._variant(trained_model, variant, data, excerpts, seed)

    def _variant(
        self, trained_model: TrainedModel, variant: Variant, documents: Documents, excerpts: Excerpts, seed: int
    ) -> Iterator[Measurement]:
        trained = trained_model.trained_length
        at = variant.at(self.multiple, trained)
        tail = max(trained // 2, 1)
        each = excerpts.bytes_each(slice(-tail, None))

        # One function for both, so that their difference is of the text alone.
        def of_windows(tokens: np.ndarray) -> np.ndarray:
            rows = begun(documents, tokens)
            losses, _ = measure.losses_and_mass(trained_model, variant, self.multiple, rows)
            return losses[:, -tail:].mean(axis=1, dtype=np.float64) / each

        # The donors are drawn once, so that neighbouring distances differ by what they leave and nothing else.
        real = of_windows(excerpts.tokens)
        other = excerpts.tokens[excerpts.others()]
        effective, provable = 0, True
        for distance in self._tokens(trained):
            cost = of_windows(swapped(excerpts.tokens, other, tail, distance)) - real
            mean, low, high = bootstrap_mean(cost, seed)
            yield Measurement("swap_cost", mean, low, high, len(cost), {**at, "distance": distance})
            # Once a distance is of no provable use, none further back is asked.
            provable = provable and low > 0
            if provable:
                effective = distance
        yield Measurement("effective_context", effective, count=self.windows, coordinates=at)

    def _tokens(self, trained_length: int) -> list[int]:
        """The distances in tokens, each once: in short windows several shares are the same number."""
        rounded = [round(share * trained_length) for share in self.distances]
        return sorted(set(rounded))


def swapped(tokens: np.ndarray, other: np.ndarray, tail: int, distance: int) -> np.ndarray:
    """Windows `[n, length + 1]`, in which all that lies further back than `distance` from the first query is other's.

    The first query is that of the first of the last `tail` targets.

    >>> swapped(np.zeros((1, 9), int), np.ones((1, 9), int), tail=2, distance=3)
    array([[1, 1, 1, 0, 0, 0, 0, 0, 0]])
    """
    _, size = tokens.shape
    first_query = size - 1 - tail
    # One border for all targets: it lies further back for the later ones, so a cost is one beyond the distance.
    further = np.arange(size) < first_query - distance
    return np.where(further, other, tokens)
