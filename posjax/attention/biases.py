"""A bias described, and materialised only for the tile that asks.

Backends see none of the encodings: they see `None`, a `ByDistance` or a `ByPosition`, and ask for tiles. Both are
pytrees: what is differentiated in them (the vector, the parameters) are their leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from posjax.attention.diagonals import collapse, expand
from posjax.encodings.base import Encoding, Head, Pairs, Params

Pull = Callable[[Any, jax.Array], Any]
"""Adds the gradient of one tile, given the tile's cotangent, to a sum of gradients."""


@dataclass(frozen=True)
class ByDistance:
    """A bias of contiguous positions: one number for each head and distance.

    `vector [N, T + S - 1]` holds the distances from `q_offset - (S - 1)` to `q_offset + T - 1`, `q_offset` being the
    first query's index among the keys. `slopes [N]`, where there are any, say that it is `-slope * distance` for
    all keys at or before the query.
    """

    vector: jax.Array
    keys: int
    slopes: jax.Array | None = None

    def tile(self, q_first: Any, k_first: Any, rows: int, columns: int) -> jax.Array:
        """The bias of a block of pairs, `[1, N, rows, columns]`."""
        first = q_first - k_first + self.keys - columns
        segment = jax.lax.dynamic_slice_in_dim(self.vector, first, rows + columns - 1, 1)
        return expand(segment, rows, columns)[None]

    def padded(self, queries: int, keys: int) -> ByDistance:
        """The same bias for T and S rounded up to whole blocks; what is added is masked."""
        more = keys - self.keys
        rest = queries + keys - 1 - self.vector.shape[1] - more
        return ByDistance(jnp.pad(self.vector, ((0, 0), (more, rest))), keys)

    def part(self, row: Any, batch: int, head: Any, heads: int) -> ByDistance:
        """The same bias for `heads` heads from `head` on; all rows of the batch share it."""
        return ByDistance(jax.lax.dynamic_slice_in_dim(self.vector, head, heads, 0), self.keys)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Heads, queries, keys and rows of the batch, 1 where all share it."""
        heads, distances = self.vector.shape
        return heads, distances + 1 - self.keys, self.keys, 1

    def gradient(self) -> jax.Array:
        """An empty sum of gradients, filled by the second value of `tile_and_pull`."""
        return jnp.zeros_like(self.vector)

    def tile_and_pull(self, q_first: Any, k_first: Any, rows: int, columns: int) -> tuple[jax.Array, Pull]:
        """The tile, and the function that adds a tile's cotangent to a sum of gradients."""
        first = q_first - k_first + self.keys - columns

        def add(total: jax.Array, cotangent: jax.Array) -> jax.Array:
            # Only the slice moves: a full-length vector for every tile would make the backward pass quadratic.
            here = jax.lax.dynamic_slice_in_dim(total, first, rows + columns - 1, 1) + collapse(cotangent[0])
            return jax.lax.dynamic_update_slice_in_dim(total, here, first, 1)

        return self.tile(q_first, k_first, rows, columns), add

    def cotangent(self, total: jax.Array) -> ByDistance:
        """A sum of gradients in the shape that JAX expects."""
        return ByDistance(total, self.keys)


@dataclass(frozen=True)
class ByPosition:
    """A bias of arbitrary positions: the encoding's own `bias`, evaluated for each pair of the tile.

    `q_positions [b, T]`, `k_positions [b, S]`, with b the batch, or 1 where all rows share their positions.
    """

    params: Params
    q_positions: jax.Array
    k_positions: jax.Array
    encoding: Encoding
    heads: int

    def tile(self, q_first: Any, k_first: Any, rows: int, columns: int) -> jax.Array:
        """The bias of a block of pairs, `[b, N, rows, columns]`."""
        q = jax.lax.dynamic_slice_in_dim(self.q_positions, q_first, rows, 1)
        k = jax.lax.dynamic_slice_in_dim(self.k_positions, k_first, columns, 1)

        def one(q: jax.Array, k: jax.Array, index: jax.Array) -> jax.Array:
            return self.encoding.bias(self.params, q, k, Head(index, self.heads))

        each_head = jax.vmap(one, in_axes=(None, None, 0))
        heads = jnp.arange(self.heads, dtype=jnp.int32)
        return jax.vmap(each_head, in_axes=(0, 0, None))(q, k, heads).astype(jnp.float32)

    def padded(self, queries: int, keys: int) -> ByPosition:
        """The same bias for T and S rounded up to whole blocks; what is added is masked."""

        def pad(positions: jax.Array, length: int) -> jax.Array:
            # Repeating a real position keeps what is masked finite, whatever the encoding makes of it.
            return jnp.pad(positions, ((0, 0), (0, length - positions.shape[1])), mode="edge")

        return replace(self, q_positions=pad(self.q_positions, queries), k_positions=pad(self.k_positions, keys))

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Heads, queries, keys and rows of the batch, 1 where all share their positions."""
        rows, queries = self.q_positions.shape
        return self.heads, queries, self.k_positions.shape[1], rows

    def gradient(self) -> Params:
        """An empty sum of gradients, filled by the second value of `tile_and_pull`."""
        return jax.tree.map(jnp.zeros_like, _floats(self.params))

    def tile_and_pull(self, q_first: Any, k_first: Any, rows: int, columns: int) -> tuple[jax.Array, Pull]:
        """The tile, and the function that adds a tile's cotangent to a sum of gradients."""

        def evaluate(floats: list[jax.Array]) -> jax.Array:
            return replace(self, params=_with_floats(self.params, floats)).tile(q_first, k_first, rows, columns)

        tile, pull = jax.vjp(evaluate, _floats(self.params))
        return tile, lambda total, cotangent: jax.tree.map(jnp.add, total, pull(cotangent)[0])

    def cotangent(self, total: list[jax.Array]) -> ByPosition:
        """A sum of gradients in the shape that JAX expects: `None` for what has no gradient."""
        leaves, structure = jax.tree.flatten(self.params)
        rest = iter(total)
        params = structure.unflatten([next(rest) if _is_float(leaf) else None for leaf in leaves])
        return ByPosition(params, None, None, self.encoding, self.heads)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ByContent:
    """An encoding whose score reads queries and keys: it gives whole rows of logits, and `bias` adds to them."""

    params: Params
    q_positions: jax.Array
    k_positions: jax.Array
    bias: ByDistance | ByPosition | None
    encoding: Encoding
    heads: int

    def logits(
        self, q: jax.Array, k: jax.Array, q_first: Any, q_offset: Any, seen: jax.Array | None = None
    ) -> jax.Array:
        """`q [B, t, N, H]`, the rows from `q_first` on, and all keys `[B, S, K, H]` -> float32 `[B, N, t, S]`.

        `seen [b, t, S]`: the pairs that the mask allows, where it does not allow all.
        """
        rows, columns = q.shape[1], k.shape[1]
        k_BSNH = jnp.repeat(k, self.heads // k.shape[2], axis=2)
        at = jax.lax.dynamic_slice_in_dim(self.q_positions, q_first, rows, 1)
        index = jnp.asarray(q_offset, jnp.int32) + q_first + jnp.arange(rows, dtype=jnp.int32)

        def one(q: jax.Array, k: jax.Array, q_at: jax.Array, k_at: jax.Array, seen: jax.Array | None) -> jax.Array:
            # A negative position is a mark: the score is computed elsewhere, and then replaced without a gradient.
            inside = jnp.maximum(q_at, 0), jnp.maximum(k_at, 0)
            pairs = Pairs(*inside, index, jnp.arange(columns, dtype=jnp.int32), seen)
            void = (q_at < 0)[:, None] | (k_at < 0)[None, :]
            return jnp.where(void[None], jnp.nan, self.encoding.score(self.params, q, k, pairs))

        shared, alike = (None if x is None or x.shape[0] == 1 else 0 for x in (self.q_positions, seen))
        q_at, k_at = (at[0], self.k_positions[0]) if shared is None else (at, self.k_positions)
        seen = seen[0] if seen is not None and alike is None else seen
        content = jax.vmap(one, in_axes=(0, 0, shared, shared, alike))(q, k_BSNH, q_at, k_at, seen)
        return content if self.bias is None else content + self.bias.tile(q_first, 0, rows, columns)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Heads, queries, keys and rows of the batch, 1 where all share their positions."""
        rows, queries = self.q_positions.shape
        return self.heads, queries, self.k_positions.shape[1], rows

    def padded(self, queries: int, keys: int) -> ByContent:
        """The same for T rounded up to whole blocks of rows."""
        more = queries - self.q_positions.shape[1]
        at = jnp.pad(self.q_positions, ((0, 0), (0, more)), mode="edge")
        return replace(self, q_positions=at, bias=None if self.bias is None else self.bias.padded(queries, keys))


TileBias = ByDistance | ByPosition | None
Bias = TileBias | ByContent

jax.tree_util.register_dataclass(ByDistance, data_fields=["vector", "slopes"], meta_fields=["keys"])
jax.tree_util.register_dataclass(
    ByPosition, data_fields=["params", "q_positions", "k_positions"], meta_fields=["encoding", "heads"]
)
jax.tree_util.register_dataclass(
    ByContent, data_fields=["params", "q_positions", "k_positions", "bias"], meta_fields=["encoding", "heads"]
)


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _floats(params: Params) -> list[jax.Array]:
    """The leaves that can have a gradient; the words of phases and the edges of buckets cannot."""
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(params) if _is_float(leaf)]


def _with_floats(params: Params, floats: list[jax.Array]) -> Params:
    rest = iter(floats)
    return jax.tree.map(lambda leaf: next(rest) if _is_float(leaf) else leaf, params)


def over_rows(x: jax.Array) -> jax.Array:
    """The sum over the leading axis, which stays, by halves: XLA reduces a leading axis slowly on CPU."""
    rest = None
    while x.shape[0] > 1:
        half, odd = divmod(x.shape[0], 2)
        if odd:
            rest = x[-1:] if rest is None else rest + x[-1:]
        x = x[:half] + x[half : 2 * half]
    return x if rest is None else x + rest


def describe(
    encoding: Encoding, params: Params, heads: int, q: Any, k: Any, sizes: tuple[int, int], q_offset: Any
) -> Bias:
    """The bias of an encoding between T queries and S keys, `sizes = (T, S)`.

    `params` are joined (see the contract). `q` and `k` are positions `[T]` or `[B, T]`, or both `None`: then keys are
    at 0 .. S - 1 and queries from `q_offset` on, and a relative bias is evaluated once per distance.
    """
    plain = _bias(encoding, params, heads, q, k, sizes, q_offset)
    if not encoding.scores_content:
        return plain
    return ByContent(params, *_rows(q, k, sizes, q_offset), plain, encoding, heads)


def _bias(
    encoding: Encoding, params: Params, heads: int, q: Any, k: Any, sizes: tuple[int, int], q_offset: Any
) -> ByDistance | ByPosition | None:
    queries, keys = sizes
    if encoding.bias_kind == "none" or not queries or not keys:
        return None
    if encoding.bias_kind == "relative" and q is None and k is None:
        distances = jnp.asarray(q_offset, jnp.int32) + jnp.arange(1 - keys, queries, dtype=jnp.int32)
        each = jax.vmap(lambda index: encoding.by_distance(params, distances, Head(index, heads)))
        vector = each(jnp.arange(heads, dtype=jnp.int32)).astype(jnp.float32)
        return ByDistance(vector, keys, encoding.slopes(params, heads))
    return ByPosition(params, *_rows(q, k, sizes, q_offset), encoding, heads)


def _rows(q: Any, k: Any, sizes: tuple[int, int], q_offset: Any) -> tuple[jax.Array, jax.Array]:
    """Positions of queries and keys as `[b, T]` and `[b, S]`, b the batch or 1, those left out filled in."""
    q = jnp.arange(sizes[0], dtype=jnp.int32) + jnp.asarray(q_offset, jnp.int32) if q is None else q
    k = jnp.arange(sizes[1], dtype=jnp.int32) if k is None else k
    q, k = (p[..., 0] if p.ndim == 3 else jnp.atleast_2d(p) for p in (q, k))
    rows = max(q.shape[0], k.shape[0])
    return jnp.broadcast_to(q, (rows, q.shape[1])), jnp.broadcast_to(k, (rows, k.shape[1]))
