"""Kernels for GPUs, in what Pallas's Triton lowering knows: a program loops over the blocks that its block sees.

A Toeplitz tile is loaded from its vector by computed indices. The gradient of that vector has a kernel of its own, a
program for each diagonal of blocks: on a diagonal all tiles of the bias are the same, so their gradients add up in
registers, and only one tile for each diagonal is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from posjax.attention.fused import tile
from posjax.attention.fused.kernel import At, Kernel, Refs
from posjax.attention.fused.pairwise.stages import Number, Reader
from posjax.attention.fused.rules import Ids, near, real
from posjax.attention.masks import indices_to
from posjax.positions import Index


class Queries(NamedTuple):
    """A block of queries in a backward pass: themselves, and what comes back for them.

    `lse` and `delta` have the axis of keys too, of length 1: they broadcast to the tile.
    """

    q: jax.Array
    d_out: jax.Array
    lse: jax.Array
    delta: jax.Array


@dataclass(frozen=True)
class TritonKernel(Kernel):
    """A kernel on a GPU: it sees whole arrays, and loads the blocks of a tile by their indices."""

    stretches: tuple[bool, bool, bool]

    def rows_of(self, i: Index) -> Any:
        """The slice of a block of queries."""
        return pl.ds(i * self.block.rows, self.block.rows)

    def columns_of(self, j: Index) -> Any:
        """The slice of a block of keys."""
        return pl.ds(j * self.block.columns, self.block.columns)

    def queries(self, refs: Refs, at: At) -> Queries:
        """The tile's queries in a backward pass."""
        rows = self.rows_of(at.i)
        q = refs.q[at.b, rows, at.n, :]
        d_out = refs.d_out[at.b, rows, at.n, :]
        lse = refs.lse[at.b, at.n, rows]
        delta = refs.delta[at.b, at.n, rows]
        if self.keys_first:
            return Queries(q, d_out, lse[None, :], delta[None, :])
        return Queries(q, d_out, lse[:, None], delta[:, None])

    def keys_and_values(self, refs: Refs, at: At) -> tuple[jax.Array, jax.Array]:
        """The tile's keys and values; `at.n` is a query head."""
        # Query heads of a group are neighbours, and read the same keys.
        head = lax.div(at.n, jnp.int32(self.sizes.G))
        columns = self.columns_of(at.j)
        k = refs.k[at.b, columns, head, :]
        v = refs.v[at.b, columns, head, :]
        return k, v

    def spread(self, q: jax.Array, k: jax.Array) -> Ids:
        """`[rows]` and `[columns]`, to broadcast to the tile."""
        if self.keys_first:
            return q[None, :], k[:, None]
        return q[:, None], k[None, :]

    def indices(self, at: At) -> tuple[jax.Array, jax.Array]:
        """The indices of the tile's queries and keys, to broadcast to it."""
        rows = self.block.rows
        columns = self.block.columns
        q_first = at.i * rows
        k_first = at.j * columns
        q_index = q_first + indices_to(rows)
        k_index = k_first + indices_to(columns)
        return self.spread(q_index, k_index)

    def ids(self, refs: Refs, at: At) -> list[Ids]:
        """The segments of the tile, to broadcast to it."""
        found = []
        for q_ids, k_ids in zip(refs.q_ids, refs.k_ids, strict=True):
            q = q_ids[of_batch(q_ids, at.b), self.rows_of(at.i)]
            k = k_ids[of_batch(k_ids, at.b), self.columns_of(at.j)]
            found.append(self.spread(q, k))
        return found

    def toeplitz(self, refs: Refs, at: At) -> jax.Array:
        """The tile of the vector: what stands along the tile's rows stands in order in the vector."""
        q_index, k_index = self.indices(at)
        # The vector lies backwards where keys are along the rows, since there distances fall.
        if self.keys_first:
            return refs.bias[at.n, q_index - k_index + self.sizes.keys - 1]
        return refs.bias[at.n, k_index - q_index + self.sizes.queries - 1]

    def reads(self, refs: Refs, at: At) -> tuple[Reader, jax.Array, jax.Array]:
        """What a program reads: the head's rows, and the positions of the tile's queries and keys."""
        floats, integers, q_positions, k_positions = refs.bias

        def read(place: Any, is_float: bool) -> jax.Array:
            if is_float:
                return floats[at.n, place]
            return integers[at.n, place]

        def lookup(number: Number, index: jax.Array) -> jax.Array:
            # A GPU loads from an address for each pair, so an index for each pair is all there is to it.
            return read(number.first + index, number.is_float)

        q_at = q_positions[of_batch(q_positions, at.b), self.rows_of(at.i)]
        k_at = k_positions[of_batch(k_positions, at.b), self.columns_of(at.j)]
        return Reader(read, lookup), q_at, k_at

    def visit(self, refs: Refs, b: Any, own: Any, step: Callable[[bool, Any, Any], Any], state: Any) -> Any:
        """Folds the blocks to visit: some that need a mask, those that need none, some that do."""
        row = of_batch(refs.bounds, b)
        bounds = [refs.bounds[row, own, n] for n in range(4)]
        # Three loops and no branch in one: a loop that knows whether it masks is compiled without the question.
        for n, masked in enumerate((True, False, True)):
            if self.stretches[n]:
                state = lax.fori_loop(bounds[n], bounds[n + 1], partial(step, masked), state)
        return state


def of_batch(ref: Any, b: Any) -> Any:
    """The batch's row of an array whose leading axis is the batch, or 1."""
    if ref.shape[0] == 1:
        return 0
    return b


def _program_of_queries() -> At:
    """The block of queries of this program; its first tile, for what is loaded once."""
    # The last queries see the most keys of a causal mask: they begin first, so that none is left to wait for.
    i = pl.num_programs(0) - 1 - pl.program_id(0)
    return At(pl.program_id(2), pl.program_id(1), i, 0)


def forward(kernel: TritonKernel, refs: Refs, out_ref: Any, highest_ref: Any, total_ref: Any) -> None:
    """The output of a block of queries, and each row's maximum and sum of weights."""
    start = _program_of_queries()
    # The queries stay in registers while the keys pass by.
    q = refs.q[start.b, kernel.rows_of(start.i), start.n, :]

    def step(masked: bool, j: Index, state: tile.Softmax) -> tile.Softmax:
        at = start._replace(j=j, masked=masked)
        k, v = kernel.keys_and_values(refs, at)
        logits = kernel.logits(refs, q, k, at)
        return tile.fold(state, logits, v, kernel.precision)

    state = kernel.visit(refs, start.b, start.i, step, tile.empty(*q.shape))
    out, highest, total = tile.finish(state)
    out_ref[...] = out.astype(out_ref.dtype)
    highest_ref[...] = highest.reshape(highest_ref.shape)
    total_ref[...] = total.reshape(total_ref.shape)


def dq(kernel: TritonKernel, refs: Refs, dq_ref: Any, row_ref: Any = None) -> None:
    """The gradient of a block of queries, and its part of the gradient of a program's numbers or of a slope."""
    start = _program_of_queries()
    q, d_out, lse, delta = kernel.queries(refs, start)

    def gradients(j: Index, masked: bool) -> tuple[At, jax.Array, jax.Array]:
        """A tile, the gradient of its logits, and what it adds to that of the queries."""
        at = start._replace(j=j, masked=masked)
        k, v = kernel.keys_and_values(refs, at)
        logits = kernel.logits(refs, q, k, at)
        dp = kernel.product(d_out, v)
        _, ds = tile.weights(logits, lse, dp, delta)
        rounded = ds.astype(k.dtype)
        more = tile.dot(rounded, k, (1, 0), kernel.precision)
        return at, ds, more

    def step(masked: bool, j: Index, dq: jax.Array) -> jax.Array:
        _, _, more = gradients(j, masked)
        return dq + more

    def step_with_bias(masked: bool, j: Index, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        dq, row = sums
        at, ds, more = gradients(j, masked)
        return dq + more, kernel.bias.add_gradient(kernel, refs, at, ds, row)  # type: ignore[union-attr]

    zero = jnp.zeros(q.shape, jnp.float32)
    if row_ref is None:
        dq = kernel.visit(refs, start.b, start.i, step, zero)
    else:
        row = kernel.bias.no_gradient(kernel, row_ref.shape)  # type: ignore[union-attr]
        dq, row = kernel.visit(refs, start.b, start.i, step_with_bias, (zero, row))
        # Its own place for each block of queries, added up outside: no program adds to what another writes.
        row_ref[...] = row.reshape(row_ref.shape)
    # The scale of the logits comes in once, at the end, and not in every product.
    scaled = dq * kernel.sizes.scale
    dq_ref[...] = scaled.astype(dq_ref.dtype)


def dkv(kernel: TritonKernel, refs: Refs, dk_ref: Any, dv_ref: Any) -> None:
    """The gradients of a block of keys and values, from all the query heads that read it."""
    j = pl.program_id(0)
    head = pl.program_id(1)
    b = pl.program_id(2)
    G = kernel.sizes.G
    # Keys and values stay in registers while the queries of all heads of the group pass by.
    k, v = kernel.keys_and_values(refs, At(b, head * G, 0, j))

    def of_head(g: Any, sums: Any) -> Any:
        def step(masked: bool, i: Index, sums: Any) -> Any:
            dk, dv = sums
            at = At(b, head * G + g, i, j, masked)
            q, d_out, lse, delta = kernel.queries(refs, at)
            logits = kernel.logits(refs, q, k, at)
            dp = kernel.product(d_out, v)
            p, ds = tile.weights(logits, lse, dp, delta)
            ds = ds.astype(q.dtype)
            p = p.astype(d_out.dtype)
            dk += tile.dot(ds, q, (1, 0), kernel.precision)
            dv += tile.dot(p, d_out, (1, 0), kernel.precision)
            return dk, dv

        return kernel.visit(refs, b, j, step, sums)

    zero = jnp.zeros(k.shape, jnp.float32)
    dk, dv = _over(G, of_head, (zero, zero))
    scaled = dk * kernel.sizes.scale
    dk_ref[...] = scaled.astype(dk_ref.dtype)
    dv_ref[...] = dv.astype(dv_ref.dtype)


def _over(count: int, step: Callable[[Any, Any], Any], state: Any) -> Any:
    """The state after so many steps; a single one without a loop around the inner ones."""
    if count == 1:
        return step(0, state)
    return lax.fori_loop(0, count, step, state)


def diagonal(kernel: TritonKernel, refs: Refs, tile_ref: Any) -> None:
    """The sum of the logits' gradients over the batch and over the square blocks of one diagonal."""
    which = pl.program_id(0)
    n = pl.program_id(1)
    offset = refs.bounds[which, 0]
    low = refs.bounds[which, 1]
    high = refs.bounds[which, 2]
    sizes = kernel.sizes
    rule = kernel.rule
    size = kernel.block.rows
    # Along a diagonal the bias is the same, and so is the part of the mask that depends on distance.
    first = At(0, n, offset, 0, True)
    q_index, k_index = kernel.indices(first)
    seen = near(rule, q_index - k_index, refs.scalars)
    bias = kernel.toeplitz(refs, first)
    bias = tile.masked(bias, seen)

    def of_row(b: Any, total: jax.Array) -> jax.Array:
        def step(i: Index, total: jax.Array) -> jax.Array:
            at = At(b, n, i, i - offset, True)
            q, d_out, lse, delta = kernel.queries(refs, at)
            k, v = kernel.keys_and_values(refs, at)
            logits = kernel.product(q, k) * (sizes.scale * tile.LOG2E) + bias
            # What is left of the mask: segments, and padding in the last block of keys.
            if rule.q_ids or sizes.S % size:
                _, k_index = kernel.indices(at)
                logits = tile.masked(logits, real(rule, k_index, kernel.ids(refs, at)))
            dp = kernel.product(d_out, v)
            _, ds = tile.weights(logits, lse, dp, delta)
            return total + ds

        return lax.fori_loop(low, high, step, total)

    tile_ref[...] = _over(sizes.B, of_row, jnp.zeros(tile_ref.shape, jnp.float32))
