"""Retrieval at a distance: needles among filler, and questions about them at the end."""

from __future__ import annotations

from dataclasses import dataclass, fields

import grain
import numpy as np

from posjax.arguments import whole
from posjax.data.randomness import rng, whole_seed
from posjax.data.source import Row, endless, stacked
from posjax.data.task import DepthTask, check_count
from posjax.errors import InputError
from posjax.fields import check_fields

# A band of depths is this part of the body.
BAND = 0.1


@dataclass(frozen=True)
class Needles(DepthTask):
    """Fused-needle retrieval: read a key, answer with the value that stood beside it in one token far back.

    A needle is a single token that stands for a (key, value) pair. One sequence, with n = `needles`:

        body: filler with n needle tokens, their keys distinct | marker | key value key value ... (n pairs)

    The pairs at the end are the needles again in another random order. Fusing key and value leaves the model one
    thing to do, look back for content, so that two layers learn it within minutes and what fails at greater lengths
    is the reach of attention.

    A sequence holds `length + 1` tokens. The model reads all but the last, which is only ever a target, so inputs
    have `length` positions and the body `length - 2 n` tokens. The weight is 1 where a queried value is predicted,
    that is where its key is read, and 0 elsewhere.

    Tokens: keys, then values, then fillers, then the marker, then needle tokens by `key * values + value`.

    The fields are how many distinct `keys` there are (at least `needles`), distinct `values` (at least 2), distinct
    symbols of filler (`fillers`, at least 1), and `needles` in a sequence (at least 1).

    Errors: `InputError` if a field is out of range.

    >>> task = Needles()
    >>> task.vocabulary, task.chance
    (305, 0.0625)
    >>> row = task.rows(length=32, seed=0)[0]
    >>> row["inputs"].shape, float(row["weights"].sum())
    ((32,), 4.0)
    """

    keys: int = 16
    values: int = 16
    fillers: int = 16
    needles: int = 4

    def __post_init__(self):
        check_fields(self)
        least = {"keys": max(self.needles, 1), "values": 2, "fillers": 1, "needles": 1}
        for field in fields(self):
            given = getattr(self, field.name)
            if given >= least[field.name]:
                continue
            said = f"Needles.{field.name} is {given}, but at least {least[field.name]} is needed"
            if field.name == "keys":
                raise InputError(f"{said} (keys in a sequence are distinct): raise it or lower needles")
            raise InputError(f"{said}: raise it")

    @property
    def marker(self) -> int:
        """The token between the body and the questions."""
        return self.keys + self.values + self.fillers

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.marker + 1 + self.keys * self.values

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the values."""
        return 1.0 / self.values

    def rows(self, length: int, seed: int) -> grain.MapDataset:
        """Endless training rows; row i is a pure function of (seed, i).

        The model trains on several lengths with one static shape: a row's true length is 1/2, 3/4 or all of `length`,
        and filler of weight 0 pads it on the right, where a causal model does not look.

        The model reads `length` tokens, and `seed` is the run's. Items are `{"inputs": int32[length], "targets":
        int32[length], "weights": float32[length]}`.

        Errors: `InputError` if half of the length has no room for the needles and the questions.
        """
        length = whole(length, "length", least=1)
        seed = whole_seed(seed)
        self._check_room(length // 2, f"half of the training length {length}")

        def row(index: int) -> Row:
            generator = rng(seed, "needle", index)
            # Drawn first, and by the same generator, so that a row is one function of its number.
            quarters = int(generator.integers(2, 5))
            true_length = length * quarters // 4
            body = self._body(true_length)
            return self._row(generator, length, true_length, 0, body)

        return endless(row)

    def queries(self, length: int, depth: float, count: int, seed: int) -> Row:
        """Questions about needles that all lie in one band of the body.

        The band is a tenth of the body from the part `depth` on: 0 is farthest from the questions, 0.9 nearest. It is
        moved back where it would leave the body, and holds at least `needles` tokens. Row i is a pure function of
        (seed, i, length, depth), and keys, values and the order of the questions are the same at every depth, which
        pairs the comparison.

        The model reads `length` tokens of each of `count` rows, `depth` is where the band starts, from 0 up to 1, and
        `seed` the run's. Returns `{"inputs": int32, "targets": int32, "weights": float32}`, each `[count, length]`.

        Errors: `InputError` if the depth lies outside, the count is below 1, or the length has no room for the needles.

        >>> Needles().queries(length=64, depth=0.0, count=5, seed=0)["targets"].shape
        (5, 64)
        """
        if not 0 <= depth < 1:
            raise InputError(f"depth is {depth}, but it is a part of the body: give 0 (far) or more, below 1 (near)")
        check_count(count)
        self._check_room(length, f"length {length}")
        body = self._body(length)
        # A band of a short body may be narrower than its needles are many.
        tenth = int(BAND * body)
        width = max(self.needles, tenth)
        latest = body - width
        start = min(int(depth * body), latest)
        generators = (rng(seed, "needle-query", index) for index in range(count))
        items = [self._row(generator, length, length, start, width) for generator in generators]
        return stacked(items)

    def questions(self, length: int, count: int, seed: int) -> Row:
        """Questions about needles anywhere in the body. Errors: `InputError` as `queries`."""
        check_count(count)
        self._check_room(length, f"length {length}")
        body = self._body(length)
        generators = (rng(seed, "needle-question", index) for index in range(count))
        return stacked([self._row(generator, length, length, 0, body) for generator in generators])

    def _body(self, length: int) -> int:
        """Tokens before the marker; the last value of the tail is a target alone, hence not one token fewer."""
        return length - 2 * self.needles

    def _check_room(self, length: int, what: str) -> None:
        whole(length, "length", least=1)
        least = 3 * self.needles
        if length < least:
            raise InputError(
                f"{what} is {length} tokens, but {self.needles} needles and their questions need {least}: "
                "lengthen it or lower needles"
            )

    def _row(self, generator: np.random.Generator, length: int, true_length: int, start: int, width: int) -> Row:
        """One sequence of `true_length + 1` tokens, its needles in `width` tokens from `start`, padded to `length`."""
        n = self.needles
        body = self._body(true_length)
        # Drawn without return, so that each key asks for one value.
        all_keys = generator.permutation(self.keys)
        keys = all_keys[:n]
        values = generator.integers(self.values, size=n)
        # The slots come in random order, so that the questions need no shuffle of their own.
        places = generator.permutation(width)
        slots = start + places[:n]
        # Filler everywhere, and then what stands on it: what is left behind the end is the padding.
        first_filler = self.keys + self.values
        tokens = generator.integers(first_filler, self.marker, size=length + 1, dtype=np.int32)
        pairs = keys * self.values + values
        tokens[slots] = self.marker + 1 + pairs
        tokens[body] = self.marker
        tokens[body + 1 : true_length : 2] = keys
        tokens[body + 2 : true_length + 1 : 2] = self.keys + values
        # Where a key of the questions is read, its value is what comes next.
        weights = np.zeros(length, np.float32)
        weights[body + 1 : true_length : 2] = 1.0
        return {"inputs": tokens[:-1], "targets": tokens[1:], "weights": weights}
