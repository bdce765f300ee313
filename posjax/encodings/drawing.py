"""What encodings that move tokens at random share."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from posjax.encodings.arrays import exact
from posjax.errors import InputError
from posjax.mesh import placed


def by_row(positions: jax.Array, key: jax.Array, one: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """One draw for each row of `[B, T]`, or a single one for `[T]`.

    Errors: `InputError` for floats, and for positions of several coordinates, of which no token has one place to draw.
    """
    positions = exact(jnp.asarray(positions))
    if positions.ndim not in (1, 2):
        raise InputError(
            f"positions of shape {positions.shape} are to be moved: needed are [T] or [B, T], as text has them; tokens "
            "with several coordinates are not moved, so call without a key"
        )
    if positions.ndim == 1:
        return one(positions, key)

    def apart(positions: jax.Array, key: jax.Array) -> jax.Array:
        # A key of its own for each row: the rows of a batch draw apart.
        keys = jax.random.split(key, positions.shape[0])
        return jax.vmap(one)(positions, keys)

    return placed(apart, positions, positions, key)
