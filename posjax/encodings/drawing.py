"""What encodings that move tokens at random share."""

from __future__ import annotations

import jax


def by_row(positions: jax.Array, key: jax.Array, one: object) -> jax.Array:
    """One draw for each row of `[B, T]`, or a single one for `[T]`."""
    if positions.ndim == 1:
        return one(positions, key)  # type: ignore[operator]
    return jax.vmap(one)(positions, jax.random.split(key, positions.shape[0]))  # type: ignore[arg-type]
