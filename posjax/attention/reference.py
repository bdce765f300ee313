"""The definition of attention here: readable, materialised, softmax in float32. Other backends only change speed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from posjax.attention.biases import Bias, ByContent
from posjax.attention.jobs import Job
from posjax.attention.masks import Mask, indices_to
from posjax.attention.scoring import PLAIN, Scoring
from posjax.positions import Index

MASKED = -1e30
"""The logit of a pair that may not be seen. Finite: with -inf a row that sees nothing would be NaN."""

LOWEST = 0.5 * MASKED
"""Where a row's maximum begins in blocks: above the masked logits, so exp makes them 0 in rows that see nothing."""

BLIND = -MASKED
"""The log-sum-exp that makes exp(logits - it) 0: of padding, and in a backward pass of rows that saw nothing."""


def refuse(job: Job) -> str | None:
    """Nothing: this is the definition."""
    return None


def logits(
    q: jax.Array,
    k: jax.Array,
    bias: Bias,
    q_offset: Index = 0,
    q_first: Index = 0,
    seen: jax.Array | None = None,
    scoring: Scoring = PLAIN,
) -> jax.Array:
    """`q k / sqrt(H) + bias` in float32, or what `scoring` says in place of the first term.

    `q [B, T, N, H]`, `k [B, S, K, H]` -> `[B, N, T, S]`.

    `q_first`: the number of the first of these queries; `seen [b, T, S]`: the pairs that the mask allows, for encodings
    that count what lies between. A pair of a query or a key that is not finite is NaN, and has no gradient.
    """
    q, q_void = without_void(q)
    k, k_void = without_void(k)
    if isinstance(bias, ByContent):
        plain = bias.logits(q, k, q_first, q_offset, seen)
    else:
        plain = _products(q, k, scoring)
        if bias is not None:
            plain = plain + bias.tile(q_first, 0, *plain.shape[2:])
    # Marked after the sum, and by where: a NaN that entered the products would reach the gradient of every key.
    N = q.shape[2]
    K = k.shape[2]
    k_void_BSN = jnp.repeat(k_void, N // K, axis=2)
    q_void_BNT = q_void.swapaxes(1, 2)
    k_void_BNS = k_void_BSN.swapaxes(1, 2)
    q_void = q_void_BNT[..., None]
    k_void = k_void_BNS[:, :, None]
    void = q_void | k_void
    return jnp.where(void, jnp.nan, plain)


def _products(q: jax.Array, k: jax.Array, scoring: Scoring) -> jax.Array:
    B, T, N, H = q.shape
    S, K = k.shape[1:3]
    # Query heads that share a key-value head are a group: no key is repeated.
    group = N // K
    q_BTKGH = q.reshape(B, T, K, group, H)
    l_BKGTS = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, k, preferred_element_type=jnp.float32)
    if scoring.scale is None:
        size = jnp.float32(H)
        scaled = l_BKGTS / jnp.sqrt(size)
    else:
        scaled = l_BKGTS * scoring.scale
    capped, _ = scoring.capped(scaled)
    l_BKGTS = settled(capped)
    return l_BKGTS.reshape(B, N, T, S)


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: Index = 0, scoring: Scoring = PLAIN
) -> tuple[jax.Array, jax.Array]:
    """`softmax(q k / sqrt(H) + bias) v` over the keys that the mask allows; `scoring` may say another factor and a cap.

    `q [B, T, N, H]`, `k [B, S, K, H]`, `v [B, S, K, U]`; query head n reads key-value head n // (N / K). `q_offset` is
    the index of the first query among the keys. Returns the output `[B, T, N, U]` in the dtype of `q`, and the
    log-sum-exp of the logits `[B, N, T]` in float32. A query that may see nothing gets 0, and no gradient flows through
    it. One that is not finite itself, or sees a key or a value that is not, gets NaN, and no gradient flows through it
    either: NaN marks what has no meaning for whoever reads that row, and reaches no other.
    """
    T = q.shape[1]
    S = k.shape[1]
    q_index = q_offset + indices_to(T)
    k_index = indices_to(S)
    seen = mask.allowed(q_index, k_index)
    k, v = mark_keys(k, v)
    l_BNTS = logits(q, k, bias, q_offset, seen=seen, scoring=scoring)
    factors = None
    if scoring.dropping is not None:
        factors = scoring.dropping.factors(q.shape[0], q.shape[2], q_index, k_index)
    return softmax(l_BNTS, seen, v, q.dtype, factors)


def without_void(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows `[B, T, N, H]` with those that are not finite at 0, and which these are, bool `[B, T, N]`."""
    finite = jnp.isfinite(x)
    void = ~jnp.all(finite, axis=-1)
    clean = jnp.where(void[..., None], 0, x)
    return clean, void


def mark_keys(k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys and values whose marks are on the keys alone: where a value is not finite it is 0, and its key NaN.

    A mask takes a logit's place, so a NaN of a key stays away from rows that may not see it. That of a value would not:
    it is multiplied by a weight of 0.
    """
    v, void = without_void(v)
    marked = mark_rows(k)
    marked = jnp.where(void[..., None], jnp.nan, marked)
    k = marked.astype(k.dtype)
    return k, v


def mark_rows(x: jax.Array) -> jax.Array:
    """Queries or keys whose marks are NaN alone: of infinities a logit could come out as a masked one's."""
    _, void = without_void(x)
    marked = jnp.where(void[..., None], jnp.nan, x)
    return marked.astype(x.dtype)


def settled(logits: jax.Array) -> jax.Array:
    """The same scaled products, as numbers that every later step reads alike.

    XLA's CPU would scale and subtract in one rounding where a row's maximum is taken off, and in two where it is found:
    past 2^31 the difference of both overflows an exponential. Nothing is contracted across a maximum, which takes the
    place of a barrier, since those are gone by then.
    """
    return jnp.maximum(logits, MASKED)


def log_sum(highest: jax.Array, total: jax.Array) -> jax.Array:
    """The log-sum-exp of rows gathered in blocks: `MASKED` for those that saw nothing, whose total is 0."""
    # The inner where keeps log(0), whose gradient is not finite, from being computed at all.
    nothing = total == 0
    real = jnp.where(nothing, 1.0, total)
    lse = highest + jnp.log(real)
    return jnp.where(nothing, MASKED, lse)


def softmax(
    l_BNTS: jax.Array, seen: jax.Array | None, v: jax.Array, dtype: DTypeLike, factors: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Logits, what may be seen `[b, T, S]`, and values, to the output and the log-sum-exp.

    `factors [B, N, T, S]`: those of a dropout, which multiply the weights and leave the log-sum-exp as it is.
    A row that sees a logit of NaN has no meaning: it gets NaN, and no gradient.
    """
    B, N, T, S = l_BNTS.shape
    K, U = v.shape[2:]
    void = ~(l_BNTS < jnp.inf)  # NaN and infinity alike.
    if seen is not None:
        seen = seen[:, None]
        void = void & seen
    row_void = jnp.any(void, axis=-1, keepdims=True)
    l_BNTS = jnp.where(void, 0.0, l_BNTS)
    if seen is not None:
        l_BNTS = jnp.where(seen, l_BNTS, MASKED)
    # The maximum only guards exp against overflow; it cancels, so no gradient needs to pass.
    highest = jnp.max(l_BNTS, axis=-1, keepdims=True)
    # A bias may rule out all keys by -inf, and then there is no highest.
    highest = jnp.maximum(lax.stop_gradient(highest), MASKED)
    below = l_BNTS - highest
    p_BNTS = jnp.exp(below)
    if seen is not None:  # In a row that sees nothing the masked logits are the highest, and their exponentials 1.
        p_BNTS = jnp.where(seen, p_BNTS, 0.0)
    total = jnp.sum(p_BNTS, axis=-1, keepdims=True)
    # Divided before the product, so that weights are rounded to the values' type as a model in it would round them.
    divisor = jnp.where(total == 0, 1.0, total)
    p_BNTS = p_BNTS / divisor
    if factors is not None:
        p_BNTS = p_BNTS * factors
    p_BNTS = p_BNTS.astype(v.dtype)
    group = N // K
    p_BKGTS = p_BNTS.reshape(B, K, group, T, S)
    out_BTKGU = jnp.einsum("BKGTS,BSKU->BTKGU", p_BKGTS, v, preferred_element_type=jnp.float32)
    out_BTNU = out_BTKGU.reshape(B, T, N, U)
    lse = log_sum(highest, total)
    lse = jnp.where(row_void, jnp.nan, lse)
    lse_BNT = lse[..., 0]
    row_void_BNT = row_void[..., 0]
    row_void_BTN = row_void_BNT.swapaxes(1, 2)
    out = jnp.where(row_void_BTN[..., None], jnp.nan, out_BTNU)
    return out.astype(dtype), lse_BNT
