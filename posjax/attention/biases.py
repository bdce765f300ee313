"""A bias described, and materialised only for the tile that asks.

Backends see none of the encodings: they see `None` or one of the classes here, each with its `kind`, and ask for tiles.
All are pytrees: what is differentiated in them (the vector, the slopes, the parameters) are their leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from posjax.attention.diagonals import collapse, expand
from posjax.attention.masks import indices_to
from posjax.encodings.arrays import answered
from posjax.encodings.base import Encoding, Head, Pairs, Params
from posjax.positions import Index

BiasKind = Literal["none", "slope", "distance", "position", "content"]
"""What sort of bias there is. Jobs and kernels read it off the bias, and know no other words for it."""

Pull = Callable[[Any, jax.Array], Any]
"""Adds the gradient of one tile, given the tile's cotangent, to a sum of gradients."""


@dataclass(frozen=True)
class ByDistance:
    """A bias of contiguous positions: one number for each head and distance.

    `vector [N, T + S - 1]` holds the distances from `q_offset - (S - 1)` to `q_offset + T - 1`, `q_offset` being the
    first query's index among the keys.
    """

    vector: jax.Array
    keys: int

    kind: ClassVar[BiasKind] = "distance"

    def tile(self, q_first: Index, k_first: Index, rows: int, columns: int) -> jax.Array:
        """The bias of a block of pairs, `[1, N, rows, columns]`."""
        # Blocks are visited in a loop, so where one begins is traced: a slice of fixed size at a place that is not.
        first = self._first_distance(q_first, k_first, columns)
        distances = rows + columns - 1
        segment = lax.dynamic_slice_in_dim(self.vector, first, distances, 1)
        block = expand(segment, rows, columns)
        return block[None]

    def _first_distance(self, q_first: Index, k_first: Index, columns: int) -> Any:
        """Where a block's smallest distance, of its first query and its last key, stands in the vector."""
        return q_first - k_first + self.keys - columns

    def padded(self, queries: int, keys: int) -> ByDistance:
        """The same bias for T and S rounded up to whole blocks; what is added is masked."""
        # Keys are further below the first query than before: their distances come first in the vector.
        below = keys - self.keys
        distances = queries + keys - 1
        known = self.vector.shape[1]
        added = distances - known
        above = added - below
        vector = jnp.pad(self.vector, ((0, 0), (below, above)))
        return ByDistance(vector, keys)

    def part(self, row: Index, batch: int, head: Index, heads: int) -> ByDistance:
        """The same bias for `heads` heads from `head` on; all rows of the batch share it."""
        vector = lax.dynamic_slice_in_dim(self.vector, head, heads, 0)
        return ByDistance(vector, self.keys)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Heads, queries, keys and rows of the batch, 1 where all share it."""
        heads, distances = self.vector.shape
        queries = distances + 1 - self.keys
        return heads, queries, self.keys, 1

    def gradient(self) -> jax.Array:
        """An empty sum of gradients, filled by the second value of `tile_and_pull`."""
        return jnp.zeros_like(self.vector)

    def tile_and_pull(self, q_first: Index, k_first: Index, rows: int, columns: int) -> tuple[jax.Array, Pull]:
        """The tile, and the function that adds a tile's cotangent to a sum of gradients."""
        first = self._first_distance(q_first, k_first, columns)

        def add(total: jax.Array, cotangent: jax.Array) -> jax.Array:
            # Only the slice moves: a full-length vector for every tile would make the backward pass quadratic.
            distances = rows + columns - 1
            before = lax.dynamic_slice_in_dim(total, first, distances, 1)
            of_tile = cotangent[0]
            more = collapse(of_tile)
            after = before + more
            return lax.dynamic_update_slice_in_dim(total, after, first, 1)

        tile = self.tile(q_first, k_first, rows, columns)
        return tile, add

    def cotangent(self, total: jax.Array) -> ByDistance:
        """A sum of gradients in the shape that JAX expects."""
        return replace(self, vector=total)


@dataclass(frozen=True)
class Slope(ByDistance):
    """A bias by distance that is `-slope * distance` for all keys at or before the query: `slopes [N]`.

    Under a causal mask the slopes say it all, and a kernel needs no vector. Under another mask, and for tiles, it is
    its vector, which alone knows of later keys.
    """

    slopes: jax.Array

    kind: ClassVar[BiasKind] = "slope"

    def by_vector(self) -> ByDistance:
        """The same bias without its slopes."""
        return ByDistance(self.vector, self.keys)

    def cotangent(self, total: jax.Array) -> Slope:
        """A sum of gradients in the shape that JAX expects: tiles read the vector, so all of it is the vector's."""
        return replace(self, vector=total, slopes=None)  # type: ignore[arg-type]

    def slopes_cotangent(self, total: jax.Array) -> Slope:
        """The gradient of a backend that reads slopes: then nothing is the vector's."""
        return replace(self, vector=None, slopes=total)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ByPosition:
    """A bias of arbitrary positions: the encoding's own `bias`, evaluated for each pair of the tile.

    `q_positions [b, T]`, `k_positions [b, S]`, with b the batch, or 1 where all rows share their positions. The
    encoding has `heads` heads. Described are `own_heads` of them, from `first_head` on, or all where it is `None`:
    a device that holds some of the heads knows the first at run time only, and then it is traced.
    """

    params: Params
    q_positions: jax.Array
    k_positions: jax.Array
    encoding: Encoding
    heads: int
    first_head: int | jax.Array = 0
    own_heads: int | None = None

    kind: ClassVar[BiasKind] = "position"

    def of_heads(self, first: Index, count: int) -> ByPosition:
        """The same bias for `count` heads from `first` on."""
        first_head = self.first_head + first
        return replace(self, first_head=first_head, own_heads=count)

    @property
    def head_indices(self) -> jax.Array:
        """Which of the encoding's heads are described here, int32 `[N]`."""
        if self.own_heads is None:
            return indices_to(self.heads)
        return self.first_head + indices_to(self.own_heads)

    def tile(self, q_first: Index, k_first: Index, rows: int, columns: int) -> jax.Array:
        """The bias of a block of pairs, `[b, N, rows, columns]`."""
        q = lax.dynamic_slice_in_dim(self.q_positions, q_first, rows, 1)
        k = lax.dynamic_slice_in_dim(self.k_positions, k_first, columns, 1)

        def of_head(q: jax.Array, k: jax.Array, index: jax.Array) -> jax.Array:
            head = Head(index, self.heads)
            # A negative position is a mark: what a hook makes of it would reach the parameters, as a product with 0.
            answer = self.encoding.bias(self.params, jnp.maximum(q, 0), jnp.maximum(k, 0), head)
            bias = answered(self.encoding, "bias", answer, (rows, columns))
            void = (q < 0)[:, None] | (k < 0)[None, :]
            return jnp.where(void, jnp.nan, bias)

        # The hook is written for one head and one row; JAX makes the other axes of it.
        of_heads = jax.vmap(of_head, in_axes=(None, None, 0))
        of_rows = jax.vmap(of_heads, in_axes=(0, 0, None))
        tile = of_rows(q, k, self.head_indices)
        return tile.astype(jnp.float32)

    def padded(self, queries: int, keys: int) -> ByPosition:
        """The same bias for T and S rounded up to whole blocks; what is added is masked."""

        def pad(positions: jax.Array, length: int) -> jax.Array:
            # Repeating a real position keeps what is masked finite, whatever the encoding makes of it.
            added = length - positions.shape[1]
            return jnp.pad(positions, ((0, 0), (0, added)), mode="edge")

        q_positions = pad(self.q_positions, queries)
        k_positions = pad(self.k_positions, keys)
        return replace(self, q_positions=q_positions, k_positions=k_positions)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Heads, queries, keys and rows of the batch, 1 where all share their positions."""
        rows, queries = self.q_positions.shape
        heads = self.head_indices.shape[0]
        keys = self.k_positions.shape[1]
        return heads, queries, keys, rows

    def gradient(self) -> Params:
        """An empty sum of gradients, filled by the second value of `tile_and_pull`."""
        floats = _floats(self.params)
        return jax.tree.map(jnp.zeros_like, floats)

    def tile_and_pull(self, q_first: Index, k_first: Index, rows: int, columns: int) -> tuple[jax.Array, Pull]:
        """The tile, and the function that adds a tile's cotangent to a sum of gradients."""

        def evaluate(floats: list[jax.Array]) -> jax.Array:
            params = _with_floats(self.params, floats)
            learned = replace(self, params=params)
            return learned.tile(q_first, k_first, rows, columns)

        # Spent within the step that asked for it: what differentiation keeps of a tile is as large as the tile.
        floats = _floats(self.params)
        tile, pull = jax.vjp(evaluate, floats)

        def add(total: list[jax.Array], cotangent: jax.Array) -> list[jax.Array]:
            (more,) = pull(cotangent)
            return jax.tree.map(jnp.add, total, more)

        return tile, add

    def cotangent(self, total: list[jax.Array]) -> ByPosition:
        """A sum of gradients in the shape that JAX expects: `None` for what has no gradient."""
        leaves, structure = jax.tree.flatten(self.params)
        gradients: list[Any] = [None] * len(leaves)
        learned = [n for n, leaf in enumerate(leaves) if _is_float(leaf)]
        for n, gradient in zip(learned, total, strict=True):
            gradients[n] = gradient
        # Positions and the first head are whole numbers, which have no gradient.
        nowhere: Any = {"q_positions": None, "k_positions": None, "first_head": None}
        params = structure.unflatten(gradients)
        return replace(self, params=params, **nowhere)


@dataclass(frozen=True)
class ByContent:
    """An encoding whose score reads queries and keys: it gives whole rows of logits, and `bias` adds to them."""

    params: Params
    q_positions: jax.Array
    k_positions: jax.Array
    bias: ByDistance | ByPosition | None
    encoding: Encoding
    heads: int

    kind: ClassVar[BiasKind] = "content"

    def logits(
        self, q: jax.Array, k: jax.Array, q_first: Index, q_offset: Index, seen: jax.Array | None = None
    ) -> jax.Array:
        """`q [B, t, N, H]`, the rows from `q_first` on, and all keys `[B, S, K, H]` -> float32 `[B, N, t, S]`.

        `seen [b, t, S]`: the pairs that the mask allows, where it does not allow all.
        """
        rows = q.shape[1]
        columns, K = k.shape[1:3]
        # The hook scores each query head with keys of its own.
        group = self.heads // K
        k_BSNH = jnp.repeat(k, group, axis=2)
        q_at = lax.dynamic_slice_in_dim(self.q_positions, q_first, rows, 1)
        # The order of tokens, which is not their positions: those may stand still or jump.
        offset = jnp.asarray(q_offset, jnp.int32)
        first_index = offset + q_first
        q_index = first_index + indices_to(rows)
        k_index = indices_to(columns)

        def of_row(q: jax.Array, k: jax.Array, q_at: jax.Array, k_at: jax.Array, seen: jax.Array | None) -> jax.Array:
            # A negative position is a mark: the score is computed elsewhere, and then replaced without a gradient.
            some_q = jnp.maximum(q_at, 0)
            some_k = jnp.maximum(k_at, 0)
            pairs = Pairs(some_q, some_k, q_index, k_index, seen)
            q_void = q_at < 0
            k_void = k_at < 0
            void = q_void[:, None] | k_void[None, :]
            answer = self.encoding.score(self.params, q, k, pairs)
            scores = answered(self.encoding, "score", answer, (self.heads, rows, columns))
            return jnp.where(void[None], jnp.nan, scores)

        # What all rows of the batch share is handed to each as it is: mapped over, it would be copied for every row.
        q_at, at_axis = _shared_or_mapped(q_at)
        k_at, _ = _shared_or_mapped(self.k_positions)
        seen, seen_axis = _shared_or_mapped(seen)
        of_rows = jax.vmap(of_row, in_axes=(0, 0, at_axis, at_axis, seen_axis))
        content = of_rows(q, k_BSNH, q_at, k_at, seen)
        if self.bias is None:
            return content
        bias = self.bias.tile(q_first, 0, rows, columns)
        return content + bias

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Heads, queries, keys and rows of the batch, 1 where all share their positions."""
        rows, queries = self.q_positions.shape
        keys = self.k_positions.shape[1]
        return self.heads, queries, keys, rows

    def padded(self, queries: int, keys: int) -> ByContent:
        """The same for T rounded up to whole blocks of rows."""
        more = queries - self.q_positions.shape[1]
        at = jnp.pad(self.q_positions, ((0, 0), (0, more)), mode="edge")
        if self.bias is None:
            return replace(self, q_positions=at)
        bias = self.bias.padded(queries, keys)
        return replace(self, q_positions=at, bias=bias)


def _shared_or_mapped(x: jax.Array | None) -> tuple[Any, int | None]:
    """An array `[b, ...]` and the axis that a map over the batch takes of it: none where b is 1, its one row then."""
    if x is None:
        return None, None
    if x.shape[0] == 1:
        return x[0], None
    return x, 0


TileBias = ByDistance | ByPosition | None
"""A bias that is known tile by tile."""
Bias = TileBias | ByContent
"""Every described bias; `None` where an encoding has none."""

jax.tree_util.register_dataclass(ByDistance, data_fields=["vector"], meta_fields=["keys"])
jax.tree_util.register_dataclass(Slope, data_fields=["vector", "slopes"], meta_fields=["keys"])
jax.tree_util.register_dataclass(
    ByPosition,
    data_fields=["params", "q_positions", "k_positions", "first_head"],
    meta_fields=["encoding", "heads", "own_heads"],
)
jax.tree_util.register_dataclass(
    ByContent, data_fields=["params", "q_positions", "k_positions", "bias"], meta_fields=["encoding", "heads"]
)


def kind_of(bias: Bias) -> BiasKind:
    """What sort of bias a description is."""
    if bias is None:
        return "none"
    return bias.kind


def _is_float(leaf: Any) -> bool:
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.floating)


def _floats(params: Params) -> list[jax.Array]:
    """The leaves that can have a gradient; the words of phases and the edges of buckets cannot."""
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(params) if _is_float(leaf)]


def _with_floats(params: Params, floats: list[jax.Array]) -> Params:
    """The parameters with other floats in the places of their own."""
    rest = iter(floats)

    def exchanged(leaf: Any) -> Any:
        if _is_float(leaf):
            return next(rest)
        return leaf

    return jax.tree.map(exchanged, params)
