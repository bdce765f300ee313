"""Small arrays that a caller hands a model, held to its tokens: kinds of tokens, and a memory that others made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from posjax.arguments import integers
from posjax.attention import First, Full, Mask, Segments, as_mask
from posjax.attention.masks import Both, Dense, Either, MaskLike
from posjax.encodings.base import Encoding
from posjax.errors import InputError
from posjax.models.memory import Memory, documents
from posjax.positions import check


def given_types(types: Any, shape: tuple[int, ...], count: int) -> jax.Array | None:
    """The kinds of tokens `[B, T]`, of `count` that there are; `None` where an architecture knows none.

    One that is known at run time only, and is none of them, comes out as `count`, past the table.

    Errors: `InputError` for kinds that are not known, of other tokens, or no whole numbers.
    """
    if types is None:
        if not count:
            return None
        # Most texts have one kind of token, and their models are called without.
        return jnp.zeros(shape, jnp.int32)
    if not count:
        raise InputError("types were given and the architecture knows none: set Embedding(types=2), or leave them")
    need = f"needed are integers {list(shape)}, one for each token"
    held = integers(types, "types", (2,), need)
    if held.shape != shape:
        raise InputError(f"types have shape {held.shape}: {need}")
    if not isinstance(held, core.Tracer) and held.size:
        low, high = int(np.min(np.asarray(held))), int(np.max(np.asarray(held)))
        if low < 0 or high >= count:
            raise InputError(f"types reach from {low} to {high}: the architecture has {count}, 0 to {count - 1}")
    held = jnp.asarray(held)
    # An index below 0 would count from the end of the table, and one past it be clamped.
    outside = (held < 0) | (held >= count)
    return jnp.where(outside, count, held).astype(jnp.int32)


def given_real(real: Any, shape: tuple[int, ...], name: str) -> jax.Array:
    """Marks of what is no padding, bool `[B, S]`. Errors: `InputError` for marks of other tokens."""
    need = f"needed is bool {list(shape)}, true where there is a token"
    marks = integers(real, name, (2,), need, boolean=True)
    # One row of marks for all rows would hide other rows' tokens.
    if tuple(marks.shape) != tuple(shape):
        raise InputError(f"{name} has shape {tuple(marks.shape)}: {need}")
    return jnp.asarray(marks).astype(bool)


def given_memory(memory: Any, width: int) -> Memory:
    """A memory, its positions held to its tokens.

    Errors: `InputError` for what is none, a stream of another width, and positions of other tokens.
    """
    if not isinstance(memory, Memory):
        raise InputError(f"memory is a {type(memory).__name__}: needed is model.encode(source), or Memory(stream)")
    shape = getattr(memory.stream, "shape", None)
    if shape is None or len(shape) != 3 or shape[2] != width:
        what = f"of shape {shape}" if shape is not None else f"that is a {type(memory.stream).__name__}"
        raise InputError(f"memory has a stream {what}: needed is [B, S, {width}], as wide as the model's")
    real = memory.real
    if real is not None:
        real = given_real(real, shape[:2], "the memory's real")
    memory = replace(memory, real=real)
    if memory.positions is None:
        return memory
    coordinates = 1
    if np.ndim(memory.positions) == 3:
        coordinates = np.shape(memory.positions)[2]
    at = check(memory.positions, "the memory's positions", coordinates, shape[:2])
    return replace(memory, positions=at)


def stream_of(memory: Any, width: int) -> jax.Array | None:
    """The stream of a memory, `None` where there is none. Errors: those of `given_memory`."""
    if memory is None:
        return None
    return given_memory(memory, width).stream


def real_tokens(void: jax.Array | None, mask: MaskLike, shape: tuple[int, ...]) -> jax.Array | None:
    """Which tokens of a call are no padding, bool `[B, T]`: neither `void` nor of segment 0, and seen by some token.

    `None` for all of them. Seen: by what an array, or a `First` alone, lets a query look at.
    """
    marks = _marks(as_mask(mask), shape)
    if void is not None:
        marks = [*marks, jnp.broadcast_to(~void, shape)]
    if not marks:
        return None
    return _all_of(marks)


def without_padding(real: jax.Array, mask: Mask) -> Mask:
    """A mask under which padding is not seen, and sees nothing."""
    ids = documents(real)
    if isinstance(mask, Full):
        return Segments(ids)
    return mask & Segments(ids)


def readable(indices: jax.Array, count: int, real: jax.Array | None) -> jax.Array:
    """Indices of a table of `count` rows: where padding is none of them it is 0, since nobody reads its row.

    A row of NaN would reach every weight's gradient, as a product with a cotangent of 0.
    """
    traced = isinstance(indices, core.Tracer)
    # Indices of other tokens are refused where they are read.
    if real is None or not traced or indices.shape != real.shape:
        return indices
    inside = (indices >= 0) & (indices < count)
    return jnp.where(real | inside, indices, 0)


def _all_of(marks: list[jax.Array]) -> jax.Array:
    found = marks[0]
    for more in marks[1:]:
        found = found & more
    return found


def _marks(rule: Mask, shape: tuple[int, ...]) -> list[jax.Array]:
    """What a rule says of whole tokens, each bool `[B, T]`."""
    if isinstance(rule, Both):
        return [*_marks(rule.first, shape), *_marks(rule.second, shape)]
    if isinstance(rule, Either):
        either = [_marks(part, shape) for part in (rule.first, rule.second)]
        # One of them may see all that there is.
        if not all(either):
            return []
        return [_all_of(either[0]) | _all_of(either[1])]
    return [jnp.broadcast_to(marks, shape) for marks in _of_rule(rule, shape[1])]


def _of_rule(rule: Mask, tokens: int) -> list[jax.Array]:
    """What one rule says of them, each `[T]` or `[b, T]`."""
    if isinstance(rule, Segments):
        ids = [rule.queries]
        if rule.keys is not None:  # A token that nobody sees is padding too.
            ids.append(rule.keys)
        return [jnp.asarray(of_tokens) != 0 for of_tokens in ids]
    if isinstance(rule, Dense):
        return [jnp.any(rule.pairs, axis=1)]
    if isinstance(rule, First):  # Every query sees the same.
        seen = rule.allowed(jnp.arange(1), jnp.arange(tokens))
        return [] if seen is None else [seen[:, 0]]
    return []


def expect_length(encodings: Iterable[Encoding], length: int | None) -> None:
    """Errors: `InputError` where padding that is told apart by `real` would count for the length of the context."""
    for encoding in encodings:
        if length is None and encoding.length_dependent:
            raise InputError(
                f"encode got real, and {encoding!r} depends on the length of the context, for which padding would "
                "count: pass length=, the tokens that the longest row has"
            )
