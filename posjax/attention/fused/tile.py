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
    return jax.lax.dot_general(a, b, (((sides[0],), (sides[1],)), ((), ())), precision=precision,
                               preferred_element_type=jnp.float32)


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


def fold(state: tuple[jax.Array, jax.Array, jax.Array], logits: jax.Array, v: jax.Array, precision: Any
         ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The state after one more block of keys: `logits [rows, columns]`, `v [columns, H]`."""
    out, highest, total = state
    now = jnp.maximum(highest, jnp.max(logits, 1, keepdims=True))
    p, fade = jnp.exp2(logits - now), jnp.exp2(highest - now)
    return (out * fade + dot(p.astype(v.dtype), v, (1, 0), precision), now,
            total * fade + jnp.sum(p, 1, keepdims=True))


def finish(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The output `[rows, H]` and the log-sum-exp `[rows, 1]` to base e."""
    out, highest, total = state
    safe = jnp.where(total == 0, 1.0, total)
    return out * (1 / safe), jnp.where(total == 0, MASKED, highest * LN2 + jnp.log(safe))


def for_backward(lse: jax.Array) -> jax.Array:
    """The log-sum-exp to base 2, such that rows that saw nothing get no weights."""
    return jnp.where(lse > LOWEST, lse * LOG2E, BLIND)


def weights(logits: jax.Array, lse: jax.Array, dp: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The softmax, and the gradient of the logits to base e, from that of the softmax."""
    p = jnp.exp2(logits - lse)
    return p, p * (dp - delta)
