"""Attention that never builds T x S: a scan over the blocks of pairs that the mask may see, with its own VJP.

Memory grows linearly with the length, forward and backward, and blocks that the mask rules out cost nothing. It is the
fast path on CPU, where a materialised score matrix is bound by memory, and the fallback everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from posjax.attention.biases import Bias, ByContent, ByDistance, ByPosition, TileBias, over_rows
from posjax.attention.fading import BetweenTokens, between_tokens
from posjax.attention.jobs import Job, here
from posjax.attention.masks import Causal, Mask, Window, rules
from posjax.attention.reference import (
    BLIND,
    LOWEST,
    MASKED,
    log_sum,
    logits,
    mark_keys,
    mark_rows,
    settled,
    softmax,
    without_void,
)

BLOCK = 256
"""Queries and keys per block."""

WIDE, LONG = 512, 2048
"""A CPU takes wider blocks from this length on, where no rule but causality would leave more of them empty: its library
of products takes both cores only for larger ones, and a step then costs less beside its work."""

TILE = 2**20
"""How many logits a CPU computes at once, over rows of the batch and heads: 4 MiB for each array of a step, which stay
in its caches."""


def refuse(job: Job) -> str | None:
    """Nothing: every bias and mask, on every device."""
    return None


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: int | jax.Array = 0
) -> tuple[jax.Array, jax.Array]:
    """As `reference.attention`, block by block: the same arguments, the same result."""
    q, (k, v) = mark_rows(q), mark_keys(k, v)
    if isinstance(bias, ByContent):
        summed = between_tokens(bias, q, k, mask, q_offset)
        if summed is None:
            return _by_rows(q, k, v, bias, mask, q_offset)
        q, k, between = summed
        out, lse = _by_blocks(q, k, v, between.without_queries(), mask, q_offset)
        return out, jnp.where(lse > LOWEST, between.moved(lse), lse)
    return _by_blocks(q, k, v, bias, mask, q_offset)


def _by_blocks(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: TileBias | BetweenTokens, mask: Mask, q_offset: int | jax.Array
) -> tuple[jax.Array, jax.Array]:
    B, T, N, H = q.shape
    S, K = k.shape[1:3]
    rows, columns, batch, heads = _cut(q, k, bias, mask)
    q_BKGTH = _pad(q, rows).reshape(B, -1, K, N // K, H).transpose(0, 2, 3, 1, 4)
    k_BKSH, v_BKSH = (_pad(x, columns).transpose(0, 2, 1, 3) for x in (k, v))
    padded: TileBias | BetweenTokens = None if bias is None else bias.padded(q_BKGTH.shape[3], k_BKSH.shape[2])

    parts = B // batch * (K // heads)

    def some(index: Any, q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The rows of the batch and the heads that are computed at once."""
        row, head = index // (K // heads) * batch, index % (K // heads) * q.shape[2] * heads
        if parts > 1 and isinstance(padded, ByDistance | BetweenTokens):
            part = padded.part(row, batch, head, q.shape[2] * heads)
        else:
            part = padded
        own = mask.part(row, batch) if batch < B else mask
        pairs, count = _live(own, q_offset, (T, S), (rows, columns))
        if parts > 1:  # Untied from the index, what depends on pairs alone, such as masks, would be kept of all pairs.
            pairs, _ = jax.lax.optimization_barrier((pairs, index))
        rule = (own, jnp.asarray(q_offset, jnp.int32), pairs, count)
        return cast(tuple[jax.Array, jax.Array], _blocks((T, S, rows, columns), q, k, v, part, rule))

    if parts == 1:
        out, lse = some(0, q_BKGTH, k_BKSH, v_BKSH)
    else:
        each = (x.reshape(parts, batch, heads, *x.shape[2:]) for x in (q_BKGTH, k_BKSH, v_BKSH))
        out, lse = jax.lax.map(lambda x: some(*x), (jnp.arange(parts, dtype=jnp.int32), *each))
    out = out.reshape(*q_BKGTH.shape[:-1], v.shape[-1]).transpose(0, 3, 1, 2, 4)
    out_BTNH = out.reshape(B, -1, N, v.shape[-1])[:, :T]
    return out_BTNH, lse.reshape(B, N, -1)[:, :, :T]


def _by_rows(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: ByContent, mask: Mask, q_offset: int | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Encodings that score content need whole rows: some rows at a time, each block computed anew for its gradient."""
    T, S = q.shape[1], k.shape[1]
    rows = _block(T)
    blocks = -(-T // rows)
    bias = bias.padded(blocks * rows, S)
    q_blocks = jnp.moveaxis(_pad(q, rows).reshape(q.shape[0], blocks, rows, *q.shape[2:]), 1, 0)

    @jax.checkpoint
    def block(index: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = index * rows
        # The last rows may be padding: they look as the last token does, and are cut off.
        order = jnp.minimum(q_offset + first + jnp.arange(rows, dtype=jnp.int32), q_offset + T - 1)
        seen = mask.allowed(order, jnp.arange(S, dtype=jnp.int32))
        return softmax(logits(q, k, bias, q_offset, first, seen), seen, v, q.dtype)

    out, lse = jax.lax.map(lambda pair: block(*pair), (jnp.arange(blocks, dtype=jnp.int32), q_blocks))
    out = jnp.moveaxis(out, 0, 1).reshape(q.shape[0], blocks * rows, q.shape[2], v.shape[-1])[:, :T]
    return out, jnp.moveaxis(lse, 0, 2).reshape(*lse.shape[1:3], blocks * rows)[:, :, :T]


def _cut(q: jax.Array, k: jax.Array, bias: Any, mask: Mask) -> tuple[int, int, int, int]:
    """Queries and keys per block, and how many rows of the batch and key-value heads are computed at once.

    All of these off a CPU, which has no such caches; where a mesh splits them, since a loop over what lies on several
    devices would gather it; and where pairs of positions have a bias, so that rows of the batch share its tiles.
    """
    (B, T, N), (S, K) = q.shape[:3], k.shape[1:3]
    rows, columns, group = _block(T), _block(S), N // K
    if here()[0] != "cpu" or jax.sharding.get_abstract_mesh().size > 1 or isinstance(bias, ByPosition):
        return rows, columns, B, K
    if min(T, S) >= LONG and group * WIDE**2 <= TILE and all(type(rule) is Causal for rule in rules(mask)):
        rows, columns = _block(T, WIDE), _block(S, WIDE)
    room = TILE // (rows * columns * group)
    heads = _divisor(K, room)
    return rows, columns, _divisor(B, room // K) if heads == K else 1, heads


def _divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`, or 1."""
    return max(size for size in range(1, max(1, min(number, most)) + 1) if number % size == 0)


def _block(length: int, most: int | None = None) -> int:
    """The block's size: at most BLOCK, or `most`, and such that the last block is nearly full."""
    return -(-length // -(-length // (most or BLOCK)))


def _pad(x: jax.Array, block: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), (0, 0), (0, 0)))


def _pairs(mask: Mask, q_offset: Any, sizes: tuple[int, int], blocks: tuple[int, int]) -> np.ndarray:
    """The (query block, key block) pairs that may hold an allowed pair, row by row, int32 `[pairs, 2]`."""
    (T, S), (rows, columns) = sizes, blocks
    every = [(i, j) for i in range(-(-T // rows)) for j in range(-(-S // columns))]
    if isinstance(q_offset, int):  # A traced q_offset is unknown until run time: then every block is visited.

        def seen(i: int, j: int) -> bool:
            last = q_offset + min((i + 1) * rows, T) - 1
            return mask.may_see(q_offset + i * rows, last, j * columns, (j + 1) * columns - 1)

        every = [(i, j) for i, j in every if seen(i, j)]
    return np.array(every, np.int32).reshape(-1, 2)


def _live(mask: Mask, q_offset: Any, sizes: tuple[int, int], blocks: tuple[int, int]) -> tuple[jax.Array, Any]:
    """The pairs to visit, those that can hold an allowed pair first, and how many these are; `None`: all of them.

    What is known before run time has made the list short already. Segments, and a traced q_offset or window, are
    known at run time only: then the loop ends early.
    """
    pairs = jnp.asarray(_pairs(mask, q_offset, sizes, blocks))
    (T, S), (rows, columns) = sizes, blocks

    def tokens(length: int, block: int) -> jax.Array:
        return jnp.minimum(jnp.arange(-(-length // block) * block, dtype=jnp.int32), length - 1).reshape(-1, block)

    known = [rule for rule in rules(mask) if type(rule) is Causal or (type(rule) is Window and type(rule.size) is int)]
    if pairs.shape[0] < 2 or (isinstance(q_offset, int) and len(known) == len(rules(mask))):
        return pairs, None
    live = mask.live(q_offset + tokens(T, rows), tokens(S, columns))
    if live is None:
        return pairs, None
    live = live[pairs[:, 0], pairs[:, 1]]
    return pairs[jnp.argsort(~live, stable=True)], jnp.sum(live, dtype=jnp.int32)


def _take(x: jax.Array, index: Any, block: int, axis: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(x, index * block, block, axis)


def _put(x: jax.Array, part: jax.Array, index: Any, block: int, axis: int) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(x, part, index * block, axis)


def _fold(step: Callable[[Any, Any, Any], Any], carry: Any, pairs: jax.Array, count: Any) -> Any:
    if pairs.shape[0] == 1:  # A loop of one round keeps XLA from fusing across it.
        return step(carry, pairs[0, 0], pairs[0, 1])
    if count is not None:
        return jax.lax.fori_loop(0, count, lambda p, carry: step(carry, pairs[p, 0], pairs[p, 1]), carry)
    return jax.lax.scan(lambda carry, pair: (step(carry, pair[0], pair[1]), None), carry, pairs)[0]


def _logits(
    sizes: tuple[int, ...], q: jax.Array, k: jax.Array, rule: Any, tile: jax.Array | None, at: tuple[Any, Any]
) -> jax.Array:
    """The logits of one block `[B, K, G, t, s]`, masked."""
    T, S, rows, columns = sizes
    mask, q_offset = rule[:2]
    K, G = q.shape[1:3]
    l_BKGTS = jnp.einsum("BKGTH,BKSH->BKGTS", q, k, preferred_element_type=jnp.float32) / math.sqrt(q.shape[-1])
    l_BKGTS = settled(l_BKGTS)
    if tile is not None:
        l_BKGTS += tile.reshape(tile.shape[0], K, G, rows, columns)
    q_index = at[0] * rows + jnp.arange(rows, dtype=jnp.int32)
    k_index = at[1] * columns + jnp.arange(columns, dtype=jnp.int32)
    seen = (k_index < S)[None, None, :]
    # Clipped, since the indices of padding must not read past a mask's own arrays.
    allowed = mask.allowed(q_offset + jnp.minimum(q_index, T - 1), jnp.minimum(k_index, S - 1))
    if allowed is not None:
        seen = seen & allowed
    return jnp.where(seen[:, None, None], l_BKGTS, MASKED)


def for_backward(highest: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The highest logit of a row and one over its total, which is 0 for rows without a gradient.

    Those saw nothing, and their total is 0, or they have no meaning, and it is NaN. The two numbers stay apart: in a
    log-sum-exp a large logit would round the total away.
    """
    alive = total > 0
    return jnp.where(alive, highest, BLIND), jnp.where(alive, 1 / jnp.where(alive, total, 1.0), 0.0)


def weights(logits: jax.Array, highest: jax.Array, share: jax.Array) -> jax.Array:
    """The softmax `[..., t, s]` of logits, from what `for_backward` gives of their rows `[..., t]`."""
    return jnp.where(share[..., None] > 0, jnp.exp(logits - highest[..., None]) * share[..., None], 0.0)


def _along_rows(x: jax.Array, weights: jax.Array) -> jax.Array:
    """The sum over queries of `x [B, K, G, t, H]` times `weights [B, K, G, t, s]`: float32 `[B, K, H, s]`."""

    def product(x: jax.Array, weights: jax.Array) -> jax.Array:
        # In this order no block is transposed, only what is as small as `x`.
        return jnp.einsum("BKGTH,BKGTS->BKHS", x, weights, preferred_element_type=jnp.float32)

    def wide(x: jax.Array, weights: jax.Array) -> jax.Array:
        return product(x.astype(jnp.float32), weights.astype(jnp.float32))

    # XLA's CPU has this product for float32 alone.
    return cast(jax.Array, jax.lax.platform_dependent(x, weights, cpu=wide, default=product))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocks(
    sizes: tuple[int, ...], q: jax.Array, k: jax.Array, v: jax.Array, bias: Any, rule: Any
) -> tuple[jax.Array, jax.Array]:
    return _forward(sizes, q, k, v, bias, rule)[0]


def _forward(sizes: tuple[int, ...], q: jax.Array, k: jax.Array, v: jax.Array, bias: Any, rule: Any) -> Any:
    rows, columns = sizes[2:]

    def step(carry: Any, i: Any, j: Any) -> Any:
        total_out, highest, total = carry
        tile = None if bias is None else bias.tile(i * rows, j * columns, rows, columns)
        l_BKGTS = _logits(sizes, _take(q, i, rows, 3), _take(k, j, columns, 2), rule, tile, (i, j))
        before = _take(highest, i, rows, 3)
        now = jnp.maximum(before, l_BKGTS.max(-1))
        p, fade = jnp.exp(l_BKGTS - now[..., None]), jnp.exp(before - now)
        part = jnp.einsum(
            "BKGTS,BKSH->BKGTH", p.astype(v.dtype), _take(v, j, columns, 2), preferred_element_type=jnp.float32
        )
        return (
            _put(total_out, _take(total_out, i, rows, 3) * fade[..., None] + part, i, rows, 3),
            _put(highest, now, i, rows, 3),
            _put(total, _take(total, i, rows, 3) * fade + p.sum(-1), i, rows, 3),
        )

    # Made of the queries: inside a shard_map what a loop carries differs between devices from the first round on.
    line = jnp.zeros_like(q[..., 0], jnp.float32)
    zeros = jnp.broadcast_to(line[..., None], (*line.shape, v.shape[-1]))
    total_out, highest, total = _fold(step, (zeros, line + LOWEST, line), *rule[2:])
    out = (total_out / jnp.where(total == 0, 1.0, total)[..., None]).astype(q.dtype)
    return (out, log_sum(highest, total)), (q, k, v, bias, rule, out, highest, total)


def _backward(sizes: tuple[int, ...], kept: Any, cotangents: Any) -> Any:
    q, k, v, bias, rule, out, highest, total = kept
    rows, columns = sizes[2:]
    d_out, d_lse = cotangents
    (q, _), (k, _) = without_void(q), without_void(k)
    highest, share = for_backward(highest, total)
    # What each row's softmax takes off its gradient; the log-sum-exp's own cotangent enters with the other sign.
    delta = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), -1) - d_lse
    delta, scale = jnp.where(share > 0, delta, 0.0), 1 / math.sqrt(q.shape[-1])

    def step(carry: Any, i: Any, j: Any) -> Any:
        dq, dk, dv, d_bias = carry
        q_i, k_j, v_j, d_i = (
            _take(q, i, rows, 3),
            _take(k, j, columns, 2),
            _take(v, j, columns, 2),
            _take(d_out, i, rows, 3),
        )
        tile, pull = (None, None) if bias is None else bias.tile_and_pull(i * rows, j * columns, rows, columns)
        l_BKGTS = _logits(sizes, q_i, k_j, rule, tile, (i, j))
        p = weights(l_BKGTS, _take(highest, i, rows, 3), _take(share, i, rows, 3))
        dp = jnp.einsum("BKGTH,BKSH->BKGTS", d_i, v_j, preferred_element_type=jnp.float32)
        ds = p * (dp - _take(delta, i, rows, 3)[..., None])
        if tile is not None and pull is not None:
            whole = ds.reshape(ds.shape[0], -1, rows, columns)
            d_bias = pull(d_bias, over_rows(whole) if tile.shape[0] == 1 else whole)
        p, ds = p.astype(q.dtype), ds.astype(q.dtype)
        dq_i = jnp.einsum("BKGTS,BKSH->BKGTH", ds, k_j, preferred_element_type=jnp.float32)
        dk_j, dv_j = _along_rows(q_i, ds), _along_rows(d_i, p)
        return (
            _put(dq, _take(dq, i, rows, 3) + dq_i, i, rows, 3),
            _put(dk, _take(dk, j, columns, 3) + dk_j, j, columns, 3),
            _put(dv, _take(dv, j, columns, 3) + dv_j, j, columns, 3),
            d_bias,
        )

    empty = (jnp.zeros_like(q, jnp.float32), *(jnp.zeros_like(x.mT, jnp.float32) for x in (k, v)))
    dq, dk, dv, d_bias = _fold(step, (*empty, None if bias is None else bias.gradient()), *rule[2:])
    d_bias = None if bias is None else bias.cotangent(d_bias)
    return (dq * scale).astype(q.dtype), (dk.mT * scale).astype(k.dtype), dv.mT.astype(v.dtype), d_bias, None


_blocks.defvjp(_forward, _backward)
