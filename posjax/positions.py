"""Where tokens are: exact int32 positions, from a length, from packed documents, from left padding.

Positions count from 0 within a document. They are integers, never floats: a float32 cannot hold an odd position past
2^24, a bfloat16 none past 256. `[T]` means the same positions for every row, `[B, T]` one line for each row.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from posjax.arguments import LARGEST, distinct, integers, narrowed, whole
from posjax.errors import InputError

Index = int | jax.Array
"""The number of a token, a block or a row: known before anything runs, or traced."""


def contiguous(length: int, start: int | jax.Array = 0) -> jax.Array:
    """`start, start + 1, …` as int32 `[T]`.

    >>> contiguous(3, start=5).tolist()
    [5, 6, 7]
    """
    count = whole(length, "length")
    if isinstance(start, core.Tracer):
        return _from_traced(start, count)
    first = whole(start, "start", least=-LARGEST)
    if first + count - 1 > LARGEST:
        raise InputError(f"{count} positions from {first} on reach past {LARGEST}, the largest of int32: start lower")
    return jnp.arange(count, dtype=jnp.int32) + jnp.asarray(first, jnp.int32)


def _from_traced(start: jax.Array, count: int) -> jax.Array:
    """The same from a start that is known at run time only, which cannot raise: past int32 positions are -1, a mark."""
    if start.shape or not jnp.issubdtype(start.dtype, jnp.integer):
        raise InputError(
            f"start is an array of shape {start.shape} and type {start.dtype}: needed is one whole number; for a start "
            "for each row, add contiguous(length) to starts [B, 1]"
        )
    first = narrowed(start)
    steps = jnp.arange(count, dtype=jnp.int32)
    # Asked by subtraction, since the sum would wrap.
    fits = steps <= LARGEST - jnp.maximum(first, 0)
    return jnp.where(fits, first + steps, -1)


def packed(segments: jax.Array) -> jax.Array:
    """Positions that start anew at 0 with every document of a packed row. `segments [B, T]` -> `[B, T]`.

    A document is a run of equal segment numbers. Mask with `Segments(segments)` too: resetting positions alone still
    lets one document read another.

    >>> packed(jnp.array([[1, 1, 1, 2, 2]])).tolist()
    [[0, 1, 2, 0, 1]]
    """
    segments = integers(segments, "segments", (1, 2), "needed is [B, T], one whole number for each token", boolean=True)
    if not isinstance(segments, core.Tracer):
        distinct(segments, "packed got segments")
    segments = jnp.asarray(segments)
    index = jnp.broadcast_to(jnp.arange(segments.shape[-1], dtype=jnp.int32), segments.shape)
    first = jnp.ones_like(segments[..., :1], bool)
    changes = segments[..., 1:] != segments[..., :-1]
    starts = jnp.concatenate([first, changes], axis=-1)
    # The index of the document's first token, carried on to each of its tokens.
    start = jax.lax.cummax(jnp.where(starts, index, 0), axis=segments.ndim - 1)
    return index - start


def left_padded(real: jax.Array) -> jax.Array:
    """Positions of rows padded on the left: the first real token is at 0, padding too. `real [B, T]` bool -> `[B, T]`.

    >>> left_padded(jnp.array([[False, False, True, True]])).tolist()
    [[0, 0, 0, 1]]
    """
    real = integers(real, "real", (1, 2), "needed is bool [B, T], true where there is a token", boolean=True)
    real = jnp.asarray(real).astype(bool)
    if not isinstance(real, core.Tracer) and np.any(np.diff(np.asarray(real).astype(int), axis=-1) < 0):
        raise InputError("real has padding after a token: needed are rows padded on the left; see packed for documents")
    counted = jnp.cumsum(real.astype(jnp.int32), axis=-1)
    # Padding stands before all of them, at -1: it is put where it has an ordinary position, since a mask hides it.
    at = jnp.maximum(counted - 1, 0)
    if not isinstance(real, core.Tracer):
        return at
    # What could not be refused is marked.
    between = real[..., :-1] & ~real[..., 1:]
    return jnp.where(jnp.any(between, axis=-1, keepdims=True), -1, at)


def check(
    positions: jax.Array, name: str = "positions", coordinates: int = 1, tokens: tuple[int, int] | None = None
) -> jax.Array:
    """The positions as int32, held to `tokens`, the batch and the length that they are for.

    Errors: `InputError` for floats, for a rank other than `[T]` or `[B, T]`, or `[B, T, A]` where an encoding has A
    `coordinates`, for another number of tokens or rows, and for known positions that int32 does not hold.
    """
    ranks: tuple[int, ...] = (1, 2)
    if coordinates > 1:
        ranks = (1, 2, 3)
    given = integers(
        positions,
        name,
        ranks,
        "positions are exact integers, and needed is [T], the same for all rows, or [B, T]; give int32, "
        "for example from posjax.positions.contiguous(length)",
    )
    _check_tokens(given, name, coordinates, tokens)
    if not isinstance(given, core.Tracer) and given.size:
        known = np.asarray(given)  # By numpy: inside a jit over a mesh JAX would trace what is known, too.
        low, high = int(known.min()), int(known.max())
        if high > LARGEST or low < -LARGEST - 1:
            raise InputError(f"{name} reach from {low} to {high}: needed are positions of int32, {LARGEST} at most")
    return narrowed(jnp.asarray(given))


def _check_tokens(positions: Any, name: str, coordinates: int, tokens: tuple[int, int] | None) -> None:
    if tokens is None:
        return
    B, T = tokens
    shape = positions.shape
    if positions.ndim == 1:
        shape = (1, *shape)  # The same for every row.
    rows, length, *more = shape
    if length != T or rows not in (1, B) or (more and more[0] != coordinates):
        last = ""
        if coordinates > 1:
            last = f", or [{B}, {T}, {coordinates}]"
        raise InputError(
            f"{name} have shape {positions.shape} for {B} rows of {T} tokens: needed is [{T}] or [{B}, {T}]{last}"
        )


def reach(positions: Any) -> int | None:
    """One more than the largest of some positions: the length of a context that they stand in; `None` where traced.

    >>> reach(jnp.array([[0, 1, 2, 0, 1]]))
    3
    """
    if isinstance(positions, core.Tracer):
        return None
    largest = int(np.max(np.asarray(positions), initial=-1))
    # At least 1, also of no tokens or of padding alone: a context has a length.
    return max(largest + 1, 1)
