"""A bias that is a running sum: what the tokens between a key and its query take off their logit.

Such a sum over all pairs is a difference of two numbers, one of the query and one of the key, so nothing of the size
of T x S is ever summed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from posjax.attention.biases import ByContent, Pull
from posjax.attention.masks import Causal, Mask, Segments, Window, rules
from posjax.attention.reference import without_void


@dataclass(frozen=True)
class BetweenTokens:
    """The running sum up to the query minus that up to the key: `queries [B, N, T]` and `keys [B, N, S]`, twice.

    Each sum is two numbers, the second what the first one rounds away: at the end of a long text one alone would be
    wrong by more than a token's share of it.
    """

    queries: tuple[jax.Array, jax.Array]
    keys: tuple[jax.Array, jax.Array]

    def tile(self, q_first: Any, k_first: Any, rows: int, columns: int) -> jax.Array:
        """The bias of a block of pairs, `[B, N, rows, columns]`."""

        def difference(q: jax.Array, k: jax.Array) -> jax.Array:
            q = jax.lax.dynamic_slice_in_dim(q, q_first, rows, 2)
            return q[..., None] - jax.lax.dynamic_slice_in_dim(k, k_first, columns, 2)[..., None, :]

        high, low = map(difference, self.queries, self.keys)
        return high + low

    def padded(self, queries: int, keys: int) -> BetweenTokens:
        """The same bias for T and S rounded up to whole blocks; what is added is masked."""

        def pad(sums: tuple[jax.Array, jax.Array], length: int) -> Any:
            return tuple(jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]))) for x in sums)

        return BetweenTokens(pad(self.queries, queries), pad(self.keys, keys))

    def part(self, row: Any, batch: int, head: Any, heads: int) -> BetweenTokens:
        """The same bias for `batch` rows of the batch from `row` on, and `heads` heads from `head` on."""

        def own(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(x, (row, head, 0), (batch, heads, x.shape[2]))

        return jax.tree.map(own, self)

    def gradient(self) -> jax.Array:
        """An empty sum of gradients, filled by the second value of `tile_and_pull`."""
        return jnp.zeros_like(self.keys[0])

    def tile_and_pull(self, q_first: Any, k_first: Any, rows: int, columns: int) -> tuple[jax.Array, Pull]:
        """The tile, and the function that adds a tile's cotangent to a sum of gradients."""

        def add(total: jax.Array, cotangent: jax.Array) -> jax.Array:
            # A product, since XLA would compute the block anew for a reduction of its own.
            ones = jnp.ones((*cotangent.shape[:2], rows), cotangent.dtype)
            more = jnp.einsum("BNT,BNTS->BNS", ones, cotangent)
            here = jax.lax.dynamic_slice_in_dim(total, k_first, columns, 2) - more
            return jax.lax.dynamic_update_slice_in_dim(total, here, k_first, 2)

        return self.tile(q_first, k_first, rows, columns), add

    def cotangent(self, total: jax.Array) -> BetweenTokens:
        """A sum of gradients in the shape that JAX expects: both numbers of a sum have the same.

        What is added to a whole row moves its log-sum-exp alone: that gradient is `moved`'s, and none is left here.
        """
        none = jnp.zeros_like(self.queries[0])
        return BetweenTokens((none, none), (total, total))

    def without_queries(self) -> BetweenTokens:
        """The same bias, the sums of its queries as numbers without a gradient: `moved` has that."""
        high, low = (jax.lax.stop_gradient(x) for x in self.queries)
        return replace(self, queries=(high, low))

    def moved(self, lse: jax.Array) -> jax.Array:
        """The log-sum-exp `[B, N, T]` as it is, with its gradient to the sums of the queries."""
        return lse + (self.queries[0] - jax.lax.stop_gradient(self.queries[0]))


jax.tree_util.register_dataclass(BetweenTokens, data_fields=["queries", "keys"], meta_fields=[])


def between_tokens(
    bias: ByContent, q: jax.Array, k: jax.Array, mask: Mask, q_offset: int | jax.Array
) -> tuple[jax.Array, jax.Array, BetweenTokens] | None:
    """An encoding that scores content as a running sum: queries and keys marked where positions are, and the sum.

    `q [B, T, N, H]`, `k [B, S, K, H]`. `None` where the score is no such sum, or where the mask may hide a token
    between a query and a key that it sees, as an array or a rule of a user's own may: then each pair has tokens of its
    own between.
    """
    every = rules(mask)
    segments = [rule for rule in every if type(rule) is Segments]
    known = all(type(rule) in (Causal, Window) or (type(rule) is Segments and rule.keys is None) for rule in every)
    if bias.bias is not None or not known or len(segments) > 1 or Causal() not in every:
        return None
    k_BSNH = jnp.repeat(without_void(k)[0], bias.heads // k.shape[2], axis=2)
    fading_BNS = jax.vmap(lambda k: bias.encoding.fading(bias.params, k))(k_BSNH)
    if fading_BNS is None:
        return None
    sums = _sums(fading_BNS.astype(jnp.float32), segments[0].queries if segments else None)
    order = jnp.clip(jnp.asarray(q_offset, jnp.int32) + jnp.arange(q.shape[1], dtype=jnp.int32), 0, k.shape[1] - 1)
    q, k = (
        jnp.where((at < 0)[..., None, None], jnp.nan, x) for x, at in ((q, bias.q_positions), (k, bias.k_positions))
    )
    high, low = (jnp.take(x, order, axis=2) for x in sums)
    return q, k, BetweenTokens((high, low), sums)


def _sums(x_BNS: jax.Array, segments: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Running sums, each as two numbers; tokens of one segment stand side by side for it, and each begins anew."""
    if segments is None:
        return running(x_BNS, jnp.zeros(x_BNS.shape, bool))
    order = jnp.argsort(segments, axis=1, stable=True)
    sorted_ids = jnp.take_along_axis(segments, order, axis=1)
    starts = jnp.concatenate([jnp.ones_like(order[:, :1], bool), sorted_ids[:, 1:] != sorted_ids[:, :-1]], axis=1)
    order, starts = (jnp.broadcast_to(x[:, None, :], x_BNS.shape) for x in (order, starts))
    back = jnp.argsort(order, axis=2)
    sums = running(jnp.take_along_axis(x_BNS, order, axis=2), starts)
    high, low = (jnp.take_along_axis(x, back, axis=2) for x in sums)
    return high, low


def running(x: jax.Array, starts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The running sum along the last axis as two numbers that add up to it, from 0 wherever `starts` is true.

    >>> import numpy as np
    >>> high, low = (np.asarray(x, np.float64) for x in running(jnp.full(9, 0.1), jnp.zeros(9, bool)))
    >>> bool(abs((high + low)[-1] - 9 * np.float64(np.float32(0.1))) < 1e-12)
    True
    """

    def add(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        high = a[1] + b[1]
        # What the addition rounded away, exactly (Knuth's two-sum).
        back = high - a[1]
        low = (a[1] - (high - back)) + (b[1] - back) + a[2] + b[2]
        return a[0] | b[0], jnp.where(b[0], b[1], high), jnp.where(b[0], b[2], low)

    _, high, low = jax.lax.associative_scan(add, (starts, x, jnp.zeros_like(x)), axis=-1)
    return high, low
