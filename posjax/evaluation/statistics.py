"""Yardsticks and intervals: what a number means before it is believed."""

from __future__ import annotations

import numpy as np

from posjax.data import SEPARATOR, Documents
from posjax.data.randomness import rng

PART = 2**20
"""Bytes that are counted at once."""


def _first(documents: Documents) -> int:
    text = documents.train[0]
    return text[0] if text else SEPARATOR


def bootstrap_ratio(losses: np.ndarray, base: np.ndarray, seed: int, draws: int = 2000) -> tuple[float, float, float]:
    """`exp(mean(losses - base))` over paired windows `[n]`, and its 95 % interval by resampling the windows.

    >>> bootstrap_ratio(np.log([2.0, 2.0]), np.zeros(2), seed=0)
    (2.0, 2.0, 2.0)
    """
    difference = np.asarray(losses, np.float64) - np.asarray(base, np.float64)
    chosen = rng(seed, "bootstrap").integers(0, len(difference), (draws, len(difference)))
    low, high = np.exp(np.quantile(difference[chosen].mean(axis=1), [0.025, 0.975]))
    return float(np.exp(difference.mean())), float(low), float(high)


def yardsticks(documents: Documents, windows: np.ndarray, tail: int) -> dict[str, float]:
    """The losses, in nats per byte, of counting: the last `tail` targets of each window by training frequencies.

    A model above "unigram" is worse than knowing which bytes are frequent. Counts are smoothed by one.
    """
    size = SEPARATOR + 1
    pairs = np.ones((size, size))
    last = None
    for document in documents.train:
        # A part at a time, since whole numbers of all pairs would take twenty times the text's own size.
        for first in range(0, max(len(document), 1), PART):
            part = np.frombuffer(document[first : first + PART], np.uint8).astype(np.int32)
            ends = first + PART >= len(document)
            text = np.concatenate([[] if last is None else [last], part, [SEPARATOR] if ends else []]).astype(np.int32)
            pairs += np.bincount(text[:-1] * size + text[1:], minlength=size * size).reshape(size, size)
            last = int(text[-1])
    # Each token is the second of a pair but the first one; both are smoothed by one, each pair and each token.
    single = (pairs - 1).sum(axis=0) + 1
    single[_first(documents)] += 1
    before, targets = windows[:, -tail - 1 : -1], windows[:, -tail:]
    return {
        "unigram": float(-np.log(single / single.sum())[targets].mean()),
        "bigram": float(-np.log(pairs / pairs.sum(axis=1, keepdims=True))[before, targets].mean()),
    }
