"""What a search reads: rows at the length that is aimed at, with a weight on each target that counts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from posjax.data import Documents, Task, training_windows
from posjax.data.randomness import rng
from posjax.data.source import Row, stacked

On = Literal["text", "needles"]
"""What a loss is of: the last targets of windows of a text, or a task's answers."""


def on(data: Documents | Task) -> On:
    """What a loss on these data is of."""
    if isinstance(data, Documents):
        return "text"
    return "needles"


def rows(data: Documents | Task, length: int, trained: int, count: int, seed: int) -> Row:
    """`count` rows of `length` tokens, each array `[count, length]`: of the training text, or a task's questions.

    Of a text the last half of a trained length counts, where all but the first tokens before it are new to the model;
    of a task its answers. Errors: `InputError` for a text or a length that has no room for them.
    """
    if isinstance(data, Task):
        return data.questions(length, count, seed)
    windows = training_windows(data, length, seed)
    found = stacked([windows[index] for index in range(count)])
    return weighted(found, trained)


def weighted(found: Row, trained: int) -> Row:
    """Rows of a text of which the last half of a trained length counts alone."""
    tail = max(trained // 2, 1)
    weights = np.zeros_like(found["weights"])
    weights[:, -tail:] = 1.0
    return {**found, "weights": weights}


def seed_for(seed: int, purpose: str) -> int:
    """A seed of its own for a part of a search, so that no row is read for two purposes."""
    generator = rng(seed, f"search-{purpose}")
    return int(generator.integers(2**31))
