"""One thing to notice about a whole sequence: which symbol is the most frequent, which one is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.data.tasks.answering import Answering
from posjax.data.tasks.drawn import Drawn
from posjax.fields import AtLeast


@dataclass(frozen=True)
class Majority(Answering):
    """The most frequent symbol of a sequence; sequences with two such are not drawn.

    Order does not matter here, so a model without positions is no worse. Tokens: the symbols, then the marker.
    `symbols`: how many there are, at least 2.

    Errors: `InputError` if the field is out of range. Source: Kazemnejad et al. 2023, arXiv:2305.19466 ("mode").

    >>> row = Majority(symbols=3).questions(length=6, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -1].item()
    ([0, 0, 1, 0, 2, 3], 0)
    """

    symbols: Annotated[int, AtLeast(2, "how many symbols there are")] = 5

    per_size = 1
    overhead = 2

    @property
    def vocabulary(self) -> int:
        return self.symbols + 1

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the symbols."""
        return 1.0 / self.symbols

    def pair(self, generator: np.random.Generator, size: int) -> Drawn:
        # Drawn again until one is ahead, and not made so by a change: every sequence without a tie stays as likely.
        while True:
            question = generator.integers(self.symbols, size=size)
            counts = np.bincount(question, minlength=self.symbols)
            winners = np.flatnonzero(counts == counts.max())
            if len(winners) == 1:
                return question, winners


@dataclass(frozen=True)
class MissingDuplicate(Answering):
    """A sequence twice over with one symbol left blank, which its twin half a question away tells.

    Tokens: the symbols, then the blank, then the marker. `symbols`: how many there are, at least 2.

    Errors: `InputError` if the field is out of range. Source: Deletang et al. 2022, arXiv:2207.02098 (two symbols).

    >>> row = MissingDuplicate(symbols=4).questions(length=7, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -1].item()
    ([1, 4, 1, 1, 1, 1, 5], 1)
    """

    symbols: Annotated[int, AtLeast(2, "how many symbols there are")] = 16

    per_size = 2
    overhead = 2

    @property
    def vocabulary(self) -> int:
        return self.symbols + 2

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the symbols."""
        return 1.0 / self.symbols

    def pair(self, generator: np.random.Generator, size: int) -> Drawn:
        # One blank for the two halves: were it in the first alone, a model could learn where to look without the other.
        half = generator.integers(self.symbols, size=size)
        question = np.tile(half, 2)
        place = generator.integers(2 * size)
        # An index of one, so that it is an array and a copy, which the blank does not reach.
        missing = question[[place]]
        question[place] = self.symbols
        return question, missing
