"""The bias of an encoding, described: which of the kinds of `biases` it is, and of what."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from posjax.attention.biases import Bias, ByContent, ByDistance, ByPosition, Slope, TileBias
from posjax.attention.masks import indices_to
from posjax.encodings import traits
from posjax.encodings.arrays import answered
from posjax.encodings.base import Encoding, Head, Params, asked_distance
from posjax.mesh import by_compiler, explicit_axes
from posjax.positions import Index


def describe(
    encoding: Encoding, params: Params, heads: int, q: Any, k: Any, sizes: tuple[int, int], q_offset: Index
) -> Bias:
    """The bias of an encoding between T queries and S keys, `sizes = (T, S)`.

    `params` are joined (see the contract). `q` and `k` are positions `[T]` or `[B, T]`, or both `None`: then keys are
    at 0 .. S - 1 and queries from `q_offset` on, and a relative bias is evaluated once per distance.
    """
    bias = _tile_bias(encoding, _wide(params), heads, q, k, sizes, q_offset)
    if not traits.scores_content(encoding):
        return bias
    q_positions, k_positions = _positions(q, k, sizes, q_offset)
    return ByContent(params, q_positions, k_positions, bias, encoding, heads)


def _wide(params: Params) -> Params:
    """Parameters of 16 bits as float32, as a bias is: summed over many pairs, their gradients would be rounded away."""

    def widened(leaf: Any) -> Any:
        dtype = jnp.result_type(leaf)
        # What is wide enough is handed on as it is: known numbers stay known.
        if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
            return leaf.astype(jnp.float32)
        return leaf

    return jax.tree.map(widened, params)


def _tile_bias(
    encoding: Encoding, params: Params, heads: int, q: Any, k: Any, sizes: tuple[int, int], q_offset: Index
) -> TileBias:
    # Without a pair there is nothing to evaluate, and no encoding need expect an empty array.
    if encoding.bias_kind == "none" or 0 in sizes:
        return None
    if encoding.bias_kind == "relative" and q is None and k is None:
        return _by_distance(encoding, params, heads, sizes, q_offset)
    q_positions, k_positions = _positions(q, k, sizes, q_offset)
    return ByPosition(params, q_positions, k_positions, encoding, heads)


def _by_distance(
    encoding: Encoding, params: Params, heads: int, sizes: tuple[int, int], q_offset: Index
) -> ByDistance | Slope:
    keys = sizes[1]

    # On a mesh of Explicit axes no head could be taken out of what is split by heads.
    if explicit_axes():
        within = partial(_vector_and_slopes, encoding, heads, sizes)
        vector, slopes = by_compiler(within, PartitionSpec(), params, q_offset)
    else:
        vector, slopes = _vector_and_slopes(encoding, heads, sizes, params, q_offset)
    if slopes is None:
        return ByDistance(vector, keys)
    return Slope(vector, keys, slopes)


def _vector_and_slopes(
    encoding: Encoding, heads: int, sizes: tuple[int, int], params: Params, q_offset: Index
) -> tuple[jax.Array, jax.Array | None]:
    """The bias of each head and distance, and its slopes where it has some."""
    queries, keys = sizes
    # Whole numbers, subtracted before anything is rounded: a float32 of two far positions would lose their distance.
    first_query = jnp.asarray(q_offset, jnp.int32)
    from_first = jnp.arange(1 - keys, queries, dtype=jnp.int32)
    distances = asked_distance(encoding, first_query + from_first)

    def of_head(index: jax.Array) -> jax.Array:
        head = Head(index, heads)
        answer = encoding.by_distance(params, distances, head)
        return answered(encoding, "by_distance", answer, distances.shape)

    of_heads = jax.vmap(of_head)
    numbers = indices_to(heads)
    vector = of_heads(numbers)
    vector = vector.astype(jnp.float32)
    return vector, traits.slopes(encoding, params, heads)


def _positions(q: Any, k: Any, sizes: tuple[int, int], q_offset: Index) -> tuple[jax.Array, jax.Array]:
    """Positions of queries and keys as `[b, T]` and `[b, S]`, b the batch or 1, those left out filled in."""
    queries, keys = sizes
    if q is None:
        offset = jnp.asarray(q_offset, jnp.int32)
        q = indices_to(queries) + offset
    if k is None:
        k = indices_to(keys)
    q_line = _lines(q)
    k_line = _lines(k)
    q_batch, queries = q_line.shape
    k_batch, keys = k_line.shape
    # As many rows on both sides, so that a map over the batch takes them together.
    rows = max(q_batch, k_batch)
    q_rows = jnp.broadcast_to(q_line, (rows, queries))
    k_rows = jnp.broadcast_to(k_line, (rows, keys))
    return q_rows, k_rows


def _lines(positions: Any) -> jax.Array:
    """Positions `[T]`, `[B, T]` or of several coordinates `[B, T, C]` as `[b, T]`: biases read the first coordinate."""
    if positions.ndim == 3:
        return positions[..., 0]
    return jnp.atleast_2d(positions)
