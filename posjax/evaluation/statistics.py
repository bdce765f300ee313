"""Yardsticks and intervals: what a number means before it is believed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from posjax.data import SEPARATOR, Documents
from posjax.data.randomness import rng

PART = 2**20
"""Bytes that are counted at once."""


def bootstrap_ratio(losses: np.ndarray, base: np.ndarray, seed: int, draws: int = 2000) -> tuple[float, float, float]:
    """`exp(mean(losses - base))` over paired windows `[n]`, and its 95 % interval by resampling the windows.

    >>> bootstrap_ratio(np.log([2.0, 2.0]), np.zeros(2), seed=0)
    (2.0, 2.0, 2.0)
    """
    exact_losses = np.asarray(losses, np.float64)
    exact_base = np.asarray(base, np.float64)
    difference = exact_losses - exact_base
    windows = len(difference)
    # Whole windows are drawn, since the tokens within one are far from independent.
    generator = rng(seed, "bootstrap")
    chosen = generator.integers(0, windows, (draws, windows))
    means = difference[chosen].mean(axis=1)
    quantiles = np.quantile(means, [0.025, 0.975])
    low, high = np.exp(quantiles)
    ratio = np.exp(difference.mean())
    return float(ratio), float(low), float(high)


def yardsticks(documents: Documents, windows: np.ndarray, tail: int) -> dict[str, float]:
    """The losses, in nats per byte, of counting: the last `tail` targets of each window by training frequencies.

    A model above "unigram" is worse than knowing which bytes are frequent. Counts are smoothed by one.
    """
    size = SEPARATOR + 1
    # Smoothed by one, each pair here and each token below: what never came is then rare and not impossible.
    pairs = np.ones((size, size))
    first = None
    last = None
    for tokens in _parts(documents):
        if last is None:
            first = int(tokens[0])
        else:
            # The pair that lies across two parts.
            joined = np.concatenate([[last], tokens])
            tokens = joined.astype(np.int32)
        before = tokens[:-1]
        # One number for each pair, since that is what numpy counts.
        of_pair = before * size + tokens[1:]
        counts = np.bincount(of_pair, minlength=size * size)
        pairs += counts.reshape(size, size)
        last = int(tokens[-1])
    # Each token is the second of a pair, but the first one.
    counted = pairs - 1
    single = counted.sum(axis=0) + 1
    single[first] += 1
    targets = windows[:, -tail:]
    given = windows[:, -tail - 1 : -1]
    frequencies = single / single.sum()
    unigram = -np.log(frequencies)
    of_first = pairs.sum(axis=1, keepdims=True)
    after_first = pairs / of_first
    bigram = -np.log(after_first)
    by_token = unigram[targets].mean()
    by_pair = bigram[given, targets].mean()
    return {"unigram": float(by_token), "bigram": float(by_pair)}


def _parts(documents: Documents) -> Iterator[np.ndarray]:
    """The tokens of the training text in order, int32, a separator behind each document.

    A part at a time, since whole numbers of all pairs would take twenty times the text's own size.
    """
    for document in documents.train:
        for start in range(0, max(len(document), 1), PART):
            end = start + PART
            content = np.frombuffer(document[start:end], np.uint8)
            part = content.astype(np.int32)
            if end >= len(document):
                part = np.append(part, np.int32(SEPARATOR))
            yield part
