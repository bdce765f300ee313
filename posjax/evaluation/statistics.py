"""Yardsticks and intervals: what a number means before it is believed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from posjax.data import Documents
from posjax.data.randomness import rng

PART = 2**20
"""Tokens that are counted at once."""
QUANTILE = 1.959964
"""Of the normal distribution, which leaves 2.5 % above it."""


def bootstrap_ratio(losses: np.ndarray, base: np.ndarray, seed: int, draws: int = 2000) -> tuple[float, float, float]:
    """`exp(mean(losses - base))` over paired windows `[n]`, and its 95 % interval by resampling the windows.

    >>> bootstrap_ratio(np.log([2.0, 2.0]), np.zeros(2), seed=0)
    (2.0, 2.0, 2.0)
    """
    mean, low, high = bootstrap_mean(np.asarray(losses, np.float64) - np.asarray(base, np.float64), seed, draws)
    ratio, lowest, highest = np.exp([mean, low, high])
    return float(ratio), float(lowest), float(highest)


def bootstrap_mean(values: np.ndarray, seed: int, draws: int = 2000) -> tuple[float, float, float]:
    """The mean of one number a window, `[n]`, and its 95 % interval by resampling the windows.

    >>> bootstrap_mean(np.array([2.0, 2.0]), seed=0)
    (2.0, 2.0, 2.0)
    """
    exact = np.asarray(values, np.float64)
    windows = len(exact)
    # Whole windows are drawn, since the tokens within one are far from independent.
    generator = rng(seed, "bootstrap")
    chosen = generator.integers(0, windows, (draws, windows))
    means = exact[chosen].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(exact.mean()), float(low), float(high)


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` independent samples, by Wilson's score; never of width 0.

    It holds for the mean of shares too, which vary no more than samples that are right or wrong.

    >>> low, high = wilson(1.0, 100)
    >>> round(low, 3), high
    (0.963, 1.0)
    """
    share = float(share)  # In the digits of a float32 a bound of 0 would fall below it.
    squared = QUANTILE**2
    total = count + squared
    # Pulled towards a half: of a few samples that are all right one is not sure that all others are.
    centre = (share * count + squared / 2) / total
    variance = share * (1 - share) * count + squared / 4
    half = QUANTILE * math.sqrt(variance) / total
    # Rounded, since a bound that is 0 or 1 would miss it by the last bit.
    return round(float(centre - half), 12), round(float(centre + half), 12)


def yardsticks(documents: Documents, windows: np.ndarray, tail: int) -> dict[str, float]:
    """The losses, in nats per token, of counting: the last `tail` targets of each window by training frequencies.

    A model above "unigram" is worse than knowing which tokens are frequent. Counts are smoothed by one.
    """
    size = documents.tokens.vocabulary
    targets = windows[:, -tail:].astype(np.int64)
    given = windows[:, -tail - 1 : -1].astype(np.int64)
    # One number for each pair, and only those that are asked for: of 50,000 tokens there are too many to count all.
    asked, places = np.unique(given * size + targets, return_inverse=True)
    of_asked = np.ones(len(asked))
    single = np.ones(size)
    firsts = np.full(size, float(size))
    last = None
    for tokens in _parts(documents):
        single += np.bincount(tokens, minlength=size)
        # The pair that lies across two parts.
        before = tokens[:-1]
        after = tokens[1:]
        if last is not None:
            before = np.append(last, before)
            after = tokens
        firsts += np.bincount(before, minlength=size)
        of_asked += _counted(before * size + after, asked)
        last = tokens[-1]
    frequencies = single / single.sum()
    unigram = -np.log(frequencies)
    after_first = of_asked / firsts[asked // size]
    bigram = -np.log(after_first)
    by_token = unigram[targets].mean()
    by_pair = bigram[places.reshape(targets.shape)].mean()
    return {"unigram": float(by_token), "bigram": float(by_pair)}


def _counted(pairs: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How often each of the sorted numbers `asked` stands among `pairs`."""
    places = np.searchsorted(asked, pairs)
    places[places == len(asked)] = 0
    found = places[asked[places] == pairs]
    return np.bincount(found, minlength=len(asked))


def _parts(documents: Documents) -> Iterator[np.ndarray]:
    """The tokens of the training text in order, int64, a separator behind each document where there is one.

    A part at a time, since whole numbers of all pairs would take twenty times the text's own size.
    """
    read = documents.tokens
    for document in read.train:
        for start in range(0, max(len(document), 1), PART):
            end = start + PART
            part = document[start:end].astype(np.int64)
            if end >= len(document) and read.separator is not None:
                part = np.append(part, read.separator)
            if len(part):
                yield part
