"""What a long text is mostly made of: the words that occur most often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.data.tasks.drawn import Drawn, DrawnTask
from posjax.errors import InputError
from posjax.fields import Above, AtLeast


@dataclass(frozen=True)
class CommonWords(DrawnTask):
    """Which words are the common ones, each `ratio` times as frequent as a rare word, or a little more.

    One sequence: the words in random order | marker | the common words, by their number. Every rare word occurs equally
    often, and once at least. Tokens: words, then the marker. The fields are how many `words` there are, how many of
    them are `common`, and the `ratio`.

    Errors: `InputError` if a field is out of range.
    Source: Hsieh et al. 2024, arXiv:2404.06654 (RULER), common words: 10 words 30 times, and others 3 times.

    >>> row = CommonWords(words=4, common=1, ratio=3).questions(length=7, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -1].item()
    ([3, 2, 3, 1, 0, 3, 4], 3)
    """

    words: Annotated[int, AtLeast(2)] = 24
    common: Annotated[int, AtLeast(1)] = 2
    ratio: Annotated[int, AtLeast(2)] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.common >= self.words:
            raise InputError(f"CommonWords got common={self.common} of words={self.words}: lower common")

    @property
    def vocabulary(self) -> int:
        return self.words + 1

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the words."""
        return 1.0 / self.words

    @property
    def least(self) -> int:
        return self._unit + self.common

    @property
    def _unit(self) -> int:
        """Tokens of a text in which rare words occur once."""
        return self.words - self.common + self.common * self.ratio

    def sequence(self, generator: np.random.Generator, length: int) -> Drawn:
        body = length - self.common
        # In an order that the words have by themselves, since among themselves none is more common.
        chosen = np.sort(generator.permutation(self.words)[: self.common])
        seldom = body // self._unit
        counts = np.full(self.words, seldom)
        # What is left over makes the common ones more common still, in equal parts.
        left = body - seldom * (self.words - self.common)
        counts[chosen] = (left + np.arange(self.common)) // self.common
        # Each word as often as it has to be, and then in any order.
        text = generator.permutation(np.repeat(np.arange(self.words), counts))
        tokens = np.concatenate([text, [self.words], chosen])
        return tokens, np.arange(length + 1) > body


@dataclass(frozen=True)
class FrequentWords(DrawnTask):
    """Which words are the most frequent, where frequencies fall off as in real text.

    One sequence: words, drawn from Zipf's law | marker | the `asked` most frequent ones, the first one first. Which
    word has which rank is drawn for each sequence, and sequences in which these counts tie are not drawn. Tokens:
    words, then the marker. The fields are how many `words` there are, how many of them are `asked` for, and `alpha` of
    Zipf's law, in which rank k has a share of k^-alpha.

    Errors: `InputError` if a field is out of range.
    Source: Hsieh et al. 2024, arXiv:2404.06654 (RULER), frequent words: the first 3, alpha 2.

    >>> row = FrequentWords(words=4, asked=1).questions(length=9, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -1].item()
    ([1, 1, 1, 1, 3, 1, 1, 1, 4], 1)
    """

    words: Annotated[int, AtLeast(2)] = 24
    asked: Annotated[int, AtLeast(1)] = 3
    alpha: Annotated[float, Above(0)] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.asked >= self.words:
            raise InputError(f"FrequentWords got asked={self.asked} of words={self.words}: lower asked")
        # Steeper, and the words behind the first hardly occur, let alone at counts of their own.
        if self.alpha > 3:
            raise InputError(f"FrequentWords got alpha={self.alpha}: needed is 3 or less")

    @property
    def vocabulary(self) -> int:
        return self.words + 1

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the words."""
        return 1.0 / self.words

    @property
    def least(self) -> int:
        # Distinct counts of so many words are common enough in eight times their number.
        return 8 * self.asked + self.asked

    def sequence(self, generator: np.random.Generator, length: int) -> Drawn:
        body = length - self.asked
        weights = np.arange(1, self.words + 1) ** -self.alpha
        # Else the most frequent word would be the same in all texts, and be learned by heart.
        by_rank = generator.permutation(self.words)
        while True:
            ranks = generator.choice(self.words, size=body, p=weights / weights.sum())
            counts = np.bincount(ranks, minlength=self.words)
            order = np.argsort(-counts, kind="stable")
            # The last one asked for is ahead of the next one too.
            leading = counts[order[: self.asked + 1]]
            if (np.diff(leading) < 0).all():
                break
        tokens = np.concatenate([by_rank[ranks], [self.words], by_rank[order[: self.asked]]])
        return tokens, np.arange(length + 1) > body
