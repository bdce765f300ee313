"""Attention that never builds T x S: a scan over the blocks of pairs that the mask may see, with its own VJP.

Memory grows linearly with the length, forward and backward, and blocks that the mask rules out cost nothing. It is the
fast path on CPU, where a materialised score matrix is bound by memory, and the fallback everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from posjax.attention import blocks
from posjax.attention.biases import Bias, ByContent, ByDistance, ByPosition, TileBias
from posjax.attention.blocks import Totals, block_size, put, take
from posjax.attention.fading import BetweenTokens, between_tokens
from posjax.attention.jobs import Job, here
from posjax.attention.masks import Causal, Mask, indices_to, rules
from posjax.attention.reference import LOWEST, logits, mark_keys, mark_rows, softmax, without_void
from posjax.attention.scoring import PLAIN, Scoring
from posjax.attention.visits import BlockGrid, live_pairs
from posjax.positions import Index

WIDE, LONG = 512, 2048
"""A CPU takes wider blocks from this length on, where no rule but causality would leave more of them empty: its library
of products takes both cores only for larger ones, and a step then costs less beside its work."""

TILE = 2**20
"""How many logits a CPU computes at once, over rows of the batch and heads: 4 MiB for each array of a step, which stay
in its caches."""


def refuse(job: Job) -> str | None:
    """Nothing: every bias and mask, on every device."""
    return None


class BlockVisits(NamedTuple):
    """Which blocks meet: `pairs [n, 2]` of their numbers, of which the first `count` are visited; `None`: all.

    And how a pair of tokens is scored there.
    """

    mask: Mask
    q_offset: jax.Array
    pairs: jax.Array
    count: jax.Array | None
    scoring: Scoring = PLAIN


class Kept(NamedTuple):
    """What the backward pass needs of the forward one. The largest logit and the total stay apart: see `blocks`."""

    q: jax.Array
    k: jax.Array
    v: jax.Array
    bias: Any
    visits: BlockVisits
    out: jax.Array
    highest: jax.Array
    total: jax.Array


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: Index = 0, scoring: Scoring = PLAIN
) -> tuple[jax.Array, jax.Array]:
    """As `reference.attention`, block by block: the same arguments, the same result."""
    q = mark_rows(q)
    k, v = mark_keys(k, v)
    if not isinstance(bias, ByContent):
        return _by_blocks(q, k, v, bias, mask, q_offset, scoring)
    summed = between_tokens(bias, q, k, mask, q_offset)
    if summed is None:
        return _by_rows(q, k, v, bias, mask, q_offset, scoring)
    # A score that only adds up what lies between two tokens is a difference of sums, and so a bias of blocks.
    q, k, between = summed
    constant = between.without_queries()
    out, lse = _by_blocks(q, k, v, constant, mask, q_offset, scoring)
    alive = lse > LOWEST
    moved = between.moved(lse)
    lse = jnp.where(alive, moved, lse)
    return out, lse


def _by_blocks(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: TileBias | BetweenTokens,
    mask: Mask,
    q_offset: Index,
    scoring: Scoring,
) -> tuple[jax.Array, jax.Array]:
    B, T, N, H = q.shape
    S, K = k.shape[1:3]
    cut = cut_of(q, k, bias, mask)
    grid = BlockGrid(T, S, cut.rows, cut.columns)
    q_BTNH = _pad(q, cut.rows)
    q_BKGTH = q_BTNH.reshape(B, -1, K, N // K, H).transpose(0, 2, 3, 1, 4)
    k_BKSH = _pad(k, cut.columns).swapaxes(1, 2)
    v_BKSU = _pad(v, cut.columns).swapaxes(1, 2)
    padded = bias
    if bias is not None:
        padded = bias.padded(q_BTNH.shape[1], k_BKSH.shape[2])
    row_parts = B // cut.batch
    head_parts = K // cut.heads
    parts = row_parts * head_parts

    def some(index: Index, q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The rows of the batch and the heads that are computed at once."""
        row = index // head_parts * cut.batch
        heads = N // K * cut.heads
        head = index % head_parts * heads
        part = padded
        if parts > 1 and isinstance(padded, ByDistance | BetweenTokens):
            part = padded.part(row, cut.batch, head, heads)
        own = mask
        if cut.batch < B:
            own = mask.part(row, cut.batch)
        pairs, count = live_pairs(own, q_offset, grid)
        if parts > 1:  # Untied from the index, what depends on pairs alone, such as masks, would be kept of all pairs.
            pairs, _ = lax.optimization_barrier((pairs, index))
        visits = BlockVisits(own, jnp.asarray(q_offset, jnp.int32), pairs, count, scoring.part(row, head))
        return cast(tuple[jax.Array, jax.Array], _blocks(grid, q, k, v, part, visits))

    if parts == 1:
        out, lse = some(0, q_BKGTH, k_BKSH, v_BKSU)
    else:
        index = jnp.arange(parts, dtype=jnp.int32)
        each = [x.reshape(parts, cut.batch, cut.heads, *x.shape[2:]) for x in (q_BKGTH, k_BKSH, v_BKSU)]
        out, lse = lax.map(lambda x: some(*x), (index, *each))
    out_BKGTU = out.reshape(*q_BKGTH.shape[:-1], v.shape[-1])
    out_BTNU = out_BKGTU.transpose(0, 3, 1, 2, 4).reshape(B, -1, N, v.shape[-1])
    return out_BTNU[:, :T], lse.reshape(B, N, -1)[:, :, :T]


def _by_rows(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: ByContent, mask: Mask, q_offset: Index, scoring: Scoring
) -> tuple[jax.Array, jax.Array]:
    """Encodings that score content need whole rows: some rows at a time, each block computed anew for its gradient."""
    B, T, N, H = q.shape
    S = k.shape[1]
    rows = block_size(T)
    count = -(-T // rows)
    padded_T = count * rows
    bias = bias.padded(padded_T, S)
    q_BTNH = _pad(q, rows)
    q_cut = q_BTNH.reshape(B, count, rows, N, H)
    q_blocks = jnp.moveaxis(q_cut, 1, 0)

    # Recomputed, since the logits of all blocks together would be the T x S that this file never builds.
    @jax.checkpoint
    def block(index: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = index * rows
        # The last rows may be padding: they look as the last token does, and are cut off.
        inside = indices_to(rows)
        order = q_offset + first + inside
        last = q_offset + T - 1
        q_index = jnp.minimum(order, last)
        k_index = indices_to(S)
        seen = mask.allowed(q_index, k_index)
        factors = None
        if scoring.dropping is not None:
            factors = scoring.dropping.factors(B, N, q_index, k_index)
        return softmax(logits(q, k, bias, q_offset, first, seen), seen, v, q.dtype, factors)

    out, lse = lax.map(lambda pair: block(*pair), (jnp.arange(count, dtype=jnp.int32), q_blocks))
    out_cut = jnp.moveaxis(out, 0, 1)
    lse_cut = jnp.moveaxis(lse, 0, 2)
    out_BTNU = out_cut.reshape(B, padded_T, N, v.shape[-1])
    lse_BNT = lse_cut.reshape(B, N, padded_T)
    return out_BTNU[:, :T], lse_BNT[:, :, :T]


# How the work is cut --------------------------------------------------------------------------------------------------
class Cut(NamedTuple):
    """Queries and keys per block, and the rows of the batch and key-value heads that are computed at once."""

    rows: int
    columns: int
    batch: int
    heads: int


def cut_of(q: jax.Array, k: jax.Array, bias: Bias | BetweenTokens, mask: Mask) -> Cut:
    """How a call is cut: on a CPU so that a step's logits stay in its caches.

    Rows and heads are all computed at once off a CPU, which has no such caches; where a mesh splits them, since a loop
    over what lies on several devices would gather it; and where pairs of positions have a bias, so that rows of the
    batch share its tiles.
    """
    B, T, N, _ = q.shape
    S, K = k.shape[1:3]
    group = N // K
    rows = block_size(T)
    columns = block_size(S)
    whole = isinstance(bias, ByPosition) or not isinstance(B, int)  # An export's batch may be any number.
    if whole or here()[0] != "cpu" or jax.sharding.get_abstract_mesh().size > 1:
        return Cut(rows, columns, B, K)
    only_causal = all(type(rule) is Causal for rule in rules(mask))
    if min(T, S) >= LONG and group * WIDE**2 <= TILE and only_causal:
        rows = block_size(T, WIDE)
        columns = block_size(S, WIDE)
    logits_of_head = rows * columns * group
    room = TILE // logits_of_head
    heads = _divisor(K, room)
    batch = 1
    if heads == K:  # Room for more than one row's heads.
        batch = _divisor(B, room // K)
    return Cut(rows, columns, batch, heads)


def _divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`, or 1."""
    most = min(number, most)
    largest = max(1, most)
    candidates = range(1, largest + 1)
    return max(size for size in candidates if number % size == 0)


def _pad(x: jax.Array, block: int) -> jax.Array:
    length = x.shape[1]
    missing = -length % block
    return jnp.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0)))


def _fold(step: Callable[[Any, Any, Any], Any], carry: Any, visits: BlockVisits) -> Any:
    """Takes the carry through `step(carry, i, j)` for each pair of blocks."""
    pairs = visits.pairs
    if pairs.shape[0] == 1:  # A loop of one round keeps XLA from fusing across it.
        i = pairs[0, 0]
        j = pairs[0, 1]
        return step(carry, i, j)

    def visit(carry: Any, pair: jax.Array) -> tuple[Any, None]:
        i = pair[0]
        j = pair[1]
        carry = step(carry, i, j)
        return carry, None

    count = visits.count
    if count is None:
        return lax.scan(visit, carry, pairs)[0]

    def visit_or_pass(carry: Any, numbered: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        n, pair = numbered
        # No loop that ends at a traced number: it has no reverse mode, and a gradient may be differentiated again.
        carry = lax.cond(n < count, lambda before: visit(before, pair)[0], lambda before: before, carry)
        return carry, None

    numbers = indices_to(pairs.shape[0])
    return lax.scan(visit_or_pass, carry, (numbers, pairs))[0]


# Forward and back -----------------------------------------------------------------------------------------------------
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocks(
    grid: BlockGrid, q: jax.Array, k: jax.Array, v: jax.Array, bias: Any, visits: BlockVisits
) -> tuple[jax.Array, jax.Array]:
    return _forward(grid, q, k, v, bias, visits)[0]


def _scores(
    grid: BlockGrid, q: jax.Array, k: jax.Array, visits: BlockVisits, tile: jax.Array | None, i: Index, j: Index
) -> blocks.BlockScores:
    """The scores of query block i and key block j."""
    q_first = i * grid.rows
    k_first = j * grid.columns
    rows = indices_to(grid.rows)
    columns = indices_to(grid.columns)
    q_index = q_first + rows
    k_index = k_first + columns
    sizes = (grid.queries, grid.keys)
    seen = blocks.allowed_pairs(visits.mask, q_index, k_index, sizes, visits.q_offset)
    index = blocks.BlockIndex(visits.q_offset + q_index, k_index)
    return blocks.scores_of(q, k, tile, seen, visits.scoring, index)


def _forward(
    grid: BlockGrid, q: jax.Array, k: jax.Array, v: jax.Array, bias: Any, visits: BlockVisits
) -> tuple[tuple[jax.Array, jax.Array], Kept]:
    rows = grid.rows
    columns = grid.columns

    def key_block(x: jax.Array, j: Index) -> jax.Array:
        return take(x, j, columns, 2)

    def step(totals: Totals, i: Index, j: Index) -> Totals:
        tile = None
        if bias is not None:
            q_first = i * rows
            k_first = j * columns
            tile = bias.tile(q_first, k_first, rows, columns)
        q_i = take(q, i, rows, 3)
        k_j = key_block(k, j)
        v_j = key_block(v, j)
        scores = _scores(grid, q_i, k_j, visits, tile, i, j)
        before = Totals(*(take(x, i, rows, 3) for x in totals))
        after = blocks.gather(before, scores, v_j)
        return Totals(*(put(x, part, i, rows, 3) for x, part in zip(totals, after, strict=True)))

    size = v.shape[-1]
    empty = blocks.nothing_yet(q, size)
    totals = _fold(step, empty, visits)
    out, lse = blocks.finished(totals, q.dtype)
    kept = Kept(q, k, v, bias, visits, out, totals.highest, totals.total)
    return (out, lse), kept


def _backward(grid: BlockGrid, kept: Kept, cotangents: tuple[jax.Array, jax.Array]) -> Any:
    rows = grid.rows
    columns = grid.columns
    v = kept.v
    bias = kept.bias
    # A mark is never a number: rows of NaN are computed at 0 here, and their share of 0 keeps them out of every sum.
    (q, _), (k, _) = without_void(kept.q), without_void(kept.k)
    at_queries = blocks.rows_backward(*cotangents, kept.out, kept.highest, kept.total)

    def step(sums: Any, i: Index, j: Index) -> Any:
        dq, dk, dv, d_bias = sums
        q_i = take(q, i, rows, 3)
        k_j = take(k, j, columns, 2)
        v_j = take(v, j, columns, 2)
        tile, pull = None, None
        if bias is not None:
            tile, pull = blocks.pull_of(bias.tile_and_pull(i * rows, j * columns, rows, columns))
        scores = _scores(grid, q_i, k_j, kept.visits, tile, i, j)
        rows_i = blocks.BackwardRows(*(take(x, i, rows, 3) for x in at_queries))
        more = blocks.differentiate(scores, q_i, k_j, v_j, rows_i, d_bias, pull)
        return (
            put(dq, take(dq, i, rows, 3) + more.dq, i, rows, 3),
            put(dk, take(dk, j, columns, 3) + more.dk, j, columns, 3),
            put(dv, take(dv, j, columns, 3) + more.dv, j, columns, 3),
            more.d_bias,
        )

    # Gradients of keys and values lie transposed, as `blocks.differentiate` gives them, until all are summed.
    empty = [jnp.zeros_like(x, jnp.float32) for x in (q, k.mT, v.mT)]
    d_bias = None
    if bias is not None:
        d_bias = bias.gradient()
    dq, dk, dv, d_bias = _fold(step, (*empty, d_bias), kept.visits)
    if bias is not None:
        d_bias = bias.cotangent(d_bias)
    scale = kept.visits.scoring.factor(q.shape[-1])
    # Scaled in float32, and rounded once.
    dq *= scale
    dk = dk.mT * scale
    dv = dv.mT
    dq = dq.astype(q.dtype)
    dk = dk.astype(k.dtype)
    dv = dv.astype(v.dtype)
    return dq, dk, dv, d_bias, None


_blocks.defvjp(_forward, _backward)
