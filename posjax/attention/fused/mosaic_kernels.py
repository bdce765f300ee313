"""Kernels for TPUs, in what Pallas's Mosaic lowering knows: one tile for each step of the grid, sums in VMEM.

What there is one of for each row (segments, positions, log-sum-exp) is laid along lanes. A Toeplitz tile is a slice of
its vector, rolled by one more place in each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pallas_tpu

from posjax.attention.fused import tile
from posjax.attention.fused.kernel import At, Kernel, Refs
from posjax.attention.fused.pairwise.stages import Number, Reader
from posjax.attention.fused.rules import Ids
from posjax.positions import Index

LANES = 128
"""The width of a register: blocks are whole multiples of it."""


def column(row: jax.Array) -> jax.Array:
    """`[1, n]` along lanes to `[n, 1]`."""
    # A transpose of whole registers, of which one column is kept.
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T[:, :1]


def row(column: jax.Array) -> jax.Array:
    """`[n, 1]` to `[1, n]` along lanes."""
    return jnp.broadcast_to(column, (column.shape[0], LANES)).T[:1]


class Layout(NamedTuple):
    """How the flat bounds of the visits are laid out, and how many steps of the grid they take.

    Flat, since scalar memory pads the last axis of an array of several to a whole register.
    """

    batch: int
    blocks: int
    steps: int
    stretches: tuple[bool, bool, bool]

    def bounds_of(self, bounds: Any, b: Any, own: Any) -> list[jax.Array]:
        """The four bounds of a block; a table that all rows of the batch share has one row."""
        of_row = 0
        if self.batch > 1:
            of_row = b
        start = (of_row * self.blocks + own) * 4
        return [bounds[start + n] for n in range(4)]

    def other(self, bounds: Any, b: Any, own: Any, step: Any) -> jax.Array:
        """The block that a step copies: past the last, the last again, which costs no copy."""
        first, _, _, last = self.bounds_of(bounds, b, own)
        # A block that sees nothing has its last bound at 0, and no block stands before the first.
        return jnp.minimum(first + step, jnp.maximum(last - 1, 0))


@dataclass(frozen=True)
class MosaicKernel(Kernel):
    """A kernel on a TPU: the grid has copied the blocks of this step, and a tile is all of what the references hold."""

    visits: Layout

    def spread(self, q: jax.Array, k: jax.Array) -> Ids:
        """`[1, rows]` and `[1, columns]`, to broadcast to the tile."""
        if self.keys_first:
            return q, column(k)
        return column(q), k

    def indices(self, at: At) -> tuple[jax.Array, jax.Array]:
        """The indices of the tile's queries and keys, to broadcast to it."""
        rows, columns = self.block.rows, self.block.columns
        # Counted in the tile's own axes at once: Mosaic has no iota of one axis to spread.
        if self.keys_first:
            q_index = lax.broadcasted_iota(jnp.int32, (1, rows), 1)
            k_index = lax.broadcasted_iota(jnp.int32, (columns, 1), 0)
        else:
            q_index = lax.broadcasted_iota(jnp.int32, (rows, 1), 0)
            k_index = lax.broadcasted_iota(jnp.int32, (1, columns), 1)
        return at.i * rows + q_index, at.j * columns + k_index

    def ids(self, refs: Refs, at: At) -> list[Ids]:
        """The segments of the tile, to broadcast to it."""
        found = []
        for q_ids, k_ids in zip(refs.q_ids, refs.k_ids, strict=True):
            found.append(self.spread(q_ids[...], k_ids[...]))
        return found

    def segment(self, at: At) -> Any:
        """The part of the vector that a tile spans, which begins at a multiple of the lanes."""
        rows, columns = self.block.rows, self.block.columns
        # The vector lies in the order in which distances grow along a tile's rows: backwards where keys are there.
        if self.keys_first:
            first = at.i * rows + self.sizes.keys - (at.j + 1) * columns
        else:
            first = self.sizes.queries - (at.i + 1) * rows + at.j * columns
        # Said to the compiler, which knows no indices of the grid: a slice that may begin anywhere is refused.
        return pl.ds(pl.multiple_of(first, math.gcd(rows, columns)), rows + columns)

    def toeplitz(self, refs: Refs, at: At) -> jax.Array:
        """The tile of the vector: each row holds it one place further on."""
        height = self.block.rows
        if self.keys_first:
            height = self.block.columns
        segment = refs.bias[:, self.segment(at)]
        wide = jnp.broadcast_to(segment, (height, segment.shape[1]))
        # Row a is rolled by a places, in one operation of the device; a gather by index it has none of.
        return pallas_tpu.roll(wide, 0, 1, stride=1, stride_axis=0)[:, height:]

    def reads(self, refs: Refs, at: At) -> tuple[Reader, jax.Array, jax.Array]:
        """What a program reads: the head's rows, and the positions of the tile's queries and keys."""
        floats, integers, q_positions, k_positions = refs.bias

        def read(place: Any, is_float: bool) -> jax.Array:
            of_heads = integers
            if is_float:
                of_heads = floats
            # All heads in one flat row, for the reason that the bounds are flat.
            return of_heads[at.n * (of_heads.shape[0] // self.sizes.N) + place]

        def lookup(number: Number, index: jax.Array) -> jax.Array:
            # Scalar memory gives one number at a time, and an index for each pair cannot be used to read it.
            def compare_with(m: jax.Array, found: jax.Array) -> jax.Array:
                return jnp.where(index == m, read(number.first + m, number.is_float), found)

            first = read(number.first, number.is_float)
            return lax.fori_loop(1, number.length, compare_with, jnp.full(index.shape, first))

        return Reader(read, lookup), q_positions[0, :], k_positions[0, :]

    def visit(self, refs: Refs, b: Any, own: Any, step: Any, compute: Callable[[Any, bool], None]) -> None:
        """Computes the block of this step of the grid, if it is one to visit, with its mask if it needs one."""
        first, begin, end, last = self.visits.bounds_of(refs.bounds, b, own)
        other = first + step
        free = (other >= begin) & (other < end)
        masked_before, some_free, masked_after = self.visits.stretches
        # Only what some block needs is compiled.
        if some_free:
            pl.when((other < last) & free)(lambda: compute(other, False))
        if masked_before or masked_after:
            pl.when((other < last) & ~free)(lambda: compute(other, True))


def _program_ids(axes: int) -> list[Any]:
    """Where in the grid a kernel runs."""
    return [pl.program_id(axis) for axis in range(axes)]


def forward(
    kernel: MosaicKernel, refs: Refs, out_ref: Any, highest_ref: Any, total_ref: Any, *softmax_refs: Any
) -> None:
    """The output of a block of queries, and each row's maximum and sum of weights."""
    b, n, i, step = _program_ids(4)

    # The steps of one block of queries follow each other, and hand the state on in VMEM.
    @pl.when(step == 0)
    def _() -> None:
        _store(softmax_refs, tile.empty(*softmax_refs[0].shape))

    def compute(j: Index, masked: bool) -> None:
        at = At(b, n, i, j, masked)
        logits = kernel.logits(refs, refs.q[...], refs.k[...], at)
        state = tile.fold(_load(softmax_refs), logits, refs.v[...], kernel.precision)
        _store(softmax_refs, state)

    kernel.visit(refs, b, i, step, compute)

    # Outputs are written once: the grid copies a block out only when the next step writes to another one.
    @pl.when(step == kernel.visits.steps - 1)
    def _() -> None:
        out, highest, total = tile.finish(_load(softmax_refs))
        out_ref[...] = out.astype(out_ref.dtype)
        highest_ref[...] = row(highest)
        total_ref[...] = row(total)


def _load(softmax_refs: Sequence[Any]) -> tile.Softmax:
    out, highest, total = softmax_refs
    return tile.Softmax(out[...], highest[...], total[...])


def _store(softmax_refs: Sequence[Any], state: tile.Softmax) -> None:
    for ref, value in zip(softmax_refs, state, strict=True):
        ref[...] = value


def dq(kernel: MosaicKernel, refs: Refs, dq_ref: Any, *rest: Any) -> None:
    """The gradients of queries; and of what the bias learns, summed over all but the heads."""
    # Heads come first, so that all tiles of a head follow each other.
    n, b, i, step = _program_ids(4)
    # An output more where the bias learns, then what is kept in VMEM from step to step.
    *bias_refs, dq, lse, delta = rest

    @pl.when(step == 0)
    def _() -> None:
        dq[...] = jnp.zeros_like(dq)
        # Turned once for a block of queries, and not once for each of its tiles.
        lse[...] = column(refs.lse[...])
        delta[...] = column(refs.delta[...])

    for ref in bias_refs:
        # The grid runs through a head's tiles one after the other, and its block of this output stays where it is.
        @pl.when((b == 0) & (i == 0) & (step == 0))
        def _(ref: Any = ref) -> None:
            ref[...] = jnp.zeros_like(ref)

    def compute(j: Index, masked: bool) -> None:
        at = At(b, n, i, j, masked)
        k = refs.k[...]
        logits = kernel.logits(refs, refs.q[...], k, at)
        dp = kernel.product(refs.d_out[...], refs.v[...])
        _, ds = tile.weights(logits, lse[...], dp, delta[...])
        dq[...] += tile.dot(ds.astype(k.dtype), k, (1, 0), kernel.precision)
        for ref in bias_refs:
            kernel.bias.add_gradient(kernel, refs, at, ds, ref)  # type: ignore[union-attr]

    kernel.visit(refs, b, i, step, compute)

    @pl.when(step == kernel.visits.steps - 1)
    def _() -> None:
        # The scale of the logits comes in once, at the end, and not in every product.
        dq_ref[...] = (dq[...] * kernel.sizes.scale).astype(dq_ref.dtype)


def diagonal_sums(ds: jax.Array) -> jax.Array:
    """`[rows, columns]` to `[1, rows + columns]`: the transpose of laying a segment of the vector out as a tile.

    Stretches of rows are moved to the left by where they begin and added up. Then the lower half of what is left is
    moved by its height and added to the upper half, again and again.
    """
    rows = ds.shape[0]
    wide = jnp.concatenate([jnp.zeros((rows, rows), ds.dtype), ds], 1)
    width = wide.shape[1]
    # Only a power of two can be halved to the end, and a block may be three times one.
    height = rows & -rows
    total = wide[:height]
    for begin in range(height, rows, height):
        # A roll by the width less n is one to the left by n; what wraps around are the zeros in front.
        total += pallas_tpu.roll(wide[begin : begin + height], width - begin, 1)
    while height > 1:
        height //= 2
        total = total[:height] + pallas_tpu.roll(total[height:], width - height, 1)
    return total


def dkv(kernel: MosaicKernel, refs: Refs, dk_ref: Any, dv_ref: Any, dk: Any, dv: Any) -> None:
    """The gradients of keys and values, from all the query heads that read them."""
    b, head, j, g, step = _program_ids(5)
    G = kernel.sizes.G

    # A key's gradients sum over the query heads of its group: their sums stay in VMEM through the last two axes.
    @pl.when((g == 0) & (step == 0))
    def _() -> None:
        dk[...] = jnp.zeros_like(dk)
        dv[...] = jnp.zeros_like(dv)

    def compute(i: Index, masked: bool) -> None:
        q, d_out = refs.q[...], refs.d_out[...]
        at = At(b, head * G + g, i, j, masked)
        logits = kernel.logits(refs, q, refs.k[...], at)
        # Keys are along the rows here, so what there is one of for each query broadcasts along lanes as it lies.
        dp = kernel.product(d_out, refs.v[...])
        p, ds = tile.weights(logits, refs.lse[...], dp, refs.delta[...])
        dk[...] += tile.dot(ds.astype(q.dtype), q, (1, 0), kernel.precision)
        dv[...] += tile.dot(p.astype(d_out.dtype), d_out, (1, 0), kernel.precision)

    kernel.visit(refs, b, j, step, compute)

    @pl.when((g == G - 1) & (step == kernel.visits.steps - 1))
    def _() -> None:
        dk_ref[...] = (dk[...] * kernel.sizes.scale).astype(dk_ref.dtype)
        dv_ref[...] = dv[...].astype(dv_ref.dtype)
