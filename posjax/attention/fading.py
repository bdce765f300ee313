"""A bias that is a running sum: what the tokens between a key and its query take off their logit.

Such a sum over all pairs is a difference of two numbers, one of the query and one of the key, so nothing of the size
of T x S is ever summed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from posjax.attention.biases import ByContent, Pull
from posjax.attention.masks import Causal, Mask, Window, indices_to, rules
from posjax.attention.reference import without_void
from posjax.attention.token_masks import Chunked, Segments
from posjax.positions import Index


@dataclass(frozen=True)
class BetweenTokens:
    """The running sum up to the query minus that up to the key: `queries [B, N, T]` and `keys [B, N, S]`, twice.

    Each sum is two numbers, the second what the first one rounds away: at the end of a long text one alone would be
    wrong by more than a token's share of it.
    """

    queries: tuple[jax.Array, jax.Array]
    keys: tuple[jax.Array, jax.Array]

    def tile(self, q_first: Index, k_first: Index, rows: int, columns: int) -> jax.Array:
        """The bias of a block of pairs, `[B, N, rows, columns]`."""

        def difference(q: jax.Array, k: jax.Array) -> jax.Array:
            q_sums = lax.dynamic_slice_in_dim(q, q_first, rows, 2)
            k_sums = lax.dynamic_slice_in_dim(k, k_first, columns, 2)
            at_query = q_sums[..., None]
            at_key = k_sums[..., None, :]
            return at_query - at_key

        q_high, q_low = self.queries
        k_high, k_low = self.keys
        # The large parts cancel first: only their difference has room for what the small parts hold.
        high = difference(q_high, k_high)
        low = difference(q_low, k_low)
        return high + low

    def padded(self, queries: int, keys: int) -> BetweenTokens:
        """The same bias for T and S rounded up to whole blocks; what is added is masked."""

        def pad(sums: tuple[jax.Array, jax.Array], length: int) -> Any:
            longer = ((0, 0), (0, 0), (0, length - sums[0].shape[2]))
            return tuple(jnp.pad(x, longer) for x in sums)

        q_sums = pad(self.queries, queries)
        k_sums = pad(self.keys, keys)
        return BetweenTokens(q_sums, k_sums)

    def part(self, row: Index, batch: int, head: Index, heads: int) -> BetweenTokens:
        """The same bias for `batch` rows of the batch from `row` on, and `heads` heads from `head` on."""

        # Of one type: with 64 bits, what JAX makes of Python's numbers has another than what is traced.
        begin = [jnp.asarray(index, jnp.int32) for index in (row, head, 0)]

        def own(x: jax.Array) -> jax.Array:
            return lax.dynamic_slice(x, begin, (batch, heads, x.shape[2]))

        return jax.tree.map(own, self)

    def gradient(self) -> jax.Array:
        """An empty sum of gradients, filled by the second value of `tile_and_pull`."""
        return jnp.zeros_like(self.keys[0])

    def tile_and_pull(self, q_first: Index, k_first: Index, rows: int, columns: int) -> tuple[jax.Array, Pull]:
        """The tile, and the function that adds a tile's cotangent to a sum of gradients."""

        def add(total: jax.Array, cotangent: jax.Array) -> jax.Array:
            # A product, since XLA would compute the block anew for a reduction of its own.
            ones = jnp.ones((*cotangent.shape[:2], rows), cotangent.dtype)
            more = jnp.einsum("BNT,BNTS->BNS", ones, cotangent)
            before = lax.dynamic_slice_in_dim(total, k_first, columns, 2)
            after = before - more
            return lax.dynamic_update_slice_in_dim(total, after, k_first, 2)

        tile = self.tile(q_first, k_first, rows, columns)
        return tile, add

    def cotangent(self, total: jax.Array) -> BetweenTokens:
        """A sum of gradients in the shape that JAX expects: both numbers of a sum have the same.

        What is added to a whole row moves its log-sum-exp alone: that gradient is `moved`'s, and none is left here.
        """
        none = jnp.zeros_like(self.queries[0])
        return BetweenTokens((none, none), (total, total))

    def without_queries(self) -> BetweenTokens:
        """The same bias, the sums of its queries as numbers without a gradient: `moved` has that."""
        high, low = self.queries
        constant_high = lax.stop_gradient(high)
        constant_low = lax.stop_gradient(low)
        return replace(self, queries=(constant_high, constant_low))

    def moved(self, lse: jax.Array) -> jax.Array:
        """The log-sum-exp `[B, N, T]` as it is, with its gradient to the sums of the queries."""
        high, _ = self.queries
        # The difference is exactly 0, and its gradient is 1.
        constant = lax.stop_gradient(high)
        zero = high - constant
        return lse + zero


jax.tree_util.register_dataclass(BetweenTokens, data_fields=["queries", "keys"], meta_fields=[])


def between_tokens(
    bias: ByContent, q: jax.Array, k: jax.Array, mask: Mask, q_offset: Index
) -> tuple[jax.Array, jax.Array, BetweenTokens] | None:
    """An encoding that scores content as a running sum: queries and keys marked where positions are, and the sum.

    `q [B, T, N, H]`, `k [B, S, K, H]`. `None` where the score is no such sum, or where the mask may hide a token
    between a query and a key that it sees, as an array or a rule of a user's own may: then each pair has tokens of its
    own between.
    """
    every = rules(mask)
    segments = [rule for rule in every if type(rule) is Segments]
    # A causal mask, since what fades lies between a key and a later query. Another bias beside has sums of its own.
    if bias.bias is not None or len(segments) > 1 or Causal() not in every or not all(map(_hides_none_between, every)):
        return None
    clean_k, _ = without_void(k)
    k_BSNH = jnp.repeat(clean_k, bias.heads // k.shape[2], axis=2)
    fading_BNS = jax.vmap(lambda k: bias.encoding.fading(bias.params, k))(k_BSNH)
    if fading_BNS is None:
        return None
    ids = None
    if segments:
        ids = segments[0].queries
    fading_BNS = fading_BNS.astype(jnp.float32)
    key_sums = _sums(fading_BNS, ids)
    # Queries are some of the keys' tokens: their sums are taken from those. One past the last key has no later sum.
    T = q.shape[1]
    S = k.shape[1]
    offset = jnp.asarray(q_offset, jnp.int32)
    q_index = offset + indices_to(T)
    last = S - 1
    index = jnp.clip(q_index, 0, last)
    high, low = key_sums
    q_high = jnp.take(high, index, axis=2)
    q_low = jnp.take(low, index, axis=2)
    between = BetweenTokens((q_high, q_low), key_sums)
    marked_q = _marked(q, bias.q_positions)
    marked_k = _marked(k, bias.k_positions)
    return marked_q, marked_k, between


def _hides_none_between(rule: Mask) -> bool:
    """Whether a rule hides no token between a query and a key that it sees.

    The types themselves: a class that derives from one of them may hide what it likes. Segments of their own for keys
    may call a token between by another name.
    """
    if type(rule) is Segments:
        return rule.keys is None
    return type(rule) in (Causal, Window, Chunked)


def _marked(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Tokens `[B, T, N, H]`, those at a negative position NaN: the mark that blocks know."""
    nowhere = positions < 0
    void = nowhere[..., None, None]
    return jnp.where(void, jnp.nan, x)


def _sums(x_BNS: jax.Array, segments: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Running sums, each as two numbers; tokens of one segment stand side by side for it, and each begins anew."""
    if segments is None:
        nowhere = jnp.zeros(x_BNS.shape, bool)
        return running(x_BNS, nowhere)
    # Documents may alternate along a row: sorted, each is one run, and its tokens keep their order.
    order_BS = jnp.argsort(segments, axis=1, stable=True)
    sorted_ids = jnp.take_along_axis(segments, order_BS, axis=1)
    first_token = order_BS[:, :1]
    first = jnp.ones_like(first_token, bool)
    later = sorted_ids[:, 1:]
    earlier = sorted_ids[:, :-1]
    changes = later != earlier
    starts_BS = jnp.concatenate([first, changes], axis=1)
    order = jnp.broadcast_to(order_BS[:, None, :], x_BNS.shape)
    starts = jnp.broadcast_to(starts_BS[:, None, :], x_BNS.shape)
    in_order = jnp.take_along_axis(x_BNS, order, axis=2)
    high, low = running(in_order, starts)
    # The order of the order puts every token back where it was.
    back = jnp.argsort(order, axis=2)
    high = jnp.take_along_axis(high, back, axis=2)
    low = jnp.take_along_axis(low, back, axis=2)
    return high, low


def running(x: jax.Array, starts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The running sum along the last axis as two numbers that add up to it, from 0 wherever `starts` is true.

    >>> import numpy as np
    >>> high, low = (np.asarray(x, np.float64) for x in running(jnp.full(9, 0.1), jnp.zeros(9, bool)))
    >>> bool(abs((high + low)[-1] - 9 * np.float64(np.float32(0.1))) < 1e-12)
    True
    """

    def add(before: tuple[jax.Array, ...], after: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        a_starts, a_high, a_low = before
        b_starts, b_high, b_low = after
        high = a_high + b_high
        # What the addition rounded away, exactly (Knuth's two-sum).
        back = high - a_high
        lost_of_a = a_high - (high - back)
        lost_of_b = b_high - back
        rounded_away = lost_of_a + lost_of_b
        low = rounded_away + a_low + b_low
        # Where a stretch begins anew, nothing of what came before counts.
        high = jnp.where(b_starts, b_high, high)
        low = jnp.where(b_starts, b_low, low)
        return a_starts | b_starts, high, low

    zeros = jnp.zeros_like(x)
    _, high, low = lax.associative_scan(add, (starts, x, zeros), axis=-1)
    return high, low
