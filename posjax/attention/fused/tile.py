"""The mathematics of one tile of attention, in logits to base 2: what the kernels of every device share."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from posjax.attention.reference import BLIND, LOWEST, MASKED

LOG2E = 1 / math.log(2)
"""exp(x) is exp2(x LOG2E), which devices compute faster; the factor is folded into the scale and the bias."""
LN2 = math.log(2)
"""Brings a logarithm to base 2 back to base e."""


class Softmax(NamedTuple):
    """A running softmax of a block of queries: `out [rows, H]`, `highest` and `total` `[rows, 1]`.

    `out` are the values seen so far, weighted by `exp2(logit - highest)`, and `total` is the sum of these weights.
    """

    out: jax.Array
    highest: jax.Array
    total: jax.Array


def dot(a: jax.Array, b: jax.Array, sides: tuple[int, int], precision: Any) -> jax.Array:
    """The product over axis `sides[0]` of a and `sides[1]` of b, accumulated in float32."""
    contracted = ((sides[0],), (sides[1],))
    no_batch = ((), ())
    return lax.dot_general(a, b, (contracted, no_batch), precision=precision, preferred_element_type=jnp.float32)


def precision(dtype: Any, device: Any) -> Any:
    """float32 stays float32 inside a product, by whatever the device offers for it; narrower types are as they are."""
    if dtype == jnp.float32:
        return device
    return lax.Precision.DEFAULT


def masked(logits: jax.Array, seen: jax.Array | None) -> jax.Array:
    """Logits with the pairs that may not be seen at `MASKED`."""
    if seen is None:
        return logits
    # A finite number: the difference of two infinities, in a row that sees nothing, would be NaN.
    return jnp.where(seen, logits, MASKED)


def empty(rows: int, size: int) -> Softmax:
    """The state of a row before any key."""
    column = jnp.zeros((rows, 1), jnp.float32)
    # Above every masked logit: so the weights of masked pairs are exactly 0, also in rows that have seen nothing else.
    return Softmax(jnp.zeros((rows, size), jnp.float32), column + LOWEST, column)


def fold(state: Softmax, logits: jax.Array, v: jax.Array, precision: Any) -> Softmax:
    """The state after one more block of keys: `logits [rows, columns]`, `v [columns, H]`."""
    here = jnp.max(logits, 1, keepdims=True)
    highest = jnp.maximum(state.highest, here)
    p = jnp.exp2(logits - highest)
    # What was summed stood in relation to a lower maximum, and fades to the new one.
    fade = jnp.exp2(state.highest - highest)
    # Weights as narrow as values, so that a matrix unit takes both; their sum keeps them as they were.
    seen_here = dot(p.astype(v.dtype), v, (1, 0), precision)
    out = state.out * fade + seen_here
    total = state.total * fade + jnp.sum(p, 1, keepdims=True)
    return Softmax(out, highest, total)


def finish(state: Softmax) -> Softmax:
    """The state with its output divided by the sum of weights; a row that saw nothing keeps its zeros."""
    # One division for each row, and a product for each channel.
    share = 1 / jnp.where(state.total == 0, 1.0, state.total)
    return state._replace(out=state.out * share)


def log_sum(highest: jax.Array, total: jax.Array) -> jax.Array:
    """The log-sum-exp to base e."""
    real = jnp.where(total == 0, 1.0, total)
    return jnp.where(total == 0, MASKED, highest * LN2 + jnp.log(real))


def for_backward(highest: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The log-sum-exp to base 2, such that rows that saw nothing get no weights, and what makes weights by it exact.

    One float32 cannot hold both a large maximum and the logarithm of the total: at a maximum of 1e9 the weights of a
    row would add up to the number of its keys. The second array, close to 1 elsewhere, is the missing factor.
    """
    # Rows that have no meaning have a total of NaN, and those that saw nothing one of 0.
    real = total > 0
    logarithm = jnp.log2(jnp.where(real, total, 1.0))
    rounded = jnp.where(real, highest + logarithm, BLIND)
    # The order matters: `highest - rounded` is exact, and what the sum rounded away is left when the logarithm joins.
    left_out = jnp.where(real, (highest - rounded) + logarithm, 0.0)
    return rounded, jnp.exp2(-left_out)


def weights(logits: jax.Array, lse: jax.Array, dp: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The softmax, and the gradient of the logits to base e, from that of the softmax."""
    # Computed anew from the logits: kept from the forward pass, they would be an array of T x S.
    p = jnp.exp2(logits - lse)
    ds = p * (dp - delta)
    return p, ds
