"""What encodings that move tokens at random share."""

from __future__ import annotations

from collections.abc import Callable

import jax


def by_row(positions: jax.Array, key: jax.Array, one: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """One draw for each row of `[B, T]`, or a single one for `[T]`."""
    if positions.ndim == 1:
        return one(positions, key)
    # A key of its own for each row: the rows of a batch draw apart.
    keys = jax.random.split(key, positions.shape[0])
    return jax.vmap(one)(positions, keys)
