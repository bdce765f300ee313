"""The loss of a language model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """`-log softmax(logits)[target]` in nats and float32: `logits [B, T, V]`, `targets [B, T]` -> `[B, T]`.

    >>> round(float(cross_entropy(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1), int))[0, 0]), 4)
    1.3863
    """
    # A bfloat16 holds three digits, and the loss is a difference of numbers larger than itself.
    logits = logits.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
