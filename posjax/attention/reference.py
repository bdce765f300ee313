"""The definition of attention here: readable, materialised, softmax in float32. Other backends only change speed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from posjax.attention.biases import Bias, ByContent
from posjax.attention.jobs import Job
from posjax.attention.masks import Mask

MASKED = -1e30
"""The logit of a pair that may not be seen. Finite: with -inf a row that sees nothing would be NaN."""

LOWEST = 0.5 * MASKED
"""Where a row's maximum begins in blocks: above the masked logits, so exp makes them 0 in rows that see nothing."""

BLIND = -MASKED
"""The log-sum-exp that makes exp(logits - it) 0: of padding, and in a backward pass of rows that saw nothing."""

TINY = float(np.finfo(np.float32).tiny)


def refuse(job: Job) -> str | None:
    """Nothing: this is the definition."""
    return None


def logits(q: jax.Array, k: jax.Array, bias: Bias, start: int | jax.Array = 0) -> jax.Array:
    """`q k / sqrt(H) + bias` in float32. `q [B, T, N, H]`, `k [B, S, K, H]` -> `[B, N, T, S]`."""
    if isinstance(bias, ByContent):
        return bias.logits(q, k, 0, start)
    B, T, N, H = q.shape
    S, K = k.shape[1:3]
    q_BTKGH = q.reshape(B, T, K, N // K, H)
    l_BKGTS = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, k, preferred_element_type=jnp.float32) / jnp.sqrt(jnp.float32(H))
    l_BNTS = l_BKGTS.reshape(B, N, T, S)
    return l_BNTS if bias is None else l_BNTS + bias.tile(0, 0, T, S)


def attention(q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, start: int | jax.Array = 0
              ) -> tuple[jax.Array, jax.Array]:
    """`softmax(q k / sqrt(H) + bias) v` over the keys that the mask allows.

    `q [B, T, N, H]`, `k` and `v [B, S, K, H]`; query head n reads key-value head n // (N / K). `start` is the index of
    the first query among the keys. Returns the output `[B, T, N, H]` in the dtype of `q`, and the log-sum-exp of the
    logits `[B, N, T]` in float32. A query that may see nothing gets 0, and no gradient flows through it.
    """
    T, S = q.shape[1], k.shape[1]
    return softmax(logits(q, k, bias, start), mask.allowed(start + jnp.arange(T), jnp.arange(S)), v, q.dtype)


def log_sum(highest: jax.Array, total: jax.Array) -> jax.Array:
    """The log-sum-exp of rows gathered in blocks: `MASKED` for those that saw nothing, whose total is 0."""
    return jnp.where(total > 0, highest + jnp.log(jnp.maximum(total, TINY)), MASKED)


def for_backward(lse: jax.Array) -> jax.Array:
    """The log-sum-exp such that exp(logits - it) gives no weight to a row that saw nothing."""
    return jnp.where(lse > LOWEST, lse, BLIND)


def softmax(l_BNTS: jax.Array, seen: jax.Array | None, v: jax.Array, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    """Logits, what may be seen `[b, T, S]`, and values, to the output and the log-sum-exp."""
    B, N, T, S = l_BNTS.shape
    K, H = v.shape[2:]
    if seen is not None:
        seen = seen[:, None]
        l_BNTS = jnp.where(seen, l_BNTS, MASKED)
    # The maximum only guards exp against overflow; it cancels, so no gradient needs to pass.
    highest = jax.lax.stop_gradient(jnp.max(l_BNTS, axis=-1, keepdims=True))
    p_BNTS = jnp.exp(l_BNTS - highest)
    if seen is not None:
        p_BNTS = jnp.where(seen, p_BNTS, 0.0)
    total = jnp.maximum(jnp.sum(p_BNTS, axis=-1, keepdims=True), TINY)
    p_BKGTS = (p_BNTS / total).astype(v.dtype).reshape(B, K, N // K, T, S)
    out = jnp.einsum("BKGTS,BSKH->BTKGH", p_BKGTS, v, preferred_element_type=jnp.float32)
    return out.reshape(B, T, N, H).astype(dtype), (highest + jnp.log(total))[..., 0]
