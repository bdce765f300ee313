"""Drawings of scores and biases as curves, most against the distance between query and key."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.pages import picture_axes as axes
from experiments.pages.logits import DRAWS, HEAD_SIZE, aligned, at_each, distances, logits, params_of, vectors
from posjax.encodings import Encoding, Head

HEADS = 8
NEAR = 512
"""The farthest distance of encodings that need every token between."""
BENDS = 10
"""Heads whose lines turn as often as this cross so much that two of them are shown instead of all."""
SCORE = "q k / sqrt(H)"


def scores(figure: Figure, value: Encoding) -> None:
    """Two lines: the score of a vector with itself, and the size of that of two that have nothing in common."""
    axis, at = figure.subplots(), distances()
    q = vectors(DRAWS, 8, 2)
    k = at_each(vectors(DRAWS, 8, 3), len(at))
    # Independent vectors score zero on average, whatever the encoding; their size shows whether it decays.
    unrelated = np.abs(logits(value, q, k, at)).mean((0, 1))
    axes.line(axis, at, aligned(value, 1, at)[0], "q = k", 0)
    axes.line(axis, at, unrelated, "q, k independent: mean |score|", 1)
    axis.legend(**axes.LEGEND)
    axes.by_distance(axis, SCORE)


def scores_by_head(figure: Figure, value: Any) -> None:
    """The score of a vector with itself in each head of a composition."""
    axis, at = figure.subplots(), distances()
    # Two heads for each part: a composition by head needs a multiple of its parts, and ALiBi differs by head.
    heads = 2 * len(value.parts)
    axes.lines_by_head(axis, at, aligned(value, heads, at))
    axes.by_distance(axis, SCORE)


def bias(figure: Figure, value: Encoding) -> None:
    """A bias that depends on the distance alone, head by head."""
    axis, at = figure.subplots(), distances()
    params = params_of(value, HEADS)
    lines = np.stack([value.by_distance(params, jnp.asarray(at), Head(head, HEADS)) for head in range(HEADS)])
    if _bends(lines[0]) >= BENDS:
        lines = lines[:2]
    axes.lines_by_head(axis, at, lines)
    axes.by_distance(axis, "bias")


def _bends(line: np.ndarray) -> int:
    """How often a line turns from rising to falling or back."""
    directions = np.sign(np.diff(line))
    return int(np.sum(np.diff(directions) != 0))


def bias_by_query(figure: Figure, value: Encoding) -> None:
    """A bias that depends on the query's position too: one head, a line for each of several queries."""
    axis, params = figure.subplots(), params_of(value, HEADS)
    for index, q_at in enumerate((512, 1024, 2048, 4096)):
        # A query has no keys farther away than the start of the text.
        back = distances(q_at)
        biases = value.bias(params, jnp.array([q_at]), jnp.asarray(q_at - back), Head(0, HEADS))
        axes.line(axis, back, biases[0], f"query at {q_at:,}", index)
    axis.legend(**axes.LEGEND)
    axes.by_distance(axis, "bias")


def one_vector(figure: Figure, value: Encoding) -> None:
    """Scores where every query and key is the same vector, in four heads."""
    axis = figure.subplots()
    # Every token between counts here, so none may be left out, and keys stand in their order.
    back = np.arange(NEAR - 1, -1, -1)
    q = vectors(1, 4, 4)
    found = logits(value, q, at_each(q, NEAR), back, NEAR - 1)
    axes.lines_by_head(axis, back, found[0])
    axes.by_distance(axis, "score", NEAR)


def temperature(figure: Figure, value: Encoding) -> None:
    """The factor by which queries are multiplied, against their position."""
    axis, at = figure.subplots(), distances()
    # Ones, so that what comes out is the factor itself.
    ones = jnp.ones((1, len(at), 1, HEAD_SIZE))
    scaled = value.rotate(params_of(value, 1), ones, jnp.asarray(at), "query")
    axes.line(axis, at, scaled[0, :, 0, 0], "", 0)
    axes.by_distance(axis, "factor of the queries", x="position of the query")
