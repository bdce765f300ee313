"""Temperatures: what encodings that scale queries by their position share."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from posjax.axes import expand_rank
from posjax.encodings.arrays import exact


def scaled(x: jax.Array, scale: jax.Array, positions: jax.Array) -> jax.Array:
    """`x [B, T, N, H]` times a scale that broadcasts to it, in float32; NaN, without a gradient, where the position is
    negative."""
    # What is not finite is a mark: a product with it would reach the scale's own gradient.
    finite = jnp.isfinite(x)
    marked = ~jnp.all(finite, axis=-1, keepdims=True)
    wide = jnp.where(marked, 0.0, x.astype(jnp.float32))
    product = wide * expand_rank(scale, x.ndim)
    # Padding is marked here, since no token stands there.
    negative = positions < 0
    padding = expand_rank(negative[..., None, None], x.ndim)
    answer = jnp.where(marked | padding, jnp.nan, product)
    return answer.astype(x.dtype)


def log_place(positions: jax.Array) -> jax.Array:
    """`ln(m + 1)`, `[…, T, 1, 1]`; 0 for a negative position."""
    # Clipped, since a NaN of a negative position, which `scaled` marks, would reach the scale's own gradient.
    place = jnp.maximum(exact(positions), 0).astype(jnp.float32)
    return jnp.log1p(place)[..., None, None]
