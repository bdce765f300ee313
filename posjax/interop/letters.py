"""The letters of a layout, and where a stretch of an axis lies along each of them.

An axis may be several letters joined, the outer one first: entry `n * H + h` of the axis (N H) is entry h of head n.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

Axes = tuple[tuple[str, ...], ...]
"""The letters of each axis, the outer one first."""
Spans = dict[str, tuple[int, int]]
"""Where what is wanted begins and ends along each letter."""
SIZED = re.compile(r"(\w+)=(\d+)")
"""A letter with its size."""


def axes_of(side: str) -> Axes:
    """The letters of each axis of one side of a layout: "(N H=8) D" -> (("N", "H"), ("D",))."""
    letters = SIZED.sub(r"\1", side)
    found: list[tuple[str, ...]] = []
    for index, text in enumerate(letters.replace(")", "(").split("(")):
        # What stands between brackets is one axis, and what stands outside is one for each word.
        if index % 2:
            found.append(tuple(text.split()))
        else:
            found += [(word,) for word in text.split()]
    return tuple(found)


def joined(axis: tuple[str, ...], sizes: Mapping[str, int]) -> int:
    """The size of an axis."""
    return math.prod(sizes[letter] for letter in axis)


def order_of(there: Axes, here: Axes) -> list[int]:
    """Which letter of the one side each letter of the other is."""
    letters = [letter for axis in there for letter in axis]
    return [letters.index(letter) for axis in here for letter in axis]


def around(axis: tuple[str, ...], sizes: Mapping[str, int], start: int, stop: int) -> Spans:
    """The least stretch along each letter that holds a stretch of their axis."""
    shape = [sizes[letter] for letter in axis]
    lows = np.unravel_index(start, shape)
    highs = np.unravel_index(stop - 1, shape)
    box: Spans = {}
    parted = False
    for letter, low, high in zip(axis, lows, highs, strict=True):
        box[letter] = (int(low), int(high) + 1)
        # Once the ends lie in different blocks, all of what is inside a block is needed.
        if parted:
            box[letter] = (0, sizes[letter])
        parted = parted or low != high
    return box


def place_of(axis: tuple[str, ...], sizes: Mapping[str, int], box: Spans) -> int:
    """Where on their axis a stretch along each letter begins."""
    place = 0
    for letter in axis:
        start, _ = box[letter]
        place = place * sizes[letter] + start
    return place
