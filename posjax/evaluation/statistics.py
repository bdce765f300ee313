"""Yardsticks and intervals: what a number means before it is believed."""

from __future__ import annotations

import numpy as np

from posjax.data import SEPARATOR, Documents
from posjax.data.randomness import rng


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
    text = np.concatenate([np.append(np.frombuffer(d, np.uint8).astype(np.int64), SEPARATOR) for d in documents.train])
    pairs = np.bincount(text[:-1] * size + text[1:], minlength=size * size).reshape(size, size) + 1.0
    single = np.bincount(text, minlength=size) + 1.0
    before, targets = windows[:, -tail - 1 : -1], windows[:, -tail:]
    return {
        "unigram": float(-np.log(single / single.sum())[targets].mean()),
        "bigram": float(-np.log(pairs / pairs.sum(axis=1, keepdims=True))[before, targets].mean()),
    }
