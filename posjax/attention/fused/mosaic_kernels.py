"""Kernels for TPUs, in what Pallas's Mosaic lowering knows: one tile for each step of the grid, sums in VMEM.

What there is one of for each row (segments, positions, log-sum-exp) is laid along lanes. A Toeplitz tile is a slice of
its vector, rolled by one more place in each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pallas_tpu

from posjax.attention.fused import tile
from posjax.attention.fused.pairwise.program import Program
from posjax.attention.fused.pairwise.stages import Number, Reader
from posjax.attention.fused.plan import Block, Sizes
from posjax.attention.fused.rules import Rule, allowed, linear

LANES = 128
"""The width of a register: blocks are whole multiples of it."""


class Refs(NamedTuple):
    """What kernels read, one block of each; the last three only in a backward pass.

    `bias` is a head's vector, or for a program the numbers of all heads and the positions.
    """

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
    """A tile: its head, its block of queries, its block of keys."""

    n: Any
    i: Any
    j: Any


def column(row: jax.Array) -> jax.Array:
    """`[1, n]` along lanes to `[n, 1]`."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T[:, :1]


def row(column: jax.Array) -> jax.Array:
    """`[n, 1]` to `[1, n]` along lanes."""
    return jnp.broadcast_to(column, (column.shape[0], LANES)).T[:1]


class Layout(NamedTuple):
    """How the flat bounds of the visits are laid out, and how many steps of the grid they take."""

    batch: int
    blocks: int
    steps: int
    parts: tuple[bool, bool, bool]

    def bound(self, bounds: Any, b: Any, own: Any, n: int) -> jax.Array:
        """One of the four bounds of a block."""
        return bounds[((b if self.batch > 1 else 0) * self.blocks + own) * 4 + n]

    def other(self, bounds: Any, b: Any, own: Any, step: Any) -> jax.Array:
        """The block that a step copies: past the last, the last again, which costs no copy."""
        first, last = self.bound(bounds, b, own, 0), self.bound(bounds, b, own, 3)
        return jnp.minimum(first + step, jnp.maximum(last - 1, 0))


@dataclass(frozen=True)
class Kernel:
    """The static facts of one kernel. `keys_first` lays its tiles `[columns, rows]`."""

    sizes: Sizes
    block: Block
    rule: Rule
    visits: Layout
    bias: Program | Literal["toeplitz", "linear"] | None
    precision: Any
    keys_first: bool = False

    def spread(self, q: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[1, rows]` and `[1, columns]`, to broadcast to the tile."""
        return (q, column(k)) if self.keys_first else (column(q), k)

    def indices(self, at: At) -> tuple[jax.Array, jax.Array]:
        """The indices of the tile's queries and keys, to broadcast to it."""
        rows, columns = self.block.rows, self.block.columns
        q_shape, k_shape = ((1, rows), (columns, 1)) if self.keys_first else ((rows, 1), (1, columns))
        along = int(self.keys_first)
        return (
            at.i * rows + jax.lax.broadcasted_iota(jnp.int32, q_shape, along),
            at.j * columns + jax.lax.broadcasted_iota(jnp.int32, k_shape, 1 - along),
        )

    def product(self, q: jax.Array, k: jax.Array) -> jax.Array:
        """The tile of products of what queries and keys hold."""
        return tile.dot(*((k, q) if self.keys_first else (q, k)), (1, 1), self.precision)

    def logits(self, refs: Refs, numbers: Any, at: At, masked: bool) -> jax.Array:
        """The logits of a tile to base 2, masked."""
        logits = self.product(refs.q[...], refs.k[...]) * (self.sizes.scale * tile.LOG2E)
        if self.bias == "toeplitz":
            logits += self.toeplitz(refs, at)
        elif self.bias == "linear":
            logits += refs.bias[at.n] * linear(self.rule, *self.indices(at), numbers)
        elif isinstance(self.bias, Program):
            bias = self.bias.tile(*self.reads(refs, at)) * tile.LOG2E
            logits += bias.T if self.keys_first else bias
        if not masked:
            return logits
        ids = [self.spread(q[...], k[...]) for q, k in zip(refs.q_ids, refs.k_ids, strict=True)]
        return tile.masked(logits, allowed(self.rule, *self.indices(at), numbers, ids))

    def segment(self, at: At) -> Any:
        """The part of the vector that a tile spans, which begins at a multiple of the lanes."""
        rows, columns, z = self.block.rows, self.block.columns, self.sizes
        first = (
            at.i * rows + z.keys - (at.j + 1) * columns
            if self.keys_first
            else z.queries - (at.i + 1) * rows + at.j * columns
        )
        return pl.ds(pl.multiple_of(first, math.gcd(rows, columns)), rows + columns)

    def toeplitz(self, refs: Refs, at: At) -> jax.Array:
        """The tile of the vector: each row holds it one place further on."""
        height = self.block.columns if self.keys_first else self.block.rows
        segment = refs.bias[:, self.segment(at)]
        wide = jnp.broadcast_to(segment, (height, segment.shape[1]))
        return pallas_tpu.roll(wide, 0, 1, stride=1, stride_axis=0)[:, height:]

    def reads(self, refs: Refs, at: At) -> tuple[Reader, jax.Array, jax.Array]:
        """What a program reads: the head's numbers, and the positions of the tile's queries and keys."""
        floats, integers, q_positions, k_positions = refs.bias

        def read(place: Any, is_float: bool) -> jax.Array:
            numbers = floats if is_float else integers
            return numbers[at.n * (numbers.shape[0] // self.sizes.N) + place]

        def lookup(number: Number, index: jax.Array) -> jax.Array:
            # Scalar memory gives one number at a time.
            def once(m: jax.Array, found: jax.Array) -> jax.Array:
                return jnp.where(index == m, read(number.first + m, number.is_float), found)

            first = read(number.first, number.is_float)
            return jax.lax.fori_loop(1, number.length, once, jnp.full(index.shape, first))

        return Reader(read, lookup), q_positions[0, :], k_positions[0, :]

    def visit(self, bounds: Any, b: Any, own: Any, step: Any, compute: Callable[[Any, bool], None]) -> None:
        """Computes the block of this step of the grid, if it is one to visit, with its mask if it needs one."""
        first, begin, end, last = (self.visits.bound(bounds, b, own, n) for n in range(4))
        other = first + step
        free = (other >= begin) & (other < end)
        if self.visits.parts[1]:
            pl.when((other < last) & free)(lambda: compute(other, False))
        if self.visits.parts[0] or self.visits.parts[2]:
            pl.when((other < last) & ~free)(lambda: compute(other, True))


def forward(
    kernel: Kernel, bounds: Any, numbers: Any, refs: Refs, out_ref: Any, highest_ref: Any, total_ref: Any, *state: Any
) -> None:
    """The output of a block of queries, and each row's maximum and sum of weights."""
    b, n, i, step = (pl.program_id(axis) for axis in range(4))

    @pl.when(step == 0)
    def _() -> None:
        for ref, value in zip(state, tile.empty(*state[0].shape), strict=True):
            ref[...] = value

    def compute(j: Any, masked: bool) -> None:
        logits = kernel.logits(refs, numbers, At(n, i, j), masked)
        after = tile.fold(tuple(ref[...] for ref in state), logits, refs.v[...], kernel.precision)  # type: ignore
        for ref, value in zip(state, after, strict=True):
            ref[...] = value

    kernel.visit(bounds, b, i, step, compute)

    @pl.when(step == kernel.visits.steps - 1)
    def _() -> None:
        out, highest, total = tile.finish(tuple(ref[...] for ref in state))  # type: ignore[arg-type]
        out_ref[...] = out.astype(out_ref.dtype)
        highest_ref[...], total_ref[...] = row(highest), row(total)


def dq(kernel: Kernel, bounds: Any, numbers: Any, refs: Refs, dq_ref: Any, *rest: Any) -> None:
    """The gradients of queries; and of what the bias learns, summed over all but the heads."""
    n, b, i, step = (pl.program_id(axis) for axis in range(4))
    d_numbers, (dq, lse, delta) = rest[:-3], rest[-3:]

    @pl.when(step == 0)
    def _() -> None:
        dq[...] = jnp.zeros_like(dq)
        lse[...], delta[...] = column(refs.lse[...]), column(refs.delta[...])

    for ref in d_numbers:

        @pl.when((b == 0) & (i == 0) & (step == 0))
        def _(ref: Any = ref) -> None:
            ref[...] = jnp.zeros_like(ref)

    def compute(j: Any, masked: bool) -> None:
        at = At(n, i, j)
        logits, k = kernel.logits(refs, numbers, at, masked), refs.k[...]
        _, ds = tile.weights(logits, lse[...], kernel.product(refs.d_out[...], refs.v[...]), delta[...])
        dq[...] += tile.dot(ds.astype(k.dtype), k, (1, 0), kernel.precision)
        for ref in d_numbers:
            if kernel.bias == "linear":
                ref[...] += row(jnp.sum(ds * linear(kernel.rule, *kernel.indices(at), numbers), 1, keepdims=True))
            elif isinstance(kernel.bias, Program):
                ref[...] = kernel.bias.tile_and_pull(*kernel.reads(refs, at))[1](ds, ref[...])
            else:
                ref[:, kernel.segment(at)] += diagonal_sums(ds)

    kernel.visit(bounds, b, i, step, compute)

    @pl.when(step == kernel.visits.steps - 1)
    def _() -> None:
        dq_ref[...] = (dq[...] * kernel.sizes.scale).astype(dq_ref.dtype)


def diagonal_sums(ds: jax.Array) -> jax.Array:
    """`[rows, columns]` to `[1, rows + columns]`: the transpose of laying a segment of the vector out as a tile.

    Stretches of rows are moved to the left by where they begin and added up. Then the lower half of what is left is
    moved by its height and added to the upper half, again and again.
    """
    rows = ds.shape[0]
    wide = jnp.concatenate([jnp.zeros((rows, rows), ds.dtype), ds], 1)
    # Only a power of two can be halved to the end, and a block may be three times one.
    height = rows & -rows
    total = wide[:height]
    for begin in range(height, rows, height):
        total += pallas_tpu.roll(wide[begin : begin + height], wide.shape[1] - begin, 1)
    while height > 1:
        height //= 2
        total = total[:height] + pallas_tpu.roll(total[height:], wide.shape[1] - height, 1)
    return total


def dkv(kernel: Kernel, bounds: Any, numbers: Any, refs: Refs, dk_ref: Any, dv_ref: Any, dk: Any, dv: Any) -> None:
    """The gradients of keys and values, from all the query heads that read them."""
    b, head, j, g, step = (pl.program_id(axis) for axis in range(5))
    G = kernel.sizes.G

    @pl.when((g == 0) & (step == 0))
    def _() -> None:
        dk[...], dv[...] = jnp.zeros_like(dk), jnp.zeros_like(dv)

    def compute(i: Any, masked: bool) -> None:
        logits = kernel.logits(refs, numbers, At(head * G + g, i, j), masked)
        q, d_out = refs.q[...], refs.d_out[...]
        p, ds = tile.weights(logits, refs.lse[...], kernel.product(d_out, refs.v[...]), refs.delta[...])
        dk[...] += tile.dot(ds.astype(q.dtype), q, (1, 0), kernel.precision)
        dv[...] += tile.dot(p.astype(d_out.dtype), d_out, (1, 0), kernel.precision)

    kernel.visit(bounds, b, j, step, compute)

    @pl.when((g == G - 1) & (step == kernel.visits.steps - 1))
    def _() -> None:
        dk_ref[...] = (dk[...] * kernel.sizes.scale).astype(dk_ref.dtype)
        dv_ref[...] = dv[...].astype(dv_ref.dtype)
