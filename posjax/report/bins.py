"""Scores by distance, gathered into as many bins as a heat map can show."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

DISTANCES = 72
"""Bins at most."""


def binned(distances: Sequence[float], scores: Sequence[float]) -> list[tuple[float, float, float]]:
    """(from, to below, mean score) of each bin, evenly wide on a logarithmic axis, which has no place for distance 0.

    >>> binned([0, 1, 2], [0.0, -1.0, -2.0])
    [(1, 2, -1.0), (2, 4.0, -2.0)]
    """
    pairs = [(distance, score) for distance, score in zip(distances, scores, strict=False) if distance > 0]
    pairs = sorted(pair for pair in pairs if math.isfinite(pair[1]))
    if not pairs:
        return []
    measured = [distance for distance, _ in pairs]
    edges = _edges(measured)
    # The pairs of bin k are those from cuts[k] up to cuts[k + 1].
    cuts = [bisect.bisect_left(measured, edge) for edge in edges]
    # A narrow bin between two whole distances holds none; its neighbour on the left then reaches over it.
    starts = [k for k in range(len(edges) - 1) if cuts[k] < cuts[k + 1]]
    ends = [*starts[1:], len(edges) - 1]
    bins = []
    for start, end in zip(starts, ends, strict=True):
        total = sum(score for _, score in pairs[cuts[start] : cuts[end]])
        bins.append((edges[start], edges[end], total / (cuts[end] - cuts[start])))
    return bins


def _edges(measured: list[float]) -> list[float]:
    """The edges of the bins, from the least distance to beyond the largest."""
    first, last = measured[0], measured[-1]
    if len(measured) > DISTANCES:
        span = math.log((last + 1) / first)
        return [first * math.exp(span * k / DISTANCES) for k in range(DISTANCES + 1)]
    # Few distances have a bin each, and the last one is as wide as its neighbour on the logarithmic axis.
    if len(measured) > 1:
        return [*measured, last**2 / measured[-2]]
    return [first, 2 * first]
