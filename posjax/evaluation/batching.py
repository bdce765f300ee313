"""Rows that are more than one call should hold: equal batches of them, and what batches gave."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np

TOKENS = 16_384
"""Tokens in one call: enough to fill two cores, small enough for the caches of a laptop."""


def in_batches(count: int, length: int) -> list[np.ndarray]:
    """Which of `count` rows of `length` tokens each call takes. Equal batches, so that one compilation serves all.

    The last is filled up with the first rows, which `joined` drops.

    >>> [batch.tolist() for batch in in_batches(3, 8192)]
    [[0, 1], [2, 0]]
    """
    # One row at the least, however long it is.
    size = max(1, min(count, TOKENS // length))
    calls = math.ceil(count / size)
    # What fills up are rows that are there: made-up ones could be numbers that no model was built for.
    return np.split(np.resize(np.arange(count), calls * size), calls)


def joined(batches: Sequence[jax.Array | np.ndarray], count: int, axis: int = 0) -> np.ndarray:
    """What batches gave, together, without the rows that filled up the last one."""
    # Fetched one by one, so that no device holds what all of them gave at once.
    on_host = [np.asarray(batch) for batch in batches]
    together = np.concatenate(on_host, axis=axis)
    return np.take(together, np.arange(count), axis=axis)
