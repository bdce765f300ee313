"""The shape of the tasks of length generalisation: a question, a marker, and the answer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from posjax.data.tasks.drawn import Drawn, DrawnTask


class Answering(DrawnTask):
    """A question of some size, a marker, and its answer, which a decoder says token by token.

    A question of size n and its answer are `per_size * n + overhead` tokens together, the marker included. Training
    rows have every size that fits, since the short ones teach the rule and the long ones that it goes on.
    """

    # Two numbers and not a method: what every task here grows by is the same from size to size.
    per_size: ClassVar[int]
    overhead: ClassVar[int]

    @property
    def marker(self) -> int:
        """The token between question and answer, the last of the vocabulary."""
        return self.vocabulary - 1

    @property
    def least(self) -> int:
        # A model does not read the last token.
        return self.per_size + self.overhead - 1

    def shortest(self, length: int) -> int:
        return self.least

    def pair(self, generator: np.random.Generator, size: int) -> Drawn:
        """A question of a size, and its answer: two arrays of tokens."""
        raise NotImplementedError

    def sequence(self, generator: np.random.Generator, length: int) -> Drawn:
        # As large as fits: of what is left over, fewer tokens than one more size needs, nothing is made.
        size = (length + 1 - self.overhead) // self.per_size
        question, answer = self.pair(generator, size)
        tokens = np.concatenate([question, [self.marker], answer])
        return tokens, np.arange(len(tokens)) > len(question)
