"""Which drawing shows what an encoding does, and the words beneath it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from matplotlib.figure import Figure

from experiments.pages import curves, maps
from experiments.pages.curves import HEADS
from experiments.pages.logits import HEAD_SIZE, MODEL_SIZE
from posjax.encodings import Dims, Encoding, Schedule, traits


@dataclass(frozen=True)
class Drawing:
    """A way to draw a value into a figure, and what it then shows."""

    draw: Callable[[Figure, Any], None]
    words: str


def chosen(value: Any) -> Drawing:
    """The drawing for a value: the first that fits, from what is rarest to what all encodings have."""
    if isinstance(value, Schedule):
        return Drawing(
            maps.frequencies,
            "Left, the frequency of each pair of channels; right, the same divided by the plain one: "
            'head size 128, base 10,000. Behind "times" stands the attention factor',
        )
    # What moves tokens acts before any score, and has no score of its own to draw.
    if traits.moves_tokens(value):
        return Drawing(maps.placed, "Where the tokens of a row of 64 are said to be, for eight draws")
    if hasattr(value, "moved"):
        return Drawing(maps.moved, "Where queries and keys are said to stand")
    if traits.embeds(value):
        return Drawing(
            maps.embedded,
            "Left, what is added at each position; right, the cosine between what two positions add",
        )
    if value.coordinates > 1:
        return Drawing(maps.grid, "Mean score of q = k by the offset along two coordinates, head size 64")
    return _by_score(value)


def _by_score(value: Encoding) -> Drawing:
    """The drawing of what changes scores: by its bias where that is all, else by the scores of random vectors."""
    composed = hasattr(value, "parts")
    if value.bias_kind == "relative" and not composed:
        return Drawing(curves.bias, "Bias against distance, by head" + _untrained(value))
    if value.bias_kind == "pairwise":
        words = "Bias of one head against distance, for queries at several positions"
        return Drawing(curves.bias_by_query, words + _untrained(value))
    # What content scores depends on the vectors as much as on the distance: one vector for all shows the distance.
    if traits.scores_content(value) and _learns(value):
        words = "Score against distance in four heads, where every query and key is one random vector"
        return Drawing(curves.one_vector, words + _untrained(value))
    if not value.injective:
        return Drawing(curves.temperature, "What queries are multiplied by, against their position")
    if composed:
        return Drawing(curves.scores_by_head, "Mean score of q = k, with its bias, against distance, head size 64")
    return Drawing(
        curves.scores,
        "Mean score against distance, head size 64: of q = k, and the mean size of that of independent random q and k",
    )


def _untrained(value: Encoding) -> str:
    """A reader must know that parameters are not those of any model; nothing where there are none."""
    if not _learns(value):
        return ""
    return ", with parameters as they begin"


def _learns(value: Encoding) -> bool:
    params = value.init(jax.random.key(0), Dims(HEADS, HEAD_SIZE, MODEL_SIZE))
    return bool(jax.tree.leaves(params))
