"""Attention of the tokens that come over those that a cache keeps: a step of decoding, in one pass.

A cache's keys and values lie as `[B K, S, H]`, a line for each row of the batch and each key-value head: as the
products of a step read them. In any other order each step would turn the whole cache around, or copy it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from posjax.attention.attend import attention
from posjax.attention.biases import Bias, ByContent, kind_of
from posjax.attention.given_masks import held
from posjax.attention.jobs import context
from posjax.attention.masks import Mask, indices_to
from posjax.attention.reference import LOWEST, MASKED, log_sum, mark_keys, mark_rows, settled
from posjax.attention.scoring import Scoring, check_sinks, given_scoring, with_sinks
from posjax.mesh import explicit_axes
from posjax.positions import Index

FEW = 16
"""Up to so many queries meet all keys at once, since there the keys are what is large; more are cut into blocks."""


def kept(k_BSKH: jax.Array, v_BSKU: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys and values as a cache keeps them, `[B K, S, H]`, with marks on keys alone.

    Looked for once, as tokens come: a step that looked for marks among all it may see would read everything twice.
    """
    k_BSKH, v_BSKU = mark_keys(k_BSKH, v_BSKU)
    return folded(k_BSKH), folded(v_BSKU)


def folded(x_BSKH: jax.Array) -> jax.Array:
    """Keys or values in the order of a cache, `[B K, S, H]`."""
    B, S, K, H = x_BSKH.shape
    x_BKSH = x_BSKH.swapaxes(1, 2)
    return x_BKSH.reshape(B * K, S, H)


def unfolded(kept: jax.Array, rows: int) -> jax.Array:
    """The keys or values of a cache as `[B, S, K, H]`."""
    lines, S, H = kept.shape
    per_row = kept.reshape(rows, lines // rows, S, H)
    return per_row.swapaxes(1, 2)


def attention_over(
    q_BTNH: jax.Array,
    cached: tuple[jax.Array, jax.Array],
    *,
    bias: Bias,
    mask: Mask,
    q_offset: Index,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: jax.Array | None = None,
) -> jax.Array:
    """As `attention`, of queries `[B, T, N, H]` over keys and values that `kept` made: the output `[B, T, N, U]`."""
    B, T, N, _ = q_BTNH.shape
    check_sinks(sinks, N)
    keys, values = cached
    more: dict[str, Any] = {"bias": bias, "mask": mask, "q_offset": q_offset}
    # An encoding that scores content, and a mesh that splits sequences, have ways of their own.
    is_split = context() > 1 or bool(explicit_axes())
    if T > FEW or isinstance(bias, ByContent) or is_split:
        k_BSKH = unfolded(keys, B)
        v_BSKU = unfolded(values, B)
        more |= {"scale": scale, "softcap": softcap, "sinks": sinks}
        out, _ = attention(q_BTNH, k_BSKH, v_BSKU, with_lse=False, **more)
        return out
    # No rows, as an empty batch has: there is nothing that heads could be counted by.
    if not B:
        return jnp.zeros((B, T, q_BTNH.shape[2], values.shape[-1]), q_BTNH.dtype)
    S = keys.shape[1]
    sizes = {"B": B, "T": T, "S": S}
    scoring = given_scoring(scale, softcap, kind_of(bias))
    seen = held(mask, sizes, q_offset).allowed(q_offset + indices_to(T), indices_to(S))
    l_BNTS = _logits(q_BTNH, keys, scoring, seen)
    # All pairs of a step are one tile.
    if bias is not None:
        l_BNTS = l_BNTS + bias.tile(0, 0, T, S)
    # By where: a NaN of what is hidden is not the row's.
    if seen is not None:
        l_BNTS = jnp.where(seen[:, None], l_BNTS, MASKED)
    out_BTNU, lse_BNT = _softmax(l_BNTS, values)
    out_BTNU, _ = with_sinks(out_BTNU, lse_BNT, sinks)
    return out_BTNU.astype(q_BTNH.dtype)


def _logits(q_BTNH: jax.Array, keys: jax.Array, scoring: Scoring, seen: jax.Array | None) -> jax.Array:
    """Scaled products `[B, N, T, S]`, NaN where a query or a key has no meaning, and 0 where it is not `seen`."""
    B, T, N, H = q_BTNH.shape
    lines, S, _ = keys.shape
    q_BNTH = mark_rows(q_BTNH).swapaxes(1, 2)
    # The queries of a group of heads meet their keys in one product.
    grouped = q_BNTH.reshape(lines, B * N * T // lines, H)
    scaled = _products(grouped, keys).reshape(B, N, T, S) * scoring.factor(H)
    # Before the cap, whose derivative at NaN is NaN whatever it is multiplied by.
    if seen is not None:
        scaled = jnp.where(seen[:, None], scaled, 0.0)
    # The cap's derivative is for those who go backward by hand.
    capped, _ = scoring.capped(scaled)
    return settled(capped)


@jax.custom_jvp
def _products(q_LRH: jax.Array, k_LSH: jax.Array) -> jax.Array:
    """The products of queries and keys, `[L, R, S]` in float32."""
    return jnp.einsum("LRH,LSH->LRS", q_LRH, k_LSH, preferred_element_type=jnp.float32)


@_products.defjvp
def _products_derivative(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # Marks are numbers to a product: one that is hidden, and has a cotangent of 0, would still come out as NaN. Taken
    # away here alone, since a step without a derivative reads its keys once.
    clean = [jnp.where(jnp.isfinite(x), x, 0) for x in primals]
    through_q = _products(tangents[0], clean[1])
    through_k = _products(clean[0], tangents[1])
    return _products(*primals), through_q + through_k


def _softmax(l_BNTS: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The output `[B, T, N, U]` and the log-sum-exp; a row that sees NaN is NaN, since nothing here hides one."""
    B, N, T, S = l_BNTS.shape
    lines, _, U = values.shape
    # It only guards exp against overflow and cancels, so no gradient needs to pass; that of NaN would be one.
    largest = lax.stop_gradient(jnp.max(l_BNTS, axis=-1, keepdims=True))
    # A row that sees a mark is computed without it, and marked at the end: its gradient would be NaN times 0.
    void = ~(largest < jnp.inf)
    l_BNTS = jnp.where(void, 0.0, l_BNTS)
    # From `LOWEST` on: in a row that sees nothing the exponentials are 0 then, and so is what comes out.
    highest = jnp.where(void, 0.0, jnp.maximum(largest, LOWEST))
    p_BNTS = jnp.exp(l_BNTS - highest)
    total = jnp.sum(p_BNTS, axis=-1, keepdims=True)
    grouped = p_BNTS.reshape(lines, N * B * T // lines, S).astype(values.dtype)
    summed = jnp.einsum("LRS,LSU->LRU", grouped, values, preferred_element_type=jnp.float32)
    # After the product, whose result is smaller than the weights are.
    divisor = jnp.where(total == 0, 1.0, total)
    out_BNTU = summed.reshape(B, N, T, U) / divisor
    out_BNTU = jnp.where(void, jnp.nan, out_BNTU)
    lse_BNT1 = jnp.where(void, jnp.nan, log_sum(highest, total))
    return out_BNTU.swapaxes(1, 2), lse_BNT1[..., 0]
