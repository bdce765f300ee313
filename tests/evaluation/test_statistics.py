"""Intervals and yardsticks, against loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from posjax.data import SEPARATOR, Documents
from posjax.evaluation.statistics import bootstrap_ratio, yardsticks


def test_the_interval_is_that_of_the_mean_of_paired_differences():
    random = np.random.default_rng(0)
    base = random.normal(3, 1, 400)
    losses = base + random.normal(0.2, 0.3, 400)
    ratio, low, high = bootstrap_ratio(losses, base, seed=1)
    difference = losses - base
    assert ratio == pytest.approx(np.exp(difference.mean()), rel=1e-12)
    half = 1.96 * difference.std() / np.sqrt(400)
    assert np.log(low) == pytest.approx(difference.mean() - half, abs=half / 8)
    assert np.log(high) == pytest.approx(difference.mean() + half, abs=half / 8)


def test_what_both_share_does_not_widen_it():
    random = np.random.default_rng(0)
    difference, noise = random.normal(0.1, 0.05, 50), random.normal(0, 100, 50)
    narrow = bootstrap_ratio(difference, np.zeros(50), seed=0)
    np.testing.assert_allclose(bootstrap_ratio(difference + noise, noise, seed=0), narrow, rtol=1e-9)


def test_it_is_a_function_of_its_seed():
    losses = np.random.default_rng(0).normal(size=20)
    one, same, other = (bootstrap_ratio(losses, np.zeros(20), seed) for seed in (1, 1, 2))
    assert one == same and one[0] == other[0] and one != other


def test_one_window_has_no_spread():
    assert bootstrap_ratio(np.array([1.0]), np.array([0.5]), 0) == (pytest.approx(np.exp(0.5)),) * 3


def test_yardsticks_are_counts():
    documents = Documents("toy", (b"abab", b"abc"), (b"",), "0")
    windows = np.array([[97, 98, 97, 99], [98, 99, 99, 97]])
    tokens = [*b"abab", SEPARATOR, *b"abc", SEPARATOR]
    single = {t: 1 for t in range(257)}
    pairs = {(a, b): 1 for a in range(257) for b in range(257)}
    for token in tokens:
        single[token] += 1
    for pair in pairwise(tokens):
        pairs[pair] += 1
    unigram, bigram = [], []
    for window in windows:
        for before, target in pairwise(window[1:]):  # The last two targets.
            unigram.append(-np.log(single[target] / sum(single.values())))
            bigram.append(-np.log(pairs[before, target] / sum(pairs[before, b] for b in range(257))))
    found = yardsticks(documents, windows, tail=2)
    assert found == {"unigram": pytest.approx(np.mean(unigram)), "bigram": pytest.approx(np.mean(bigram))}
