"""Rotary encodings past their trained length, without further training: other frequencies, or other distances."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from posjax.encodings import (
    NTK,
    Chain,
    Encoding,
    Interpolation,
    Llama3,
    NTKByParts,
    Pinned,
    Regrouped,
    Rope,
    Schedule,
    Yarn,
    chain,
    near_far,
)

# Dynamic NTK looks at the length of the context: in windows of one length it is NTK, and has no name of its own.
Extension = Literal["linear", "ntk", "ntk-doubled", "yarn", "parts", "llama3", "self-extend", "rerope"]

SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "linear": lambda factor, _: Interpolation(factor),
    "ntk": lambda factor, _: NTK(factor),
    # With the factor itself the slowest pair alone is stretched whole: practice takes a larger one.
    "ntk-doubled": lambda factor, _: NTK(2.0 * factor),
    "yarn": lambda factor, length: Yarn(factor, length),
    # YaRN without its temperature.
    "parts": lambda factor, length: NTKByParts(factor, length),
    "llama3": lambda factor, length: Llama3(factor, length),
}
"""Extensions that change frequencies alone, by the factor and the trained length."""


def parts_of(encoding: Encoding) -> tuple[Encoding, ...]:
    """The encodings of a chain, or the one that there is."""
    if isinstance(encoding, Chain):
        return encoding.parts
    return (encoding,)


def extended(encoding: Encoding, how: Extension, factor: float, original_length: int) -> Encoding:
    """The encoding with its rotary parts extended by a factor, zero-shot, from the length that they were trained at.

    A factor of 1 leaves it as it is, but for "ntk-doubled". "self-extend" and "rerope" are `near_far` forms, whose near
    pairs are fewer than half of the trained length apart: they change distances, so that no pair stands farther apart
    than in training.

    >>> extended(Rope(), "linear", 4.0, 64).schedule
    Interpolation(factor=4.0)
    >>> extended(Rope(), "rerope", 4.0, 64).far.distance
    32
    """
    # The other parts of a chain, such as a bias, go on as they were trained.
    parts = [_extended(part, how, factor, original_length) for part in parts_of(encoding)]
    return chain(*parts)


def _extended(part: Encoding, how: Extension, factor: float, original_length: int) -> Encoding:
    if not isinstance(part, Rope):
        return part
    if how in SCHEDULES:
        return replace(part, schedule=SCHEDULES[how](factor, original_length))
    # Within the trained length nothing has to move, and ReRoPE would pin pairs that the model knows.
    if factor == 1:
        return part
    window = max(original_length // 2, 1)
    if how == "rerope":
        return near_far(window, part, Pinned(part, window))
    # The smallest group that keeps the farthest pair within the trained length. Shifted by window - window // group, as
    # in the paper, it could stand one token past that; rounded up here, it never does.
    group = math.ceil(2 * factor - 1)
    return near_far(window, part, Regrouped(part, group, shift=window - math.ceil(window / group)))
