"""The loss of a language model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import core

from posjax.arguments import narrowed
from posjax.errors import InputError


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """`-log softmax(logits)[target]` in nats and float32: `logits [B, T, V]`, `targets [B, T]` -> `[B, T]`.

    A traced target outside of 0 .. V - 1, which cannot be refused, has a loss of NaN and no gradient.

    Errors: `InputError` for targets that are no integers `[B, T]`, or, where they are known, outside of 0 .. V - 1.

    >>> round(float(cross_entropy(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1), int))[0, 0]), 4)
    1.3863
    """
    _require_targets(targets, logits)
    # A bfloat16 holds three digits, and the loss is a difference of numbers larger than itself.
    logits = logits.astype(jnp.float32)
    # An index below 0 would count from the end.
    targets = narrowed(targets)
    known = (targets >= 0) & (targets < logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, targets, 0))
    return jnp.where(known, losses, jnp.nan)


def _require_targets(targets: Any, logits: jax.Array) -> None:
    if not getattr(logits, "shape", ()):
        raise InputError(f"cross_entropy got logits {logits!r:.80}: needed are floats [B, T, V]")
    *shape, vocabulary = logits.shape
    dtype = getattr(targets, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.integer) or list(targets.shape) != shape:
        described = repr(targets)
        if dtype is not None:
            described = f"{dtype} {list(targets.shape)}"
        raise InputError(
            f"cross_entropy got targets {described} for logits of shape {logits.shape}: needed are integers {shape}"
        )
    # Of a traced array nobody knows the numbers.
    if isinstance(targets, core.Tracer) or not targets.size:
        return
    known = np.asarray(targets)
    least, most = int(known.min()), int(known.max())
    if least < 0 or most >= vocabulary:
        raise InputError(
            f"cross_entropy got targets from {least} to {most}: needed are tokens of the vocabulary, 0 to "
            f"{vocabulary - 1}; what is not to count has a weight of 0 in the mean"
        )
