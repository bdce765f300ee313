"""Kernels for GPUs, in what Pallas's Triton lowering knows: a program loops over the blocks that its block sees.

A Toeplitz tile is loaded from its vector by computed indices. The gradient of that vector has a kernel of its own, a
program for each diagonal of blocks: on a diagonal all tiles of the bias are the same, so their gradients add up in
registers, and only one tile for each diagonal is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from posjax.attention.fused import tile
from posjax.attention.fused.pairwise.program import Program
from posjax.attention.fused.pairwise.stages import Number, Reader
from posjax.attention.fused.plan import Block, Sizes
from posjax.attention.fused.rules import Rule, allowed, linear, near, real


class Refs(NamedTuple):
    """What kernels read, whole arrays: a kernel on a GPU sees addresses, and reads what it needs of each.

    `bias` is the vector, or for a program the numbers of the heads and the positions; the last three are there only in
    a backward pass.
    """

    numbers: Any
    bounds: Any
    q_ids: tuple[Any, ...]
    k_ids: tuple[Any, ...]
    bias: Any
    q: Any
    k: Any
    v: Any
    d_out: Any = None
    lse: Any = None
    delta: Any = None


class At(NamedTuple):
    """A tile: its row of the batch, its head, its block of queries and of keys, whether it needs the mask."""

    b: Any
    n: Any
    i: Any
    j: Any
    masked: bool


@dataclass(frozen=True)
class Kernel:
    """The static facts of one kernel. `keys_first` lays its tiles `[columns, rows]`."""

    sizes: Sizes
    block: Block
    rule: Rule
    parts: tuple[bool, bool, bool]
    bias: Program | Literal["toeplitz", "linear"] | None
    precision: Any
    keys_first: bool = False

    def queries(self, i: Any) -> Any:
        """The slice of a block of queries."""
        return pl.ds(i * self.block.rows, self.block.rows)

    def keys(self, j: Any) -> Any:
        """The slice of a block of keys."""
        return pl.ds(j * self.block.columns, self.block.columns)

    def q(self, refs: Refs, at: At) -> tuple[jax.Array, ...]:
        """The tile's queries, and in a backward pass what comes back for them: d_out, lse and delta."""
        rows = self.queries(at.i)
        if refs.d_out is None:
            return (refs.q[at.b, rows, at.n, :],)
        lse, delta = (x[at.b, at.n, rows] for x in (refs.lse, refs.delta))
        lse, delta = (x[None, :] if self.keys_first else x[:, None] for x in (lse, delta))
        return refs.q[at.b, rows, at.n, :], refs.d_out[at.b, rows, at.n, :], lse, delta

    def kv(self, refs: Refs, at: At) -> tuple[jax.Array, jax.Array]:
        """The tile's keys and values; `at.n` is a query head."""
        head = jax.lax.div(at.n, jnp.int32(self.sizes.G))
        return refs.k[at.b, self.keys(at.j), head, :], refs.v[at.b, self.keys(at.j), head, :]

    def spread(self, q: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[rows]` and `[columns]`, to broadcast to the tile."""
        return (q[None, :], k[:, None]) if self.keys_first else (q[:, None], k[None, :])

    def indices(self, at: At) -> tuple[jax.Array, jax.Array]:
        """The indices of the tile's queries and keys, to broadcast to it."""
        rows, columns = self.block.rows, self.block.columns
        return self.spread(
            at.i * rows + jnp.arange(rows, dtype=jnp.int32), at.j * columns + jnp.arange(columns, dtype=jnp.int32)
        )

    def product(self, q: jax.Array, k: jax.Array) -> jax.Array:
        """The tile of products of what queries and keys hold."""
        return tile.dot(*((k, q) if self.keys_first else (q, k)), (1, 1), self.precision)

    def logits(self, refs: Refs, q: jax.Array, k: jax.Array, at: At) -> jax.Array:
        """The logits of a tile to base 2, masked."""
        logits = self.product(q, k) * (self.sizes.scale * tile.LOG2E)
        if self.bias == "toeplitz":
            logits += self.toeplitz(refs, at)
        elif self.bias == "linear":
            logits += refs.bias[at.n] * self.linear(refs, at)
        elif isinstance(self.bias, Program):
            bias = self.bias.tile(*self.reads(refs, at)) * tile.LOG2E
            logits += bias.T if self.keys_first else bias
        if not at.masked:
            return logits
        return tile.masked(logits, allowed(self.rule, *self.indices(at), refs.numbers, self.ids(refs, at)))

    def toeplitz(self, refs: Refs, at: At) -> jax.Array:
        """The tile of the vector: what stands along the tile's rows stands in order in the vector."""
        q_index, k_index = self.indices(at)
        z = self.sizes
        return refs.bias[at.n, q_index - k_index + z.keys - 1 if self.keys_first else k_index - q_index + z.queries - 1]

    def linear(self, refs: Refs, at: At) -> jax.Array:
        """What a slope multiplies."""
        return linear(self.rule, *self.indices(at), refs.numbers)

    def reads(self, refs: Refs, at: At) -> tuple[Reader, jax.Array, jax.Array]:
        """What a program reads: the head's numbers, and the positions of the tile's queries and keys."""
        floats, integers, q_positions, k_positions = refs.bias

        def read(place: Any, is_float: bool) -> jax.Array:
            return (floats if is_float else integers)[at.n, place]

        def lookup(number: Number, index: jax.Array) -> jax.Array:
            return read(number.first + index, number.is_float)

        return (
            Reader(read, lookup),
            q_positions[of_batch(q_positions, at.b), self.queries(at.i)],
            k_positions[of_batch(k_positions, at.b), self.keys(at.j)],
        )

    def ids(self, refs: Refs, at: At) -> list[tuple[jax.Array, jax.Array]]:
        """The segments of the tile, to broadcast to it."""
        return [
            self.spread(q[of_batch(q, at.b), self.queries(at.i)], k[of_batch(k, at.b), self.keys(at.j)])
            for q, k in zip(refs.q_ids, refs.k_ids, strict=True)
        ]

    def visit(self, refs: Refs, b: Any, own: Any, step: Callable[[bool, Any, Any], Any], state: Any) -> Any:
        """Folds the blocks to visit: some that need a mask, those that need none, some that do."""
        bounds = [refs.bounds[of_batch(refs.bounds, b), own, n] for n in range(4)]
        for n, (part, masked) in enumerate(zip(self.parts, (True, False, True), strict=True)):
            if part:
                state = jax.lax.fori_loop(bounds[n], bounds[n + 1], partial(step, masked), state)
        return state


def of_batch(ref: Any, b: Any) -> Any:
    """The batch's row of an array whose leading axis is the batch, or 1."""
    return 0 if ref.shape[0] == 1 else b


def forward(kernel: Kernel, refs: Refs, out_ref: Any, highest_ref: Any, total_ref: Any) -> None:
    """The output of a block of queries, and each row's maximum and sum of weights."""
    # The last queries see the most keys of a causal mask: they begin first, so that none is left to wait for.
    i, n, b = pl.num_programs(0) - 1 - pl.program_id(0), pl.program_id(1), pl.program_id(2)
    (q,) = kernel.q(refs, At(b, n, i, 0, False))

    def step(masked: bool, j: Any, state: Any) -> Any:
        at = At(b, n, i, j, masked)
        k, v = kernel.kv(refs, at)
        return tile.fold(state, kernel.logits(refs, q, k, at), v, kernel.precision)

    out, highest, total = tile.finish(kernel.visit(refs, b, i, step, tile.empty(*q.shape)))
    out_ref[...] = out.astype(out_ref.dtype)
    highest_ref[...], total_ref[...] = (x.reshape(highest_ref.shape) for x in (highest, total))


def dq(kernel: Kernel, refs: Refs, dq_ref: Any, row_ref: Any = None) -> None:
    """The gradient of a block of queries, and its part of the gradient of a program's numbers or of a slope."""
    i, n, b = pl.num_programs(0) - 1 - pl.program_id(0), pl.program_id(1), pl.program_id(2)
    q, d_out, lse, delta = kernel.q(refs, At(b, n, i, 0, False))

    def step(masked: bool, j: Any, state: Any) -> Any:
        dq, *row = state
        at = At(b, n, i, j, masked)
        k, v = kernel.kv(refs, at)
        _, ds = tile.weights(kernel.logits(refs, q, k, at), lse, kernel.product(d_out, v), delta)
        if row and isinstance(kernel.bias, Program):
            row = [kernel.bias.tile_and_pull(*kernel.reads(refs, at))[1](ds, row[0])]
        elif row:
            row = [row[0] + jnp.sum(ds * kernel.linear(refs, at), 1, keepdims=True)]
        return dq + tile.dot(ds.astype(k.dtype), k, (1, 0), kernel.precision), *row

    wide = (q.shape[0], 1) if kernel.bias == "linear" or row_ref is None else row_ref.shape
    row = [] if row_ref is None else [jnp.zeros(wide, jnp.float32)]
    dq, *row = kernel.visit(refs, b, i, step, (jnp.zeros(q.shape, jnp.float32), *row))
    dq_ref[...] = (dq * kernel.sizes.scale).astype(dq_ref.dtype)
    if row_ref is not None:
        row_ref[...] = row[0].reshape(row_ref.shape)


def dkv(kernel: Kernel, refs: Refs, dk_ref: Any, dv_ref: Any) -> None:
    """The gradients of a block of keys and values, from all the query heads that read it."""
    j, head, b = pl.program_id(0), pl.program_id(1), pl.program_id(2)
    G = kernel.sizes.G
    k, v = kernel.kv(refs, At(b, head * G, 0, j, False))

    def of_head(g: Any, state: Any) -> Any:
        def step(masked: bool, i: Any, state: Any) -> Any:
            dk, dv = state
            at = At(b, head * G + g, i, j, masked)
            q, d_out, lse, delta = kernel.q(refs, at)
            p, ds = tile.weights(kernel.logits(refs, q, k, at), lse, kernel.product(d_out, v), delta)
            return (
                dk + tile.dot(ds.astype(q.dtype), q, (1, 0), kernel.precision),
                dv + tile.dot(p.astype(d_out.dtype), d_out, (1, 0), kernel.precision),
            )

        return kernel.visit(refs, b, j, step, state)

    zero = jnp.zeros(k.shape, jnp.float32)
    dk, dv = of_head(0, (zero, zero)) if G == 1 else jax.lax.fori_loop(0, G, of_head, (zero, zero))
    dk_ref[...] = (dk * kernel.sizes.scale).astype(dk_ref.dtype)
    dv_ref[...] = dv.astype(dv_ref.dtype)


def diagonal(kernel: Kernel, refs: Refs, tile_ref: Any) -> None:
    """The sum of the logits' gradients over the batch and over the square blocks of one diagonal."""
    which, n = pl.program_id(0), pl.program_id(1)
    offset, low, high = (refs.bounds[which, m] for m in range(3))
    z, rule, size = kernel.sizes, kernel.rule, kernel.block.rows
    # Along a diagonal the bias is the same, and so is the part of the mask that depends on distance.
    at = At(0, n, offset, 0, True)
    q_index, k_index = kernel.indices(at)
    bias = tile.masked(kernel.toeplitz(refs, at), near(rule, q_index - k_index, refs.numbers))

    def of_row(b: Any, total: jax.Array) -> jax.Array:
        def step(i: Any, total: jax.Array) -> jax.Array:
            at = At(b, n, i, i - offset, True)
            (q, d_out, lse, delta), (k, v) = kernel.q(refs, at), kernel.kv(refs, at)
            logits = kernel.product(q, k) * (z.scale * tile.LOG2E) + bias
            if rule.q_ids or z.S % size:
                logits = tile.masked(logits, real(rule, kernel.indices(at)[1], kernel.ids(refs, at)))
            return total + tile.weights(logits, lse, kernel.product(d_out, v), delta)[1]

        return jax.lax.fori_loop(low, high, step, total)

    zero = jnp.zeros(tile_ref.shape, jnp.float32)
    tile_ref[...] = of_row(0, zero) if z.B == 1 else jax.lax.fori_loop(0, z.B, of_row, zero)
