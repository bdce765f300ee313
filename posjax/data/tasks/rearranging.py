"""Say a sequence of symbols again, in an order that the task fixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.data.tasks.answering import Answering
from posjax.data.tasks.drawn import Drawn
from posjax.fields import AtLeast


@dataclass(frozen=True)
class Rearrangement(Answering):
    """Random symbols, a marker, and the same symbols in the order of `arranged`.

    Tokens: the symbols, then the marker. `symbols`: how many there are, at least 2.
    """

    symbols: Annotated[int, AtLeast(2, "how many symbols there are")] = 16

    # Each symbol is read once and said once.
    per_size = 2
    overhead = 1

    @property
    def vocabulary(self) -> int:
        return self.symbols + 1

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the symbols."""
        return 1.0 / self.symbols

    def pair(self, generator: np.random.Generator, size: int) -> Drawn:
        question = generator.integers(self.symbols, size=size)
        return question, self.arranged(question)

    def arranged(self, question: np.ndarray) -> np.ndarray:
        """The answer: the symbols of the question `[n]` in their new order."""
        raise NotImplementedError


@dataclass(frozen=True)
class Copy(Rearrangement):
    """Say a sequence again.

    Where a symbol occurs twice, content alone does not tell which one comes next, so that a model which only looks for
    the last symbol's twin is right more rarely the longer the sequence is.

    Fields, tokens and errors: as `Rearrangement`. Source: Kazemnejad et al. 2023, arXiv:2305.19466.

    >>> row = Copy(symbols=4).questions(length=6, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["weights"][0].tolist()
    ([0, 3, 1, 4, 0, 3], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    """

    def arranged(self, question: np.ndarray) -> np.ndarray:
        return question


@dataclass(frozen=True)
class Reverse(Rearrangement):
    """Say a sequence backwards: the distance to the next symbol grows by two with each that is said.

    Fields, tokens and errors: as `Rearrangement`. Source: Deletang et al. 2022, arXiv:2207.02098.

    >>> Reverse(symbols=4).questions(length=6, count=1, seed=0)["targets"][0].tolist()
    [3, 3, 4, 3, 3, 3]
    """

    def arranged(self, question: np.ndarray) -> np.ndarray:
        return question[::-1]


@dataclass(frozen=True)
class OddsFirst(Rearrangement):
    """Say every second symbol of a sequence, from the first on, and then those between.

    Fields, tokens and errors: as `Rearrangement`. Source: Deletang et al. 2022, arXiv:2207.02098.

    >>> OddsFirst().arranged(np.arange(5)).tolist()
    [0, 2, 4, 1, 3]
    """

    def arranged(self, question: np.ndarray) -> np.ndarray:
        # Counted from 1, as people count, these are the odd ones.
        return np.concatenate([question[::2], question[1::2]])


@dataclass(frozen=True)
class Sort(Rearrangement):
    """Say the symbols of a sequence in rising order; with few symbols this is bucket sort.

    A longer sequence of few symbols has long runs in its answer, and whoever says the last symbol again is right within
    them: `exact` tells more than `accuracy`, and `chance` is that of a first symbol.

    Fields, tokens and errors: as `Rearrangement`. Source: Deletang et al. 2022, arXiv:2207.02098.

    >>> Sort(symbols=4).questions(length=6, count=1, seed=0)["targets"][0].tolist()
    [0, 1, 4, 0, 1, 1]
    """

    def arranged(self, question: np.ndarray) -> np.ndarray:
        return np.sort(question)
