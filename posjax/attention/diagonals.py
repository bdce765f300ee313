"""Blocks that are constant along their diagonals: laid out from a vector, and summed back into one."""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from posjax.positions import Index

STRIP = 16
"""How many rows of a block `collapse` adds up at once on a CPU."""


def expand(segment: jax.Array, rows: int, columns: int) -> jax.Array:
    """A Toeplitz block from its diagonals: `segment [N, rows + columns - 1]` -> `[N, rows, columns]`.

    Entry (a, c) is `segment[a - c + columns - 1]`. Rows of one length laid out in rows of one less skew by one place
    each, so the block is a broadcast and two reshapes; a gather of the same takes a third longer on CPU. The length is
    a power of two, since finding a place there then takes no division by another number.
    """
    heads, length = segment.shape
    width = 1 << length.bit_length()
    backwards = segment[:, ::-1]
    missing = width - length
    padded = jnp.pad(backwards, ((0, 0), (0, missing)))
    alike = jnp.broadcast_to(padded[:, None, :], (heads, rows, width))
    lines = alike.reshape(heads, -1)
    skewed = lines[:, : rows * (width - 1)].reshape(heads, rows, width - 1)
    return skewed[:, :, rows - 1 : length]


def collapse(block: jax.Array) -> jax.Array:
    """The transpose of `expand`: sums over the diagonals of `block [N, rows, columns]`, `[N, rows + columns - 1]`."""
    return cast(jax.Array, lax.platform_dependent(block, cpu=_by_strips, default=by_skewing))


def by_skewing(block: jax.Array) -> jax.Array:
    """The steps of `expand`, backwards."""
    heads, rows, columns = block.shape
    length = rows + columns - 1
    width = 1 << length.bit_length()
    wide = jnp.pad(block, ((0, 0), (0, 0), (rows - 1, width - 1 - length)))
    flat = wide.reshape(heads, -1)
    lines = jnp.pad(flat, ((0, 0), (0, rows)))
    skewed = lines.reshape(heads, rows, width)
    sums = jnp.sum(skewed, axis=1)
    backwards = sums[:, :length]
    return backwards[:, ::-1]


def _by_strips(block: jax.Array) -> jax.Array:
    """Strips of rows are added first, each so far to the side that diagonals meet; then only one strip is skewed."""
    rows, columns = block.shape[1:]
    strip = min(STRIP, rows)
    strips, left = divmod(rows, strip)
    width = strips * strip + columns

    def add(i: Index, total: jax.Array) -> jax.Array:
        # A strip further down is as much further to the left: its diagonals then stand above those of the last.
        at = (0, 0, (strips - i) * strip)
        first = i * strip
        part = lax.dynamic_slice_in_dim(block, first, strip, 1)
        before = lax.dynamic_slice(total, at, part.shape)
        after = before + part
        return lax.dynamic_update_slice(total, after, at)

    # The rows that fill no strip stand last, and furthest to the left: the sum begins with them.
    missing = strip - left
    rest = block[:, rows - left :]
    last = jnp.pad(rest, ((0, 0), (0, missing), (0, width - columns)))
    # A loop, since in one expression of all strips XLA would compute the block anew for each.
    total = lax.fori_loop(0, strips, add, last)
    sums = by_skewing(total)
    length = rows + columns - 1
    return sums[:, :length]


def over_diagonals(blocks: jax.Array) -> jax.Array:
    """Sums over diagonals of square blocks `[N, D, b, b]`, on D diagonals of blocks in turn: `[N, (D + 1) b - 1]`."""
    N, D, b, _ = blocks.shape
    every = blocks.reshape(N * D, b, b)
    sums = by_skewing(every)
    even = jnp.pad(sums, ((0, 0), (0, 1)))
    # Each block spreads over two places of the vector; neighbours share one.
    halves = even.reshape(N, D, 2, b)
    low = halves[:, :, 0]
    high = halves[:, :, 1]
    low = jnp.pad(low, ((0, 0), (0, 1), (0, 0)))
    high = jnp.pad(high, ((0, 0), (1, 0), (0, 0)))
    vector = low + high
    vector = vector.reshape(N, -1)
    return vector[:, :-1]
