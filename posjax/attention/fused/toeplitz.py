"""Sums along the diagonals of blocks: what takes the gradients of Toeplitz tiles back to the vector."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from posjax.attention.biases import ByDistance, expand


def padded_vector(bias: ByDistance, queries: int, keys: int) -> jax.Array:
    """The vector `[N, queries + keys - 1]` for T and S rounded up to whole blocks; entry A - C + keys - 1 is of the
    pair of query A and key C."""
    return bias.padded(queries, keys).vector.astype(jnp.float32)


def add_up(tiles: jax.Array, first: int, blocks: int) -> jax.Array:
    """The gradient of the padded vector from one square tile `[N, D, b, b]` for each diagonal of blocks.

    `first` is the number of diagonals left out before the first, of `blocks` in all. Returns `[N, (blocks + 1) b - 1]`.
    """
    N, D, b, _ = tiles.shape
    segments = jax.linear_transpose(lambda x: expand(x, b, b), jax.ShapeDtypeStruct((N * D, 2 * b - 1), tiles.dtype))
    (sums,) = segments(tiles.reshape(N * D, b, b))
    # Each tile spreads over two blocks of the vector; neighbours share one.
    halves = jnp.pad(sums, ((0, 0), (0, 1))).reshape(N, D, 2, b)
    low, high = (jnp.pad(halves[:, :, n], ((0, 0), (first + n, blocks + 1 - D - first - n), (0, 0))) for n in (0, 1))
    return (low + high).reshape(N, -1)[:, :-1]
