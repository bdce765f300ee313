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

from posjax.attention.diagonals import collapse, expand
from posjax.encodings import traits
from posjax.encodings.base import Encoding, Head, Pairs, Params

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

    def tile(self, q_first: Any, k_first: Any, rows: int, columns: int) -> jax.Array:
        """The bias of a block of pairs, `[1, N, rows, columns]`."""
        # Blocks are visited in a loop, so where one begins is traced: a slice of fixed size at a place that is not.
        first = self._first_distance(q_first, k_first, columns)
        segment = jax.lax.dynamic_slice_in_dim(self.vector, first, rows + columns - 1, 1)
        return expand(segment, rows, columns)[None]

    def _first_distance(self, q_first: Any, k_first: Any, columns: int) -> Any:
        """Where a block's smallest distance, of its first query and its last key, stands in the vector."""
        return q_first - k_first + self.keys - columns

    def padded(self, queries: int, keys: int) -> ByDistance:
        """The same bias for T and S rounded up to whole blocks; what is added is masked."""
        # Keys are further below the first query than before: their distances come first in the vector.
        below = keys - self.keys
        above = queries + keys - 1 - self.vector.shape[1] - below
        return ByDistance(jnp.pad(self.vector, ((0, 0), (below, above))), keys)

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
        first = self._first_distance(q_first, k_first, columns)

        def add(total: jax.Array, cotangent: jax.Array) -> jax.Array:
            # Only the slice moves: a full-length vector for every tile would make the backward pass quadratic.
            before = jax.lax.dynamic_slice_in_dim(total, first, rows + columns - 1, 1)
            return jax.lax.dynamic_update_slice_in_dim(total, before + collapse(cotangent[0]), first, 1)

        return self.tile(q_first, k_first, rows, columns), add

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

    def of_heads(self, first: Any, count: int) -> ByPosition:
        """The same bias for `count` heads from `first` on."""
        return replace(self, first_head=self.first_head + first, own_heads=count)

    @property
    def head_indices(self) -> jax.Array:
        """Which of the encoding's heads are described here, int32 `[N]`."""
        if self.own_heads is None:
            return jnp.arange(self.heads, dtype=jnp.int32)
        return self.first_head + jnp.arange(self.own_heads, dtype=jnp.int32)

    def tile(self, q_first: Any, k_first: Any, rows: int, columns: int) -> jax.Array:
        """The bias of a block of pairs, `[b, N, rows, columns]`."""
        q = jax.lax.dynamic_slice_in_dim(self.q_positions, q_first, rows, 1)
        k = jax.lax.dynamic_slice_in_dim(self.k_positions, k_first, columns, 1)

        def of_head(q: jax.Array, k: jax.Array, index: jax.Array) -> jax.Array:
            return self.encoding.bias(self.params, q, k, Head(index, self.heads))

        # The hook is written for one head and one row; JAX makes the other axes of it.
        of_heads = jax.vmap(of_head, in_axes=(None, None, 0))
        of_rows = jax.vmap(of_heads, in_axes=(0, 0, None))
        return of_rows(q, k, self.head_indices).astype(jnp.float32)

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
        return self.head_indices.shape[0], queries, self.k_positions.shape[1], rows

    def gradient(self) -> Params:
        """An empty sum of gradients, filled by the second value of `tile_and_pull`."""
        return jax.tree.map(jnp.zeros_like, _floats(self.params))

    def tile_and_pull(self, q_first: Any, k_first: Any, rows: int, columns: int) -> tuple[jax.Array, Pull]:
        """The tile, and the function that adds a tile's cotangent to a sum of gradients."""

        def evaluate(floats: list[jax.Array]) -> jax.Array:
            learned = replace(self, params=_with_floats(self.params, floats))
            return learned.tile(q_first, k_first, rows, columns)

        # Spent within the step that asked for it: what differentiation keeps of a tile is as large as the tile.
        tile, pull = jax.vjp(evaluate, _floats(self.params))

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
        return replace(self, params=structure.unflatten(gradients), **nowhere)


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
        self, q: jax.Array, k: jax.Array, q_first: Any, q_offset: Any, seen: jax.Array | None = None
    ) -> jax.Array:
        """`q [B, t, N, H]`, the rows from `q_first` on, and all keys `[B, S, K, H]` -> float32 `[B, N, t, S]`.

        `seen [b, t, S]`: the pairs that the mask allows, where it does not allow all.
        """
        rows, columns = q.shape[1], k.shape[1]
        # The hook scores each query head with keys of its own.
        k_BSNH = jnp.repeat(k, self.heads // k.shape[2], axis=2)
        q_at = jax.lax.dynamic_slice_in_dim(self.q_positions, q_first, rows, 1)
        # The order of tokens, which is not their positions: those may stand still or jump.
        first_index = jnp.asarray(q_offset, jnp.int32) + q_first
        q_index = first_index + jnp.arange(rows, dtype=jnp.int32)
        k_index = jnp.arange(columns, dtype=jnp.int32)

        def of_row(q: jax.Array, k: jax.Array, q_at: jax.Array, k_at: jax.Array, seen: jax.Array | None) -> jax.Array:
            # A negative position is a mark: the score is computed elsewhere, and then replaced without a gradient.
            pairs = Pairs(jnp.maximum(q_at, 0), jnp.maximum(k_at, 0), q_index, k_index, seen)
            void = (q_at < 0)[:, None] | (k_at < 0)[None, :]
            scores = self.encoding.score(self.params, q, k, pairs)
            return jnp.where(void[None], jnp.nan, scores)

        # What all rows of the batch share is handed to each as it is: mapped over, it would be copied for every row.
        q_at, at_axis = _shared_or_mapped(q_at)
        k_at, _ = _shared_or_mapped(self.k_positions)
        seen, seen_axis = _shared_or_mapped(seen)
        of_rows = jax.vmap(of_row, in_axes=(0, 0, at_axis, at_axis, seen_axis))
        content = of_rows(q, k_BSNH, q_at, k_at, seen)
        if self.bias is None:
            return content
        return content + self.bias.tile(q_first, 0, rows, columns)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Heads, queries, keys and rows of the batch, 1 where all share their positions."""
        rows, queries = self.q_positions.shape
        return self.heads, queries, self.k_positions.shape[1], rows

    def padded(self, queries: int, keys: int) -> ByContent:
        """The same for T rounded up to whole blocks of rows."""
        more = queries - self.q_positions.shape[1]
        at = jnp.pad(self.q_positions, ((0, 0), (0, more)), mode="edge")
        if self.bias is None:
            return replace(self, q_positions=at)
        return replace(self, q_positions=at, bias=self.bias.padded(queries, keys))


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
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


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


def over_rows(x: jax.Array) -> jax.Array:
    """The sum over the leading axis, which stays, by halves: XLA reduces a leading axis slowly on CPU."""
    odd_ones = None
    while x.shape[0] > 1:
        half, odd = divmod(x.shape[0], 2)
        if odd:
            # Kept aside until the end, so that what is left divides into two halves.
            odd_ones = x[-1:] if odd_ones is None else odd_ones + x[-1:]
        x = x[:half] + x[half : 2 * half]
    if odd_ones is None:
        return x
    return x + odd_ones


def describe(
    encoding: Encoding, params: Params, heads: int, q: Any, k: Any, sizes: tuple[int, int], q_offset: Any
) -> Bias:
    """The bias of an encoding between T queries and S keys, `sizes = (T, S)`.

    `params` are joined (see the contract). `q` and `k` are positions `[T]` or `[B, T]`, or both `None`: then keys are
    at 0 .. S - 1 and queries from `q_offset` on, and a relative bias is evaluated once per distance.
    """
    bias = _tile_bias(encoding, params, heads, q, k, sizes, q_offset)
    if not traits.scores_content(encoding):
        return bias
    q_positions, k_positions = _positions(q, k, sizes, q_offset)
    return ByContent(params, q_positions, k_positions, bias, encoding, heads)


def _tile_bias(
    encoding: Encoding, params: Params, heads: int, q: Any, k: Any, sizes: tuple[int, int], q_offset: Any
) -> TileBias:
    # Without a pair there is nothing to evaluate, and no encoding need expect an empty array.
    if encoding.bias_kind == "none" or 0 in sizes:
        return None
    if encoding.bias_kind == "relative" and q is None and k is None:
        return _by_distance(encoding, params, heads, sizes, q_offset)
    q_positions, k_positions = _positions(q, k, sizes, q_offset)
    return ByPosition(params, q_positions, k_positions, encoding, heads)


def _by_distance(
    encoding: Encoding, params: Params, heads: int, sizes: tuple[int, int], q_offset: Any
) -> ByDistance | Slope:
    queries, keys = sizes
    # Whole numbers, subtracted before anything is rounded: a float32 of two far positions would lose their distance.
    first_query = jnp.asarray(q_offset, jnp.int32)
    distances = first_query + jnp.arange(1 - keys, queries, dtype=jnp.int32)

    def of_head(index: jax.Array) -> jax.Array:
        return encoding.by_distance(params, distances, Head(index, heads))

    vector = jax.vmap(of_head)(jnp.arange(heads, dtype=jnp.int32)).astype(jnp.float32)
    slopes = traits.slopes(encoding, params, heads)
    if slopes is None:
        return ByDistance(vector, keys)
    return Slope(vector, keys, slopes)


def _positions(q: Any, k: Any, sizes: tuple[int, int], q_offset: Any) -> tuple[jax.Array, jax.Array]:
    """Positions of queries and keys as `[b, T]` and `[b, S]`, b the batch or 1, those left out filled in."""
    queries, keys = sizes
    if q is None:
        q = jnp.arange(queries, dtype=jnp.int32) + jnp.asarray(q_offset, jnp.int32)
    if k is None:
        k = jnp.arange(keys, dtype=jnp.int32)
    q_line, k_line = _lines(q), _lines(k)
    # As many rows on both sides, so that a map over the batch takes them together.
    rows = max(q_line.shape[0], k_line.shape[0])
    q_rows = jnp.broadcast_to(q_line, (rows, q_line.shape[1]))
    k_rows = jnp.broadcast_to(k_line, (rows, k_line.shape[1]))
    return q_rows, k_rows


def _lines(positions: Any) -> jax.Array:
    """Positions `[T]`, `[B, T]` or of several coordinates `[B, T, C]` as `[b, T]`: biases read the first coordinate."""
    if positions.ndim == 3:
        return positions[..., 0]
    return jnp.atleast_2d(positions)
