"""Masks as rules: small values that say which keys a query may see, made dense only for the tile that asks.

A rule is about token order (indices), not about positions: an encoding may place tokens anywhere, the order stays.
`&` intersects. Numbers and arrays inside a mask are data: `Window(n)` with another `n` does not compile again when the
mask is an argument of a jitted function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from posjax.errors import InputError


@dataclass(frozen=True)
class Mask:
    """A rule. `allowed` is the definition; `may_see` and `live` say what may be skipped, before and at run time."""

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        """Whether query `q_index[t]` may see key `k_index[s]`: bool `[b, T, S]`, with b the
        batch or 1; `None`: everything."""
        raise NotImplementedError(f"{type(self).__name__} defines no rule")

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        """Whether any pair of the block can be allowed, as far as is known before run time."""
        return True

    def live(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        """Whether any pair of two blocks can be allowed, at run time: the rising token indices of blocks, `[q, t]` and
        `[k, s]`, to bool `[q, k]`; `None`: it cannot tell."""
        return None

    def part(self, first: Any, count: int) -> Mask:
        """The same rule for `count` rows of the batch from `first` on."""
        return SomeRows(self, first, count)

    @property
    def causal(self) -> bool:
        """Whether no query sees a later key."""
        return False

    # An array on the left leaves `&` to the mask on the right.
    __array_ufunc__ = None

    def __and__(self, other: Any) -> Mask:
        return Both(self, as_mask(other))

    def __rand__(self, other: Any) -> Mask:
        return as_mask(other) & self


@dataclass(frozen=True)
class Full(Mask):
    """Every query sees every key."""

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        return None

    def part(self, first: Any, count: int) -> Mask:
        return self


@dataclass(frozen=True)
class Causal(Mask):
    """A query sees itself and the keys before it.

    >>> import jax.numpy as jnp
    >>> Causal().allowed(jnp.arange(2), jnp.arange(2)).tolist()
    [[[True, False], [True, True]]]
    """

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        return q_index[None, :, None] >= k_index[None, None, :]

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        return k_first <= q_last

    def live(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        return k_blocks[None, :, 0] <= q_blocks[:, -1, None]

    def part(self, first: Any, count: int) -> Mask:
        return self

    @property
    def causal(self) -> bool:
        return True


@dataclass(frozen=True)
class Window(Mask):
    """A query sees keys fewer than `size` tokens away, on either side; with `Causal()`, itself and `size - 1` before.

    >>> import jax.numpy as jnp
    >>> (Causal() & Window(2)).allowed(jnp.arange(3), jnp.arange(3)).tolist()
    [[[True, False, False], [True, True, False], [False, True, True]]]
    """

    size: Any

    def __post_init__(self) -> None:
        if isinstance(self.size, np.integer):
            object.__setattr__(self, "size", int(self.size))
        wrong = isinstance(self.size, int) and (self.size < 1 or isinstance(self.size, bool))
        if wrong or isinstance(self.size, float | str):
            raise InputError(
                f"Window got size={self.size!r}: needed is a whole number of tokens, 1 or more, since the "
                "query itself counts"
            )

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        return jnp.abs(q_index[None, :, None] - k_index[None, None, :]) < jnp.asarray(self.size, jnp.int32)

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        # A traced size is unknown until run time, so nothing can be skipped for it.
        if not isinstance(self.size, int):
            return True
        return k_last > q_first - self.size and k_first < q_last + self.size

    def live(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        # Differences alone: a size may be the largest int32 there is, and then any sum with it wraps.
        back = q_blocks[:, 0, None] - k_blocks[None, :, -1]
        size = jnp.asarray(self.size, jnp.int32)
        return (back < size) & (k_blocks[None, :, 0] - q_blocks[:, -1, None] < size)

    def part(self, first: Any, count: int) -> Mask:
        return self


@dataclass(frozen=True)
class Segments(Mask):
    """A query sees the keys of its own segment; segment 0 is padding, which nothing sees and which sees nothing.

    `queries` and `keys [B, S]`, or `[1, S]` for all rows alike, are integers or booleans looked up by a token's index,
    so in a step of decoding both span the whole cache; `keys` defaults to `queries`. Where queries and keys are other
    sequences, as in cross-attention, `queries` is `[B, T]` and `keys` `[B, S]`. A row that sees nothing comes out as 0.
    Numbers that rise along the row let backends skip every block between two documents.
    """

    queries: Any
    keys: Any = None

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        q, k = self.queries[:, q_index], (self.queries if self.keys is None else self.keys)[:, k_index]
        return (q[:, :, None] == k[:, None, :]) & (k[:, None, :] != 0)

    def live(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        def span(ids: Any, blocks: jax.Array) -> tuple[jax.Array, jax.Array]:
            held = jnp.asarray(ids)[:, blocks]
            # Padding is no segment: it may not stretch the span of a block.
            return jnp.where(held == 0, jnp.iinfo(held.dtype).max, held).min(-1), held.max(-1)

        q_low, q_high = span(self.queries, q_blocks)
        k_low, k_high = span(self.queries if self.keys is None else self.keys, k_blocks)
        meet = (q_low[:, :, None] <= k_high[:, None, :]) & (k_low[:, None, :] <= q_high[:, :, None])
        return jnp.any(meet, axis=0)

    def part(self, first: Any, count: int) -> Mask:
        def own(ids: Any) -> jax.Array:
            return ids if ids.shape[0] == 1 else jax.lax.dynamic_slice_in_dim(jnp.asarray(ids), first, count)

        return Segments(own(self.queries), None if self.keys is None else own(self.keys))


@dataclass(frozen=True)
class Dense(Mask):
    """The pairs that an array allows: bool `[b, T, S]`, b the batch or 1, of the last T of S tokens; by `as_mask`."""

    pairs: Any
    first: Any = None
    """The first query's index among the keys; `held` puts in the call's own."""

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        _, T, S = self.pairs.shape
        first = max(S - T, 0) if self.first is None else self.first
        rows = jnp.take(self.pairs, q_index - first, axis=1, mode="clip")
        return jnp.take(rows, k_index, axis=2, mode="clip")

    def __repr__(self) -> str:
        return f"an array of shape {self.pairs.shape}"

    @property
    def causal(self) -> bool:
        if isinstance(self.pairs, core.Tracer):
            return False
        _, T, S = self.pairs.shape
        first = S - T if self.first is None else self.first
        return isinstance(first, int) and not np.triu(np.asarray(self.pairs), first + 1).any()


@dataclass(frozen=True)
class Both(Mask):
    """The intersection of two rules, what `&` makes."""

    first: Mask
    second: Mask

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        rules = [rule for m in (self.first, self.second) if (rule := m.allowed(q_index, k_index)) is not None]
        return rules[0] & rules[1] if len(rules) == 2 else rules[0] if rules else None

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        return all(m.may_see(q_first, q_last, k_first, k_last) for m in (self.first, self.second))

    def live(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        told = [live for m in (self.first, self.second) if (live := m.live(q_blocks, k_blocks)) is not None]
        return told[0] & told[1] if len(told) == 2 else told[0] if told else None

    def part(self, first: Any, count: int) -> Mask:
        return Both(self.first.part(first, count), self.second.part(first, count))

    @property
    def causal(self) -> bool:
        return self.first.causal or self.second.causal


@dataclass(frozen=True)
class SomeRows(Mask):
    """A rule for `count` rows of the batch from `first` on, where its arrays span more: a part by `Mask.part`."""

    mask: Mask
    first: Any
    count: int

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        seen = self.mask.allowed(q_index, k_index)
        if seen is None or seen.shape[0] in (1, self.count):
            return seen
        return jax.lax.dynamic_slice_in_dim(seen, self.first, self.count)

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        return self.mask.may_see(q_first, q_last, k_first, k_last)

    def live(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        return self.mask.live(q_blocks, k_blocks)

    @property
    def causal(self) -> bool:
        return self.mask.causal


def rules(mask: Mask) -> tuple[Mask, ...]:
    """The rules that a mask intersects, without `Full()`, in the order they were written.

    >>> rules(Causal() & (Window(4) & Full()))
    (Causal(), Window(size=4))
    """
    if isinstance(mask, Both):
        return rules(mask.first) + rules(mask.second)
    return () if isinstance(mask, Full) else (mask,)


def as_mask(given: Any) -> Mask:
    """The mask itself, or a boolean array `[T, S]` or `[B, T, S]`, true where a query may see a key, as a mask.

    Errors: `InputError` for anything else: `None`, a class, an array of numbers or of another rank.

    >>> (Causal() & jnp.ones((2, 2), bool)).allowed(jnp.arange(2), jnp.arange(2)).tolist()
    [[[True, False], [True, True]]]
    """
    if isinstance(given, Mask):
        return given
    if not hasattr(given, "shape") or given.dtype != bool or given.ndim not in (2, 3):
        what = f"{given.dtype} of shape {given.shape}" if hasattr(given, "shape") else repr(given)
        raise InputError(f"mask is {what}: needed is a mask such as Causal(), or a boolean array [T, S] or [B, T, S]")
    return Dense(given if given.ndim == 3 else given[None])


def held(mask: Any, sizes: dict[str, int], q_offset: Any) -> Mask:
    """The mask, its arrays held to the batch B, the T queries from `q_offset` on and the S keys of a call.

    Errors: `InputError` names the rule, the shape that it has, and the one that is needed.
    """
    mask = as_mask(mask)
    if isinstance(mask, Both):
        return Both(held(mask.first, sizes, q_offset), held(mask.second, sizes, q_offset))
    if any(leaf is mask for leaf in jax.tree.leaves(mask)):
        raise InputError(
            f"{type(mask).__name__} is no pytree: register it with jax.tree_util.register_dataclass, its "
            "arrays and numbers as data_fields"
        )
    if isinstance(mask, Segments):
        return _held_segments(mask, sizes, q_offset)
    if isinstance(mask, Dense):
        B, T, S = (sizes[letter] for letter in "BTS")
        if mask.pairs.shape[0] not in (1, B) or mask.pairs.shape[1:] != (T, S):
            raise InputError(
                f"mask is an array of shape {mask.pairs.shape} for {B} rows of {T} queries and {S} keys: "
                f"needed is [{T}, {S}] or [{B}, {T}, {S}]"
            )
        return Dense(mask.pairs, q_offset)
    if isinstance(mask, Window):
        size = mask.size
        whole = isinstance(size, int) or (
            hasattr(size, "dtype") and jnp.issubdtype(size.dtype, jnp.integer) and size.ndim == 0
        )
        if not whole or (not isinstance(size, core.Tracer) and not 1 <= int(size) < 2**31):
            raise InputError(
                f"Window got size={size!r}: needed is a whole number of tokens, 1 or more, since the "
                "query itself counts"
            )
    return mask


def _held_segments(mask: Segments, sizes: dict[str, int], q_offset: Any) -> Segments:
    B, T, S = (sizes[letter] for letter in "BTS")
    queries = ids_of(mask.queries, "queries", B)
    keys = queries if mask.keys is None else ids_of(mask.keys, "keys", B)
    known = isinstance(q_offset, int)
    past = known and queries.shape[1] == S and q_offset + T > S
    if keys.shape[1] != S or queries.shape[1] not in (S, T) or (known and q_offset < 0) or past:
        raise InputError(
            f"Segments got ids of shape {queries.shape} for queries and {keys.shape} for keys: {T} "
            f"queries and {S} keys need [B, {S}] for both, or [B, {T}] and [B, {S}] of their own"
        )
    if queries.shape[1] != S:  # A sequence of its own: its first id is looked up at the first query's index.
        room = jnp.zeros((queries.shape[0], max(S, T)), jnp.int32)
        queries = jax.lax.dynamic_update_slice_in_dim(room, queries, q_offset, 1)
    return Segments(queries, None if mask.keys is None else keys)


def ids_of(ids: Any, name: str, batch: int) -> jax.Array:
    """The ids of segments as int32 `[B, S]`, B the batch or 1.

    Errors: `InputError` for another shape, type or range.
    """
    ids = ids if hasattr(ids, "dtype") else np.asarray(ids)
    whole = jnp.issubdtype(ids.dtype, jnp.integer) or ids.dtype == bool
    wide = whole and not isinstance(ids, core.Tracer) and ids.size and ids.dtype.itemsize > 4
    low, high = (int(np.asarray(ids).min()), int(np.asarray(ids).max())) if wide else (0, 0)
    if high >= 2**31 or low < -(2**31):
        raise InputError(
            f"Segments got {name} from {low} to {high}: needed are numbers of int32, in which others "
            "would fall together"
        )
    if not whole or ids.ndim != 2 or ids.shape[0] not in (1, batch):
        raise InputError(
            f"Segments got {name} of shape {ids.shape} and type {ids.dtype}: needed are integers or "
            f"booleans [B, S], with B of {batch} or 1"
        )
    return jnp.asarray(ids).astype(jnp.int32)


for _mask, _data in (
    (Full, []),
    (Causal, []),
    (Window, ["size"]),
    (Segments, ["queries", "keys"]),
    (Dense, ["pairs", "first"]),
    (Both, ["first", "second"]),
):
    jax.tree_util.register_dataclass(_mask, data_fields=_data, meta_fields=[])
jax.tree_util.register_dataclass(SomeRows, data_fields=["mask", "first"], meta_fields=["count"])
