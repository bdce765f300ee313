"""What evaluations on text share: windows of it with the bytes they stand for, and which data is text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from posjax.data import Documents, Task, target_bytes, validation_windows, window_files
from posjax.errors import InputError


def require_text(evaluation: str, data: Any) -> None:
    """Errors: `InputError` where a run's data is a task, which has no running text."""
    # Asked that way round, since kinds of text may be added and have nothing in common but their methods.
    if isinstance(data, Task):
        raise InputError(
            f"{evaluation} measures the loss on text and the run's data is {type(data).__name__}: give the run a text, "
            "such as StandardLibrary(), or evaluate the task by Retrieval"
        )


@dataclass(frozen=True, eq=False)
class Excerpts:
    """Windows of validation text: `tokens [n, length + 1]`, the bytes of each target, the file that each is from."""

    tokens: np.ndarray
    bytes_of: np.ndarray
    files: np.ndarray

    @classmethod
    def draw(cls, documents: Documents, length: int, count: int, seed: int) -> Excerpts:
        tokens = validation_windows(documents, length, count, seed)
        of_targets = target_bytes(documents, length, count, seed)
        return cls(tokens, of_targets, window_files(documents, length, count, seed))

    def others(self) -> np.ndarray:
        """For each window the number of one from another file, or, where all are from one, of another window.

        Each is the next one of another file behind it, so that all windows are taken about as often. Errors:
        `InputError` for a single window.
        """
        count = len(self.files)
        if count < 2:
            raise InputError("text is swapped for that of another window, and there is 1 window: ask for 2 or more")
        found = []
        for i in range(count):
            # Around the end, so that the last window finds another one too.
            behind = [(i + step) % count for step in range(1, count)]
            elsewhere = [j for j in behind if self.files[j] != self.files[i]]
            found.append((elsewhere or behind)[0])
        return np.array(found)

    def bytes_each(self, targets: slice) -> float:
        """The mean bytes of a target, by which nats a token become nats a byte; NaN where no target stands for any."""
        mean = float(self.bytes_of[:, targets].mean())
        # Of special tokens alone, say.
        if mean == 0:
            return math.nan
        return mean
