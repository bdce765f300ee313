"""Recall by a neighbour: what stood behind this token when it was last seen?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.data.tasks.drawn import Drawn, DrawnTask, PlacedTask, band, pairs_of_places
from posjax.errors import InputError
from posjax.fields import AtLeast


@dataclass(frozen=True)
class AssociativeRecall(DrawnTask):
    """Multi-query associative recall (MQAR): pairs of a key and its value, and every key once more, somewhere later.

    One sequence: key value key value ... | filler in which each pair stands once again, at a random place. The weight
    is 1 where a key is read for the second time. Unlike `Needles`, a pair is two tokens, so that a model has to join
    neighbours before it can look one up.

    Tokens: keys, then values, then fillers. The fields are how many distinct `keys`, `values` and `fillers` there are,
    and how many `pairs` a sequence has.

    Errors: `InputError` if a field is out of range.
    Source: Arora et al. 2023, arXiv:2312.04927 (Zoology), whose gaps follow a power law; here every place is as likely.

    >>> row = AssociativeRecall(pairs=1, fillers=1).questions(length=5, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["weights"][0].tolist()
    ([0, 29, 0, 29, 32], [0.0, 0.0, 1.0, 0.0, 0.0])
    """

    keys: Annotated[int, AtLeast(1)] = 16
    values: Annotated[int, AtLeast(2)] = 16
    fillers: Annotated[int, AtLeast(1)] = 16
    pairs: Annotated[int, AtLeast(1)] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs > self.keys:
            raise InputError(
                f"AssociativeRecall got pairs={self.pairs} of keys={self.keys}: keys in a sequence are distinct; raise "
                "keys"
            )

    @property
    def vocabulary(self) -> int:
        return self.keys + self.values + self.fillers

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the values."""
        return 1.0 / self.values

    @property
    def least(self) -> int:
        return 4 * self.pairs - 1

    def sequence(self, generator: np.random.Generator, length: int) -> Drawn:
        # Without return: a key of two values would have no right answer.
        keys = generator.permutation(self.keys)[: self.pairs]
        values = self.keys + generator.integers(self.values, size=self.pairs)
        first_filler = self.keys + self.values
        tokens = generator.integers(first_filler, self.vocabulary, size=length + 1)
        # All pairs are told before any is asked for, as published.
        told = 2 * self.pairs
        tokens[:told:2] = keys
        tokens[1:told:2] = values
        rest = length + 1 - told
        # In an order of their own, or the next key would be known from the last.
        places = generator.permutation(pairs_of_places(generator, told, rest, self.pairs))
        tokens[places] = keys
        tokens[places + 1] = values
        answers = np.zeros(length + 1, bool)
        answers[places + 1] = True
        return tokens, answers


@dataclass(frozen=True)
class InductionAtDistance(PlacedTask):
    """A bigram that was seen once comes again: say its second half.

    One sequence: random symbols, in which the first halves of the bigrams stand nowhere else | the bigrams again, in
    another order. The weight is 1 where a first half is read again. An induction head (Olsson et al.) is what solves
    it, at whatever distance the encoding lets it see.

    Tokens: the symbols, all alike. The fields are how many `symbols` there are, and how many `bigrams` come again.

    Errors: `InputError` if a field is out of range.
    Source: Olsson et al. 2022, arXiv:2209.11895.

    >>> row = InductionAtDistance(symbols=4, bigrams=1).queries(length=8, depth=0.5, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -1].item()
    ([3, 3, 3, 0, 3, 3, 1, 0], 3)
    """

    symbols: Annotated[int, AtLeast(2)] = 32
    bigrams: Annotated[int, AtLeast(1)] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.symbols < self.bigrams + 2:
            raise InputError(
                f"InductionAtDistance got symbols={self.symbols} and bigrams={self.bigrams}: what is said is among at "
                "least 2 other symbols; raise symbols"
            )

    @property
    def vocabulary(self) -> int:
        return self.symbols

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the symbols that are no first half."""
        # Who has counted knows what is no first half, and what is one is never an answer.
        return 1.0 / (self.symbols - self.bigrams)

    @property
    def least(self) -> int:
        return 4 * self.bigrams - 1

    def placed(self, generator: np.random.Generator, length: int, depth: float | None) -> Drawn:
        body = length + 1 - 2 * self.bigrams
        symbols = generator.permutation(self.symbols)
        firsts, others = np.split(symbols, [self.bigrams])
        # The first halves occur where they are put and nowhere else.
        tokens = generator.choice(others, size=length + 1)
        # The halves that are asked for are among what was drawn: the body is written from them.
        tokens[body::2] = firsts
        seconds = tokens[body + 1 :: 2]
        start, width = band(body, depth, 2 * self.bigrams)
        places = generator.permutation(pairs_of_places(generator, start, width, self.bigrams))
        tokens[places] = firsts
        tokens[places + 1] = seconds
        answers = np.zeros(length + 1, bool)
        answers[body + 1 :: 2] = True
        return tokens, answers
