"""The contract of a task: rows to train on and questions to measure on, each a pure function of (seed, index)."""

from __future__ import annotations

from typing import ClassVar

import grain

from posjax.arguments import whole
from posjax.data.source import Form, Row


class Task:
    """A frozen dataclass that draws sequences of tokens with something to answer in them.

    A row is `{"inputs": int32[length], "targets": int32[length], "weights": float32[length]}`. The model reads the
    inputs and foretells the targets; the weight is 1 where an answer is foretold, and 0 elsewhere. A task of the form
    "pairs" has a `source` for an encoder too, and `real` where it is no padding. A new task is a file that derives from
    this.
    """

    form: ClassVar[Form] = "tokens"

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        raise NotImplementedError

    @property
    def chance(self) -> float:
        """The share of right answers of a blind guess."""
        raise NotImplementedError

    def rows(self, length: int, seed: int) -> grain.MapDataset:
        """Endless training rows of `length` tokens; row i is a pure function of (seed, i).

        Errors: `InputError` if the length has no room for the task.
        """
        raise NotImplementedError

    def questions(self, length: int, count: int, seed: int) -> Row:
        """`count` rows to measure on, as long and hard as `length` has room for; each array is `[count, length]`.

        Row i is a pure function of (seed, i, length), independent of the training rows. Errors: `InputError` if the
        length has no room for the task, or the count is below 1.
        """
        raise NotImplementedError


class DepthTask(Task):
    """A task whose answers stand somewhere in the text, which questions can place."""

    def queries(self, length: int, depth: float, count: int, seed: int) -> Row:
        """As `questions`, the answers standing at a depth from 0, farthest from the questions, up to 1.

        Errors: `InputError` if the depth lies outside, too.
        """
        raise NotImplementedError


def check_count(count: int) -> None:
    """Errors: `InputError` for what is no number of rows to ask, 1 or more.

    >>> check_count(0)
    Traceback (most recent call last):
    posjax.errors.InputError: count is 0: needed is a whole number, 1 or more and below 2^31
    """
    whole(count, "count", least=1)
