"""What the tasks of this folder share: each says how one sequence is drawn, and has rows and questions by that."""

from __future__ import annotations

import grain
import numpy as np

from posjax.arguments import whole
from posjax.data.randomness import rng, whole_seed
from posjax.data.source import Row, endless, stacked
from posjax.data.task import DepthTask, Task, check_count
from posjax.errors import InputError
from posjax.fields import check_fields

BAND = 0.1
"""Answers at a depth lie in a band that is this part of the body."""

Drawn = tuple[np.ndarray, np.ndarray]
"""Tokens, and whether each is an answer: two arrays of one length."""


class DrawnTask(Task):
    """A task of sequences, each drawn by one generator.

    A sequence holds one token more than the model reads, its last target. Training rows have several true lengths in
    one static shape: what stands behind the true end is 0 of weight 0, where a causal model does not look.
    """

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def least(self) -> int:
        """The fewest tokens for a model to read that have room for the task."""
        raise NotImplementedError

    def sequence(self, generator: np.random.Generator, length: int) -> Drawn:
        """A sequence of which a model reads `length` tokens, or as many of them as the task can fill."""
        raise NotImplementedError

    def shortest(self, length: int) -> int:
        """The shortest true length of training rows of a length."""
        return max(self.least, length // 2)

    def rows(self, length: int, seed: int) -> grain.MapDataset:
        self.check_room(length)
        seed = whole_seed(seed)
        purpose = f"{type(self).__name__}-row"
        # Once, and not for each row.
        shortest = self.shortest(length)

        def row(index: int) -> Row:
            generator = rng(seed, purpose, index)
            # By the row's own generator and first, so that a row is one function of its number.
            true_length = int(generator.integers(shortest, length + 1))
            tokens, answers = self.sequence(generator, true_length)
            return padded(tokens, answers, length)

        return endless(row)

    def questions(self, length: int, count: int, seed: int) -> Row:
        check_count(count)
        self.check_room(length)
        # Of another purpose than the rows, so that no question was ever trained on; and by length, since longer
        # questions that began as the shorter ones would not be independent of them.
        purpose = f"{type(self).__name__}-question"
        generators = (rng(seed, purpose, index, length) for index in range(count))
        drawn = [self.sequence(generator, length) for generator in generators]
        return stacked([padded(tokens, answers, length) for tokens, answers in drawn])

    def check_room(self, length: int) -> None:
        """Errors: `InputError` if a model that reads `length` tokens has no room for the task."""
        whole(length, "length", least=1)
        if length < self.least:
            raise InputError(
                f"length {length} has no room for {self!r}, which needs {self.least} tokens: lengthen it or make the "
                "task smaller"
            )


class PlacedTask(DrawnTask, DepthTask):
    """A drawn task whose answers stand in a body, at a depth if one is asked for."""

    def placed(self, generator: np.random.Generator, length: int, depth: float | None) -> Drawn:
        """As `sequence`, what the answers are read from in the band at `depth`, and anywhere for `None`.

        What is asked is drawn before the places are, so that every depth asks the same.
        """
        raise NotImplementedError

    def sequence(self, generator: np.random.Generator, length: int) -> Drawn:
        # Training is on answers anywhere: a model that only knows one depth has learned a place and not to look.
        return self.placed(generator, length, None)

    def queries(self, length: int, depth: float, count: int, seed: int) -> Row:
        if not 0 <= depth < 1:
            raise InputError(f"depth is {depth}, but it is a part of the body: give 0 (far) or more, below 1 (near)")
        check_count(count)
        self.check_room(length)
        # Without the depth: at another one the same is asked, which pairs the comparison.
        purpose = f"{type(self).__name__}-query"
        generators = (rng(seed, purpose, index, length) for index in range(count))
        drawn = [self.placed(generator, length, depth) for generator in generators]
        return stacked([padded(tokens, answers, length) for tokens, answers in drawn])


def padded(tokens: np.ndarray, answers: np.ndarray, length: int) -> Row:
    """A sequence as a row of `length` inputs.

    >>> padded(np.array([5, 6, 7]), np.array([False, False, True]), length=3)["targets"].tolist()
    [6, 7, 0]
    """
    # A token of the vocabulary, so that padding is nothing that a model has to know of.
    whole = np.zeros(length + 1, np.int32)
    whole[: len(tokens)] = tokens
    weights = np.zeros(length, np.float32)
    # A token is foretold where the one before it is read.
    weights[: len(answers) - 1] = answers[1:]
    return {"inputs": whole[:-1], "targets": whole[1:], "weights": weights}


def band(body: int, depth: float | None, least: int) -> tuple[int, int]:
    """Where the band at a depth starts in a body, and how many tokens it holds, `least` or more.

    It is moved back where it would leave the body; without a depth it is all of it.

    >>> band(100, 0.95, least=4), band(100, None, least=4)
    ((90, 10), (0, 100))
    """
    if depth is None:
        return 0, body
    # A tenth of a short body may be narrower than what has to lie in it.
    width = max(least, int(BAND * body))
    start = min(int(depth * body), body - width)
    return start, width


def pairs_of_places(generator: np.random.Generator, start: int, width: int, count: int) -> np.ndarray:
    """The first places of `count` pairs of neighbours in a band, rising, no two of which overlap."""
    # A pair is one place of fewer, and pushes those behind it one further.
    chosen = generator.permutation(width - count)[:count]
    return start + np.sort(chosen) + np.arange(count)
