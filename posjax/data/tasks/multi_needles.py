"""Retrieval with more than one needle: among other keys, of several values, for several questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.data.tasks.drawn import Drawn, PlacedTask, band
from posjax.errors import InputError
from posjax.fields import AtLeast


@dataclass(frozen=True)
class MultiNeedles(PlacedTask):
    """Needles in filler, of which some are asked for.

    A needle is one token for a (key, value) pair, as in `Needles`. One sequence:

        body: filler with needles | marker | (key, its values) for each that is asked

    Values of one key differ, and are asked for in the order in which they stand. What RULER calls single is
    `needles=1`; multi-key is many `needles` of which one is asked for; multi-value is `each` above 1; multi-query is
    `asked` above 1.

    Tokens: keys, then values, then fillers, then the marker, then needles by `key * values + value`. The fields are how
    many distinct `keys`, `values` and `fillers` there are, how many keys are hidden (`needles`), how many values `each`
    of them has, and how many of the hidden keys are `asked` for.

    Errors: `InputError` if a field is out of range.
    Source: Hsieh et al. 2024, arXiv:2404.06654 (RULER), retrieval; its needles are sentences.

    >>> task = MultiNeedles(needles=2, each=2)
    >>> row = task.queries(length=16, depth=0.5, count=1, seed=0)
    >>> row["inputs"][0, -3:].tolist(), row["targets"][0, -2:].tolist(), row["weights"][0, -3:].tolist()
    ([48, 4, 21], [21, 16], [0.0, 1.0, 1.0])
    """

    keys: Annotated[int, AtLeast(1)] = 16
    values: Annotated[int, AtLeast(2)] = 16
    fillers: Annotated[int, AtLeast(1)] = 16
    needles: Annotated[int, AtLeast(1)] = 8
    each: Annotated[int, AtLeast(1)] = 1
    asked: Annotated[int, AtLeast(1)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.asked <= self.needles <= self.keys:
            raise InputError(
                f"MultiNeedles got asked={self.asked}, needles={self.needles} and keys={self.keys}: needed are no more "
                "asked than needles, and no more needles than keys"
            )
        if self.each > self.values:
            raise InputError(
                f"MultiNeedles got each={self.each} and values={self.values}: the values of a key differ; lower each"
            )

    @property
    def marker(self) -> int:
        """The token between the body and what is asked."""
        return self.keys + self.values + self.fillers

    @property
    def vocabulary(self) -> int:
        return self.marker + 1 + self.keys * self.values

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the values."""
        return 1.0 / self.values

    @property
    def least(self) -> int:
        return self.needles * self.each + self.asked * (1 + self.each)

    def placed(self, generator: np.random.Generator, length: int, depth: float | None) -> Drawn:
        body = length - self.asked * (1 + self.each)
        # Keys and their values are in random order already, so the first ones may be those that are asked.
        all_keys = generator.permutation(self.keys)
        keys = all_keys[: self.needles]
        # Without return within a key: a value that came twice would have no order of its own.
        values = np.array([generator.permutation(self.values)[: self.each] for _ in keys])
        first_filler = self.keys + self.values
        # Filler everywhere, and then what stands on it.
        tokens = generator.integers(first_filler, self.marker, size=length + 1)
        tokens[body] = self.marker
        tail = np.column_stack([keys, self.keys + values])[: self.asked]
        tokens[body + 1 :] = tail.ravel()
        answers = np.zeros(length + 1, bool)
        # In the tail all but the keys, which are the questions.
        answers[body + 1 :] = np.tile(np.arange(1 + self.each) > 0, self.asked)

        needles = keys[:, None] * self.values + values
        # Drawn last: how many draws this takes depends on the band, and all else has to be the same at every depth.
        start, width = band(body, depth, needles.size)
        places = generator.permutation(width)[: needles.size].reshape(needles.shape)
        # Within a key, from left to right, so that the order of the values is that of the text.
        tokens[start + np.sort(places, axis=1)] = self.marker + 1 + needles
        return tokens, answers
