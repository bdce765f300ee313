"""Masks that a caller hands over, held to the tokens of a call: nothing is clamped, broadcast or repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core, lax

from posjax.arguments import as_array, distinct
from posjax.attention.masks import Both, Dense, Either, Mask, MaskLike, Window, as_mask
from posjax.attention.token_masks import Chunked, First, Global, Segments
from posjax.errors import InputError
from posjax.positions import Index

LARGEST_SIZE = 2**31
"""Sizes of windows and ids of segments are int32 where they are compared."""


def held(mask: MaskLike, sizes: dict[str, int], q_offset: Index) -> Mask:
    """The mask, its arrays held to the batch B, the T queries from `q_offset` on and the S keys of a call.

    A rule that derives from one of ours has its arrays, and remains what it is.

    Errors: `InputError` names the rule, the shape that it has, and the one that is needed.
    """
    mask = as_mask(mask)
    if isinstance(mask, Both | Either):
        return type(mask)(held(mask.first, sizes, q_offset), held(mask.second, sizes, q_offset))
    # A class that JAX does not know is a leaf itself: its arrays would be static, and the first ones kept for ever.
    if any(leaf is mask for leaf in jax.tree.leaves(mask)):
        raise InputError(
            f"{type(mask).__name__} is no pytree: register it with jax.tree_util.register_dataclass, its "
            "arrays and numbers as data_fields"
        )
    if isinstance(mask, Segments):
        return _held_segments(mask, sizes, q_offset)
    if isinstance(mask, Dense):
        return _held_array(mask, sizes, q_offset)
    if isinstance(mask, Global):
        return _held_tokens(mask, sizes, q_offset)
    if isinstance(mask, First):
        return replace(mask, size=_size(mask, 0, sizes["B"]))
    if isinstance(mask, Window | Chunked):
        return replace(mask, size=_size(mask, 1))
    if not type(mask).__module__.startswith("posjax."):
        _hold_answer(mask, sizes)
    return mask


def _hold_answer(mask: Mask, sizes: dict[str, int]) -> None:
    """Errors: `InputError` where a rule of the user's own answers with another shape or type than a rule has to."""
    T, S = sizes["T"], sizes["S"]
    index = [jax.ShapeDtypeStruct((count,), jnp.int32) for count in (T, S)]
    found = jax.eval_shape(mask.allowed, *index)
    # It may say nothing, which is to allow everything.
    if found is None:
        return
    shapes = ((1, T, S), (sizes["B"], T, S))
    # Each backend would make something else of it: `[T, S]` is broadcast onto heads by one, and is right by another.
    if found.dtype != bool or found.shape not in shapes:
        raise InputError(
            f"{type(mask).__name__}.allowed gave {found.dtype} {list(found.shape)} for {T} queries and {S} keys: "
            f"needed are booleans [1, {T}, {S}], or [{sizes['B']}, {T}, {S}] where rows differ"
        )


def _held_array(mask: Dense, sizes: dict[str, int], q_offset: Index) -> Dense:
    B = sizes["B"]
    T, S = sizes["T"], sizes["S"]
    rows, *pairs = mask.pairs.shape
    if rows not in (1, B) or pairs != [T, S]:
        raise InputError(
            f"mask is an array of shape {mask.pairs.shape} for {B} rows of {T} queries and {S} keys: "
            f"needed is [{T}, {S}] or [{B}, {T}, {S}]"
        )
    return replace(mask, first=q_offset)


def _size(mask: Window | First | Chunked, least: int, rows: int = 0) -> Any:
    """The size of a rule: a number, or an integer for each of `rows`; as int32 where it is an array."""
    size = mask.size
    shapes: tuple[tuple[int, ...], ...] = ((),)
    if rows:
        shapes = ((), (rows,), (1,))
    fits = isinstance(size, int) and not isinstance(size, bool)
    dtype = getattr(size, "dtype", None)
    if dtype is not None:
        fits = jnp.issubdtype(dtype, jnp.integer) and np.shape(size) in shapes
    if fits and not isinstance(size, core.Tracer):
        known = np.asarray(size)
        fits = known.size > 0 and least <= int(known.min()) and int(known.max()) < LARGEST_SIZE
    if not fits:
        what = repr(size)
        if np.ndim(size):
            what = f"an array of {dtype} and shape {np.shape(size)}"
        each = ""
        if rows:
            each = f", or integers [{rows}], one for each row"
        if isinstance(mask, Window):
            each = ", since the query itself counts"
        raise InputError(
            f"{type(mask).__name__} got size={what}: needed is a whole number of tokens, {least} or more{each}"
        )
    if isinstance(size, int):
        return size
    # A size past int32 is as good as the largest: no token is so far away.
    largest = LARGEST_SIZE - 1
    if isinstance(size, core.Tracer) and jnp.iinfo(size.dtype).max > largest:
        size = jnp.minimum(size, jnp.asarray(largest, size.dtype))
    return jnp.asarray(size).astype(jnp.int32)


def _held_tokens(mask: Global, sizes: dict[str, int], q_offset: Index) -> Global:
    B = sizes["B"]
    T, S = sizes["T"], sizes["S"]
    tokens = as_array(mask.tokens)
    fits = tokens.dtype == bool and tokens.shape in ((B, S), (1, S))
    if isinstance(q_offset, int):
        fits = fits and q_offset + T <= S
    if not fits:
        raise InputError(
            f"Global got tokens of {tokens.dtype} and shape {tokens.shape} for {T} queries among {S} keys: needed are "
            f"booleans [{B}, {S}] or [1, {S}], of keys that the queries are among"
        )
    return replace(mask, tokens=jnp.asarray(tokens))


def _held_segments(mask: Segments, sizes: dict[str, int], q_offset: Index) -> Segments:
    B = sizes["B"]
    T, S = sizes["T"], sizes["S"]
    queries = ids_of(mask.queries, "queries", B)
    keys = queries
    if mask.keys is not None:
        keys = ids_of(mask.keys, "keys", B)
    # Ids are looked up by a token's index, so queries either span all keys or are a sequence of their own.
    spans_keys = queries.shape[1] == S
    fits = keys.shape[1] == S and (spans_keys or queries.shape[1] == T)
    if isinstance(q_offset, int):
        fits = fits and q_offset >= 0 and not (spans_keys and q_offset + T > S)
    if not fits:
        raise InputError(
            f"Segments got ids of shape {queries.shape} for queries and {keys.shape} for keys: {T} "
            f"queries and {S} keys need [B, {S}] for both, or [B, {T}] and [B, {S}] of their own"
        )
    if not spans_keys:  # A sequence of its own: its first id is looked up at the first query's index.
        # As far as the last query, which may stand past the keys: an update past the end would be moved back.
        length = S + T
        if isinstance(q_offset, int):
            length = max(S, q_offset + T)
        room = jnp.zeros((queries.shape[0], length), jnp.int32)
        queries = lax.dynamic_update_slice_in_dim(room, queries, q_offset, 1)
    if mask.keys is None:
        return replace(mask, queries=queries)
    return replace(mask, queries=queries, keys=keys)


def ids_of(ids: Any, name: str, batch: int) -> jax.Array:
    """The ids of segments as int32 `[B, S]`, B the batch or 1.

    Errors: `InputError` for another shape, type or range.
    """
    ids = as_array(ids)
    if isinstance(ids, core.Tracer) and ids.dtype.itemsize > 4:
        raise InputError(
            f"Segments got {name} of {ids.dtype} that are known at run time only, in which ids past int32 would fall "
            "together: give .astype(jnp.int32)"
        )
    is_whole = jnp.issubdtype(ids.dtype, jnp.integer) or ids.dtype == bool
    if is_whole and not isinstance(ids, core.Tracer):
        distinct(ids, f"Segments got {name}")
    if not is_whole or ids.ndim != 2 or ids.shape[0] not in (1, batch):
        raise InputError(
            f"Segments got {name} of shape {ids.shape} and type {ids.dtype}: needed are integers or "
            f"booleans [B, S], with B of {batch} or 1"
        )
    return jnp.asarray(ids).astype(jnp.int32)
