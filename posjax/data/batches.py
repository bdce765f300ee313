"""Batches by their number: the batch is a function of (dataset, step)."""

from __future__ import annotations

import grain
import numpy as np

from posjax.arguments import whole
from posjax.data.source import stacked
from posjax.errors import InputError


class Batches:
    """Cuts a dataset of rows into batches: row r of batch `step` is item `step * size + r`.

    Access is random, so a run that resumes at step n needs to remember only n, and a process reads exactly the rows
    that its devices hold, however many processes there are.

    Items of `rows` are dictionaries of arrays, the same keys and shapes in each; `size` is how many rows a batch has,
    over all processes.

    Errors: `InputError` if the size is below 1, a number is no whole one, a step or a range of rows lies outside, or
    the dataset has a gap.

    >>> rows = grain.MapDataset.range(100).map(lambda i: {"inputs": np.array([i, i + 1])})
    >>> Batches(rows, size=3).batch(2)["inputs"].tolist()
    [[6, 7], [7, 8], [8, 9]]
    >>> Batches(rows, size=3).rows(2, 1, 2)["inputs"].tolist()
    [[7, 8]]
    """

    def __init__(self, rows: grain.MapDataset, size: int):
        self._dataset = rows
        self.size = whole(size, "size", least=1)

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Batch number `step`, each array `[size, ...]`."""
        return self.rows(step, 0, self.size)

    def rows(self, step: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Rows `start` up to `stop` of batch `step`, each array `[stop - start, ...]`."""
        # True would be row 1, and half a step a row of another batch.
        step = whole(step, "step")
        start = whole(start, "start")
        stop = whole(stop, "stop", least=1)
        if not 0 <= start < stop <= self.size:
            raise InputError(
                f"rows {start} to {stop} were asked of a batch of {self.size}: give 0 <= start < stop <= {self.size}"
            )
        # By number and not by an iterator, which a run that goes on would have to wind forward.
        first = step * self.size
        items = [self._item(first + row) for row in range(start, stop)]
        return stacked(items)

    def _item(self, index: int) -> dict[str, np.ndarray]:
        item = self._dataset[index]
        # Grain's way to say that a filter took it out: batch numbers would then depend on how many before it did.
        if item is None:
            raise InputError(
                f"row {index} is missing (the dataset filters it out): give Batches a dataset without filter"
            )
        return item
