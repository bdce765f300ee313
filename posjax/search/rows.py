"""What a search reads: rows at the length that is aimed at, with a weight on each target that counts."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from posjax.data import Documents, Task, training_windows
from posjax.data.randomness import rng
from posjax.data.source import Row, stacked
from posjax.errors import InputError

On = Literal["text", "needles"]
"""What a loss is of: the text at the end of a window, or what stands far back and is asked for again."""


def kind(data: Documents | Task, on: On | None = None) -> On:
    """What the loss on these data is of, where `on` was asked for. Errors: `InputError` for the text of a task."""
    if isinstance(data, Task):
        if on == "text":
            # A task's filler has no next token that could be foretold.
            raise InputError(
                f"on='text' was asked for and {type(data).__name__} is a task: its answers are the needles"
            )
        return "needles"
    return on or "text"


def rows(data: Documents | Task, length: int, trained: int, count: int, seed: int, on: On | None = None) -> Row:
    """`count` rows of `length` tokens, each array `[count, length]`.

    On "text": windows of the training text, of which the last `trained` targets count. Those before them have a shorter
    context than is aimed at, and a schedule that is best for all together is worse at the end. On "needles": a task's
    questions, of which the answers count; or windows of the training text whose end repeats a piece from farther back
    than the trained length, of which the repetition counts.

    Errors: `InputError` for a text or a length that has no room for them.
    """
    if isinstance(data, Task):
        return data.questions(length, count, seed)
    # Never of the validation side, on which whatever is found will be compared.
    windows: Any = training_windows(data, length, seed)
    found = stacked([windows[index] for index in range(count)])
    if kind(data, on) == "needles":
        return _repeated(found, trained, seed)
    weights = np.zeros((count, length), np.float32)
    weights[:, -trained:] = 1.0
    return {**found, "weights": weights}


def _repeated(found: Row, trained: int, seed: int) -> Row:
    """Windows whose last quarter of a trained length is a piece of the text out of the trained length's reach."""
    count, length = found["inputs"].shape
    piece = max(trained // 4, 2)
    weights = np.zeros((count, length), np.float32)
    # Of the piece's first half a model cannot know yet that it is one.
    weights[:, length - piece + piece // 2 :] = 1.0
    # With the last target, which is a token of the piece too.
    tokens = np.concatenate([found["inputs"], found["targets"][:, -1:]], axis=1)
    for index, row in enumerate(tokens):
        generator = rng(seed, "search-needle", index)
        # From 1 on, since a window may begin with a token that no text holds.
        start = int(generator.integers(1, length - trained - piece + 1))
        row[-piece:] = row[start : start + piece]
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "weights": weights}


def seed_for(seed: int, purpose: str) -> int:
    """A seed of its own for a part of a search, so that no row is drawn for two purposes."""
    generator = rng(seed, f"search-{purpose}")
    return int(generator.integers(2**31))
