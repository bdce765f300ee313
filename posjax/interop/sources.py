"""Where published tensors come from: their names and shapes are known, their numbers are read part by part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import jax
import numpy as np

from posjax.errors import InputError

Index = tuple[slice, ...]
"""A part of an array: a slice for each of its axes."""


class Source(Protocol):
    """Tensors under their published names. What is asked for is read, and nothing else."""

    @property
    def tensors(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Name, shape and type of each, known without its numbers."""
        ...

    def part(self, name: str, index: Index) -> np.ndarray:
        """A part of one of them."""
        ...


def spans(shape: tuple[int, ...], index: Index) -> tuple[tuple[int, int], ...]:
    """Where each slice of an index begins and ends.

    Errors: `InputError` for an index of another rank, or with strides.

    >>> spans((4, 6), (slice(None), slice(2, 4)))
    ((0, 4), (2, 4))
    """
    if len(index) != len(shape):
        raise InputError(
            f"an index of {len(index)} slices was given for the shape {list(shape)}: give one for each axis"
        )
    found = []
    for size, wanted in zip(shape, index, strict=True):
        start, stop, step = wanted.indices(size)
        if step != 1:
            raise InputError(f"{wanted} takes every {step}th: published tensors are read in slices without strides")
        found.append((start, max(start, stop)))
    return tuple(found)


def everything(shape: tuple[int, ...]) -> Index:
    """The index of a whole array.

    >>> everything((4, 6))
    (slice(0, 4, None), slice(0, 6, None))
    """
    return tuple(slice(0, size) for size in shape)
