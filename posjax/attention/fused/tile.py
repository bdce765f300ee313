"""The mathematics of one tile of attention, in logits to base 2: what the kernels of every device share."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from posjax.attention.reference import BLIND, LOWEST, MASKED

LOG2E, LN2 = 1 / math.log(2), math.log(2)
"""exp(x) is exp2(x LOG2E), which devices compute faster; the factor is folded into the scale and the bias."""


def dot(a: jax.Array, b: jax.Array, sides: tuple[int, int], precision: Any) -> jax.Array:
    """The product over axis `sides[0]` of a and `sides[1]` of b, accumulated in float32."""
    return jax.lax.dot_general(
        a, b, (((sides[0],), (sides[1],)), ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


def precision(dtype: Any, device: Any) -> Any:
    """float32 stays float32 inside a product, by whatever the device offers for it; narrower types are as they are."""
    return device if dtype == jnp.float32 else jax.lax.Precision.DEFAULT


def masked(logits: jax.Array, seen: jax.Array | None) -> jax.Array:
    """Logits with the pairs that may not be seen at `MASKED`."""
    return logits if seen is None else jnp.where(seen, logits, MASKED)


def empty(rows: int, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The state of a row before any key: weighted values, maximum, sum of weights."""
    column = jnp.zeros((rows, 1), jnp.float32)
    return jnp.zeros((rows, size), jnp.float32), column + LOWEST, column


def fold(
    state: tuple[jax.Array, jax.Array, jax.Array], logits: jax.Array, v: jax.Array, precision: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The state after one more block of keys: `logits [rows, columns]`, `v [columns, H]`."""
    out, highest, total = state
    now = jnp.maximum(highest, jnp.max(logits, 1, keepdims=True))
    p, fade = jnp.exp2(logits - now), jnp.exp2(highest - now)
    return (out * fade + dot(p.astype(v.dtype), v, (1, 0), precision), now, total * fade + jnp.sum(p, 1, keepdims=True))


def finish(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The output `[rows, H]`, and the rows' maxima and sums of weights `[rows, 1]`."""
    out, highest, total = state
    return out * (1 / jnp.where(total == 0, 1.0, total)), highest, total


def log_sum(highest: jax.Array, total: jax.Array) -> jax.Array:
    """The log-sum-exp to base e."""
    return jnp.where(total == 0, MASKED, highest * LN2 + jnp.log(jnp.where(total == 0, 1.0, total)))


def for_backward(highest: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The log-sum-exp to base 2, such that rows that saw nothing get no weights, and what makes weights by it exact.

    One float32 cannot hold both a large maximum and the logarithm of the total: at a maximum of 1e9 the weights of a
    row would add up to the number of its keys. The second array, close to 1 elsewhere, is the missing factor.
    """
    # Rows that have no meaning have a total of NaN, and those that saw nothing one of 0.
    real = total > 0
    logarithm = jnp.log2(jnp.where(real, total, 1.0))
    rounded = jnp.where(real, highest + logarithm, BLIND)
    left_out = jnp.where(real, (highest - rounded) + logarithm, 0.0)
    return rounded, jnp.exp2(-left_out)


def weights(logits: jax.Array, lse: jax.Array, dp: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The softmax, and the gradient of the logits to base e, from that of the softmax."""
    p = jnp.exp2(logits - lse)
    return p, p * (dp - delta)
