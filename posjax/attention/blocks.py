"""The step of attention in blocks: what a block of queries takes from a block of keys, forward and back.

`chunked` and `ring` are orders of visit over it: which block meets which, and where the sums are kept. Queries are
`[B, K, G, t, H]`, so that the heads of a group meet their keys `[B, K, s, H]` in one product.

Source: Dao et al. 2022, arXiv:2205.14135, algorithms 1 and 4 (the running softmax and its backward pass).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from posjax.attention.masks import Mask
from posjax.attention.reference import BLIND, LOWEST, MASKED, log_sum, settled
from posjax.attention.scoring import Scoring
from posjax.positions import Index

BLOCK = 256
"""Queries and keys per block."""


def block_size(length: int, most: int | None = None) -> int:
    """The block's size: at most BLOCK, or `most`, and such that the last block is nearly full."""
    largest = most or BLOCK
    blocks = -(-length // largest)
    return -(-length // blocks)


def take(x: jax.Array, index: Index, block: int, axis: int) -> jax.Array:
    """Block number `index` along an axis."""
    first = index * block
    return lax.dynamic_slice_in_dim(x, first, block, axis)


def put(x: jax.Array, part: jax.Array, index: Index, block: int, axis: int) -> jax.Array:
    """The array with block number `index` in place of its own."""
    first = index * block
    return lax.dynamic_update_slice_in_dim(x, part, first, axis)


# Forward --------------------------------------------------------------------------------------------------------------
class Totals(NamedTuple):
    """What queries have gathered so far.

    `out [B, K, G, t, U]`: the values, each times its exponential. `highest` and `total [B, K, G, t]`: the largest
    logit, and the sum of exponentials less it. All float32.
    """

    out: jax.Array
    highest: jax.Array
    total: jax.Array


def nothing_yet(q_BKGTH: jax.Array, size: int) -> Totals:
    """The totals of queries that have seen no key, for values of `size` channels."""
    # Made of the queries: inside a shard_map what a loop carries differs between devices from the first round on.
    channel = q_BKGTH[..., 0]
    line = jnp.zeros_like(channel, jnp.float32)
    out = jnp.broadcast_to(line[..., None], (*line.shape, size))
    lowest = line + LOWEST
    return Totals(out, lowest, line)


class BlockScores(NamedTuple):
    """What a block says of its pairs, each `[B, K, G, t, s]`.

    `logits`: masked. `steepness`: the derivative of the cap, which lies between products and bias; `None` without one.
    `factors`: what multiplies weights once their softmax is taken; `None` where nothing is dropped.
    """

    logits: jax.Array
    steepness: jax.Array | None
    factors: jax.Array | None


class BlockIndex(NamedTuple):
    """Which tokens a block is of: their indices in the whole sequence, `q [t]` and `k [s]`."""

    q: jax.Array
    k: jax.Array


def scores_of(
    q_BKGTH: jax.Array,
    k_BKSH: jax.Array,
    tile: jax.Array | None,
    seen: jax.Array | None,
    scoring: Scoring,
    index: BlockIndex,
) -> BlockScores:
    """The scores of a block, with the tile of a bias `[b, N, t, s]`, masked by `seen [b, t, s]`."""
    products = jnp.einsum("BKGTH,BKSH->BKGTS", q_BKGTH, k_BKSH, preferred_element_type=jnp.float32)
    if scoring.scale is None:
        scaled = products / math.sqrt(q_BKGTH.shape[-1])
    else:
        scaled = products * scoring.scale
    capped, steepness = scoring.capped(scaled)
    l_BKGTS = settled(capped)
    if tile is not None:
        l_BKGTS += tile.reshape(tile.shape[0], *l_BKGTS.shape[1:])
    if seen is not None:
        l_BKGTS = jnp.where(seen[:, None, None], l_BKGTS, MASKED)
    factors = None
    if scoring.dropping is not None:
        B, K, G, t, s = l_BKGTS.shape
        factors_BNTS = scoring.dropping.factors(B, K * G, index.q, index.k)
        factors = factors_BNTS.reshape(B, K, G, t, s)
    return BlockScores(l_BKGTS, steepness, factors)


def allowed_pairs(mask: Mask, q_index: jax.Array, k_index: jax.Array, sizes: tuple[int, int], q_offset: Index) -> Any:
    """Which pairs of a block count, bool `[b, t, s]`: those that a mask allows, but of padded keys none.

    `q_index` and `k_index` are numbers among the T queries and S keys of `sizes`, or past them where a block is padded.
    """
    T, S = sizes
    is_key = k_index < S
    seen = is_key[None, None, :]
    # Clipped, since the indices of padding must not read past a mask's own arrays.
    last_query = T - 1
    last_key = S - 1
    real_query = jnp.minimum(q_index, last_query)
    real_key = jnp.minimum(k_index, last_key)
    allowed = mask.allowed(q_offset + real_query, real_key)
    if allowed is None:
        return seen
    return seen & allowed


def gather(totals: Totals, scores: BlockScores, v_BKSU: jax.Array) -> Totals:
    """The totals once a block of keys has been seen."""
    l_BKGTS = scores.logits
    before = totals.highest
    here = l_BKGTS.max(-1)
    highest = jnp.maximum(before, here)
    # What was summed under a lower maximum is too large by this much.
    change = before - highest
    fade = jnp.exp(change)
    below = l_BKGTS - highest[..., None]
    p_BKGTS = jnp.exp(below)
    # A dropped pair gives no value, and counts in the total all the same.
    kept_BKGTS = p_BKGTS
    if scores.factors is not None:
        kept_BKGTS = p_BKGTS * scores.factors
    # In the values' own type: a product of two types would be one of the wider.
    weights_BKGTS = kept_BKGTS.astype(v_BKSU.dtype)
    values = jnp.einsum("BKGTS,BKSU->BKGTU", weights_BKGTS, v_BKSU, preferred_element_type=jnp.float32)
    out = totals.out * fade[..., None] + values
    faded = totals.total * fade
    total = faded + p_BKGTS.sum(-1)
    return Totals(out, highest, total)


def finished(totals: Totals, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    """The output and the log-sum-exp; a row that saw nothing gets 0."""
    total = totals.total
    lse = log_sum(totals.highest, total)
    divisor = jnp.where(total == 0, 1.0, total)
    out = totals.out / divisor[..., None]
    return out.astype(dtype), lse


# Backward -------------------------------------------------------------------------------------------------------------
class BackwardRows(NamedTuple):
    """What the backward pass knows of queries: their gradient and how their softmax came out.

    `share`: one over the row's total, 0 for rows without a gradient. `delta`: what the softmax takes off the gradient
    of each logit.
    """

    d_out: jax.Array
    highest: jax.Array
    share: jax.Array
    delta: jax.Array


def rows_backward(
    d_out: jax.Array, d_lse: jax.Array, out: jax.Array, highest: jax.Array, total: jax.Array
) -> BackwardRows:
    """The rows of a backward pass, from the cotangents of output and log-sum-exp and what the forward pass kept."""
    highest, share = for_backward(highest, total)
    # The log-sum-exp's own cotangent enters with the other sign.
    wide_d_out = d_out.astype(jnp.float32)
    wide_out = out.astype(jnp.float32)
    products = wide_d_out * wide_out
    delta = jnp.sum(products, -1) - d_lse
    delta = jnp.where(share > 0, delta, 0.0)
    return BackwardRows(d_out, highest, share, delta)


def for_backward(highest: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The highest logit of a row and one over its total, which is 0 for rows without a gradient.

    Those saw nothing, and their total is 0, or they have no meaning, and it is NaN. The two numbers stay apart: in a
    log-sum-exp a large logit would round the total away.
    """
    alive = total > 0
    # The inner where keeps a total of 0 out of the division, whose gradient would be NaN even where it is not taken.
    divisor = jnp.where(alive, total, 1.0)
    share = jnp.where(alive, 1 / divisor, 0.0)
    highest = jnp.where(alive, highest, BLIND)
    return highest, share


def weights(logits: jax.Array, highest: jax.Array, share: jax.Array) -> jax.Array:
    """The softmax `[..., t, s]` of logits, from what `for_backward` gives of their rows `[..., t]`."""
    below = logits - highest[..., None]
    share = share[..., None]
    p = jnp.exp(below) * share
    alive = share > 0
    return jnp.where(alive, p, 0.0)


class BlockGradients(NamedTuple):
    """What a block adds: to its queries `[B, K, G, t, H]`, keys `[B, K, H, s]` and values `[B, K, U, s]`, and the bias.

    Those of queries and keys lack the factor of products, which is the same for all and comes last.
    """

    dq: jax.Array
    dk: jax.Array
    dv: jax.Array
    d_bias: Any


def differentiate(
    scores: BlockScores,
    q_BKGTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSU: jax.Array,
    rows: BackwardRows,
    d_bias: Any,
    pull: Any,
) -> BlockGradients:
    """The gradients of a block from its scores.

    `pull` adds those of its tile to `d_bias`, where there is a bias.
    """
    l_BKGTS, steepness, factors = scores
    p = weights(l_BKGTS, rows.highest, rows.share)
    dp = jnp.einsum("BKGTU,BKSU->BKGTS", rows.d_out, v_BKSU, preferred_element_type=jnp.float32)
    delta = rows.delta[..., None]
    kept = p
    if factors is not None:
        dp = dp * factors
        kept = p * factors
    ds = p * (dp - delta)
    if pull is not None:
        d_bias = pull(d_bias, ds)
    if steepness is not None:  # The bias is added after the cap, the products go through it.
        ds = ds * steepness
    kept = kept.astype(q_BKGTH.dtype)
    if q_BKGTH.dtype == jnp.float16:  # Below its smallest numbers: what a pair gives, where keys are many.
        q_BKGTH = q_BKGTH.astype(jnp.float32)
        k_BKSH = k_BKSH.astype(jnp.float32)
    ds = ds.astype(q_BKGTH.dtype)
    dq = jnp.einsum("BKGTS,BKSH->BKGTH", ds, k_BKSH, preferred_element_type=jnp.float32)
    dk = _along_rows(q_BKGTH, ds)
    dv = _along_rows(rows.d_out, kept)
    return BlockGradients(dq, dk, dv, d_bias)


def pull_of(tile_and_pull: Any) -> tuple[jax.Array | None, Any]:
    """A bias's tile, and its pull for the gradient of logits `[B, K, G, t, s]`; twice `None` without a bias."""
    if tile_and_pull is None:
        return None, None
    tile, pull = tile_and_pull

    def add(total: Any, ds_BKGTS: jax.Array) -> Any:
        ds_BNTS = ds_BKGTS.reshape(ds_BKGTS.shape[0], -1, *ds_BKGTS.shape[3:])
        if tile.shape[0] == 1:  # All rows of the batch share the tile.
            ds_BNTS = over_rows(ds_BNTS)
        return pull(total, ds_BNTS)

    return tile, add


def over_rows(x: jax.Array) -> jax.Array:
    """The sum over the leading axis, which stays, by halves: XLA reduces a leading axis slowly on CPU."""
    if not isinstance(x.shape[0], int):  # An export's batch, of which nobody knows the halves.
        return jnp.sum(x, axis=0, keepdims=True)
    odd_ones = None
    while x.shape[0] > 1:
        rows = x.shape[0]
        half, odd = divmod(rows, 2)
        if odd:
            # Kept aside until the end, so that what is left divides into two halves.
            odd_ones = x[-1:] if odd_ones is None else odd_ones + x[-1:]
        pairs = 2 * half
        upper = x[:half]
        lower = x[half:pairs]
        x = upper + lower
    if odd_ones is None:
        return x
    return x + odd_ones


def _along_rows(x: jax.Array, weights: jax.Array) -> jax.Array:
    """The sum over queries of `x [B, K, G, t, H]` times `weights [B, K, G, t, s]`: float32 `[B, K, H, s]`."""

    def product(x: jax.Array, weights: jax.Array) -> jax.Array:
        # In this order no block is transposed, only what is as small as `x`.
        return jnp.einsum("BKGTH,BKGTS->BKHS", x, weights, preferred_element_type=jnp.float32)

    def wide(x: jax.Array, weights: jax.Array) -> jax.Array:
        wide_x = x.astype(jnp.float32)
        wide_weights = weights.astype(jnp.float32)
        return product(wide_x, wide_weights)

    # XLA's CPU has this product for float32 alone.
    return cast(jax.Array, lax.platform_dependent(x, weights, cpu=wide, default=product))
