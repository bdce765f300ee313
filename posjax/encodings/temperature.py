"""Temperatures: what encodings that scale queries by their position share."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from posjax.axes import lead
from posjax.encodings.arrays import exact


def scaled(x: jax.Array, scale: jax.Array, positions: jax.Array) -> jax.Array:
    """`x [B, T, N, H]` times a scale that broadcasts to it, in float32; NaN, without a gradient, where the position is
    negative."""
    # What is not finite is a mark: a product with it would reach the scale's own gradient.
    marked = ~jnp.all(jnp.isfinite(x), axis=-1, keepdims=True)
    scaled = jnp.where(marked, 0.0, x.astype(jnp.float32)) * lead(scale, x.ndim)
    marked = marked | lead((positions < 0)[..., None, None], x.ndim)
    return jnp.where(marked, jnp.nan, scaled).astype(x.dtype)


def log_place(positions: jax.Array) -> jax.Array:
    """`ln(m + 1)`, `[…, T, 1, 1]`; 0 for a negative position."""
    return jnp.log1p(jnp.maximum(exact(positions), 0).astype(jnp.float32))[..., None, None]
