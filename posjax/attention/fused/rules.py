"""Masks for kernels: which blocks of pairs to visit, which of them need no mask, and the mask of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posjax.attention.masks import Causal, Mask, Window, indices_to, rules
from posjax.attention.token_masks import Segments
from posjax.positions import Index

Ids = tuple[jax.Array, jax.Array]
"""The segments of queries and of keys, shaped to broadcast to a tile."""


@dataclass(frozen=True)
class Rule:
    """A mask between T queries and S keys, taken apart.

    `scalars` int32 `[2]`: the first query's index among the keys, and the window. `q_ids [b, T]` and `k_ids [b, S]`:
    one pair for each `Segments`. What is known before run time is in `q_offset` and `window` too, else they are `None`.
    """

    scalars: jax.Array
    q_ids: tuple[jax.Array, ...]
    k_ids: tuple[jax.Array, ...]
    lengths: tuple[int, int]
    causal: bool
    windowed: bool
    q_offset: int | None
    window: int | None

    @property
    def static(self) -> bool:
        """Whether the blocks to visit are known before run time."""
        return self.q_offset is not None and not self.q_ids and (not self.windowed or self.window is not None)

    def offset_by(self, scalars: Any) -> Any:
        """The first query's index: a constant where it is known, so that a kernel reads nothing for it."""
        if self.q_offset is None:
            return scalars[0]
        return self.q_offset

    def window_by(self, scalars: Any) -> Any:
        """The window: a constant where it is known."""
        if self.window is None:
            return scalars[1]
        return self.window


jax.tree_util.register_dataclass(
    Rule, data_fields=["scalars", "q_ids", "k_ids"], meta_fields=["lengths", "causal", "windowed", "q_offset", "window"]
)


def take_apart(mask: Mask, q_offset: Index, lengths: tuple[int, int]) -> Rule:
    """The rule of a mask; `lengths = (T, S)`.

    Errors: `NotImplementedError` for a mask that kernels do not know.
    """
    every = rules(mask)
    for one in every:
        # The type itself: a class that derives from one of these may let other pairs through.
        if type(one) not in (Causal, Window, Segments):
            raise NotImplementedError(
                f"the fused backend cannot evaluate the mask {one!r} inside its kernels: they "
                "know Causal, Window, Segments and Full, and their intersections; take "
                "backend='chunked'"
            )
    window, known_window = _smallest([one.size for one in every if isinstance(one, Window)])
    segments = [_ids(one, q_offset, lengths) for one in every if isinstance(one, Segments)]
    known_offset = None
    if isinstance(q_offset, int):
        known_offset = int(q_offset)
    return Rule(
        scalars=jnp.stack([jnp.asarray(q_offset, jnp.int32), jnp.asarray(window, jnp.int32)]),
        q_ids=tuple(q for q, _ in segments),
        k_ids=tuple(k for _, k in segments),
        lengths=lengths,
        causal=any(one.causal for one in every),
        windowed=any(isinstance(one, Window) for one in every),
        q_offset=known_offset,
        window=known_window,
    )


def _smallest(sizes: Sequence[Any]) -> tuple[Any, int | None]:
    """The smallest of some windows, 0 without one, and the same once more where it is known before run time."""
    if not sizes:
        return 0, None
    if all(isinstance(size, int) for size in sizes):
        return min(sizes), int(min(sizes))
    return reduce(jnp.minimum, sizes), None


def _ids(segments: Segments, q_offset: Index, lengths: tuple[int, int]) -> Ids:
    """The segments of the T queries, which are the tokens from `q_offset` on, and of the S keys."""
    queries, keys = lengths
    offset = jnp.asarray(q_offset, jnp.int32)
    q_all = jnp.asarray(segments.queries, jnp.int32)
    k_all = q_all
    if segments.keys is not None:
        k_all = jnp.asarray(segments.keys, jnp.int32)
    at = offset + indices_to(queries)
    q_ids = q_all[:, at]
    k_ids = k_all[:, :keys]
    return q_ids, k_ids


class Visits(NamedTuple):
    """For each block of one side, the blocks of the other side to visit.

    `bounds` int32 `[b, blocks, 4]`: visit from the first to the fourth; those from the second to the third need no
    mask. `most` bounds the number of visits, and `stretches` tells which of the three stretches is ever visited.
    """

    bounds: Any
    most: int
    stretches: tuple[bool, bool, bool]


class VisitTable(NamedTuple):
    """The visits of each block of queries and of each block of keys, and of each diagonal of blocks.

    `diagonals` int32 `[D, 3]`: query block minus key block, and the range of the query blocks to visit on it.
    """

    by_query: Visits
    by_key: Visits
    diagonals: Any


def table(rule: Rule, rows: int, columns: int) -> VisitTable:
    """Which blocks of `rows` queries and `columns` keys to visit: numpy arrays where that is known before run time."""
    some_seen, all_seen = _blocks(rule, rows, columns)
    by_query = _visits(some_seen, all_seen)
    by_key = _visits(some_seen.swapaxes(1, 2), all_seen.swapaxes(1, 2))
    return VisitTable(by_query, by_key, _diagonals(some_seen))


def _blocks(rule: Rule, rows: int, columns: int) -> tuple[Any, Any]:
    """Whether any pair, and whether every pair of a block is allowed: bool `[b, query blocks, key blocks]`."""
    # numpy computes at once, before anything is traced: then kernels leave out the stretches that no block has.
    xp: Any = jnp
    if rule.static:
        xp = np
    T, S = rule.lengths
    q_offset = rule.offset_by(rule.scalars)
    q_start = xp.arange(-(-T // rows), dtype=np.int32) * rows
    k_start = xp.arange(-(-S // columns), dtype=np.int32) * columns
    q_first = (q_offset + q_start)[None, :, None]
    q_last = (q_offset + xp.minimum(q_start + rows, T) - 1)[None, :, None]
    k_first = k_start[None, None]
    k_last = (xp.minimum(k_start + columns, S) - 1)[None, None]
    k_end = (k_start + columns)[None, None]
    some_seen = xp.ones((1, q_start.shape[0], k_start.shape[0]), bool)
    # A last block with padding needs its mask, whatever the rules say: no query may see what is no key.
    all_seen = some_seen & (k_end <= S)
    if rule.causal:
        some_seen = some_seen & (k_first <= q_last)
        all_seen = all_seen & (k_last <= q_first)
    if rule.windowed:
        window = rule.window_by(rule.scalars)
        # Differences alone: a window may be the largest int32 there is, and then any sum with it wraps.
        some_seen = some_seen & (q_first - k_last < window) & (k_first - q_last < window)
        all_seen = all_seen & (q_last - k_first < window) & (k_last - q_first < window)
    for q_ids, k_ids in zip(rule.q_ids, rule.k_ids, strict=True):
        q_low, q_high = _extremes(q_ids, rows)
        k_low, k_high = _extremes(k_ids, columns)
        meet, alike = _segments_meet(q_low, q_high, k_low, k_high)
        some_seen = some_seen & meet
        all_seen = all_seen & alike
    return some_seen, all_seen & some_seen


def _segments_meet(q_low: Any, q_high: Any, k_low: Any, k_high: Any) -> tuple[Any, Any]:
    """Whether two blocks may have a segment in common, and whether both are of one and the same.

    By the extremes of each block of queries `[b, query blocks]` and of keys `[b, key blocks]`.
    """
    q_low = q_low[:, :, None]
    q_high = q_high[:, :, None]
    k_low = k_low[:, None]
    k_high = k_high[:, None]
    overlap = (q_low <= k_high) & (k_low <= q_high)
    # Segment 0 is padding, which nothing sees.
    some_key = (k_low != 0) | (k_high != 0)
    one_segment = (q_low == q_high) & (k_low == k_high) & (q_low == k_low)
    return overlap & some_key, one_segment


def _extremes(ids: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The lowest and the highest segment of each block."""
    # Repeating the last segment changes no extreme, where a 0 would make every last block look like padding.
    padded = jnp.pad(ids, ((0, 0), (0, -ids.shape[1] % size)), mode="edge")
    blocks = padded.reshape(ids.shape[0], -1, size)
    lowest = blocks.min(-1)
    highest = blocks.max(-1)
    return lowest, highest


def _visits(some_seen: Any, all_seen: Any) -> Visits:
    """The visits along the last axis; only the first run of blocks that need no mask is taken for the free one."""
    xp: Any = jnp
    if isinstance(some_seen, np.ndarray):
        xp = np
    blocks = some_seen.shape[2]
    seen = some_seen.any(-1)
    free = all_seen.any(-1)
    first = xp.where(seen, xp.argmax(some_seen, -1), 0)
    last = xp.where(seen, blocks - xp.argmax(some_seen[..., ::-1], -1), 0)
    begin = xp.where(free, xp.argmax(all_seen, -1), first)
    after_begin = xp.arange(blocks)[None, None] >= begin[..., None]
    masked_again = ~all_seen & after_begin
    free_until = xp.where(masked_again.any(-1), xp.argmax(masked_again, -1), blocks)
    end = xp.where(free, free_until, first)
    if xp is jnp:
        bounds = jnp.stack([first, begin, end, last], -1).astype(jnp.int32)
        # Nothing is known of them yet, so a kernel has the code of all three stretches.
        return Visits(bounds, blocks, (True, True, True))
    if (free & (begin > first)).any():
        # Some block has a masked stretch before its free one. What is masked throughout then goes there too, so that
        # one stretch less is compiled.
        begin = np.where(free, begin, last)
        end = np.where(free, end, last)
    bounds = np.stack([first, begin, end, last], -1).astype(np.int32)
    before, free_ones, after = np.diff(bounds).max((0, 1)) > 0
    most = max(1, int((last - first).max()))
    return Visits(bounds, most, (bool(before), bool(free_ones), bool(after)))


def _diagonals(some_seen: Any) -> Any:
    """Diagonals of blocks, from the one below all keys to the one above; those never seen are left out if known."""
    queries, keys = some_seen.shape[1:]
    offsets = np.arange(1 - keys, queries, dtype=np.int32)
    low = np.maximum(offsets, 0)
    high = np.minimum(offsets + keys, queries)
    if isinstance(some_seen, np.ndarray):
        seen = np.array([some_seen[0].diagonal(-offset).any() for offset in offsets])
        offsets = offsets[seen]
        low = low[seen]
        high = high[seen]
    return np.stack([offsets, low, high], -1).astype(np.int32)


def minus_distance(rule: Rule, q_index: jax.Array, k_index: jax.Array, scalars: Any) -> jax.Array:
    """Minus the distance of a tile's pairs in float32, exact up to 2^24 tokens and cheaper than integers."""
    q_order = q_index + rule.offset_by(scalars)
    q = q_order.astype(jnp.float32)
    k = k_index.astype(jnp.float32)
    return k - q


def near(rule: Rule, distance: jax.Array, scalars: Any) -> jax.Array | None:
    """The part of a tile's mask that depends on `query - key` alone, with queries counted from 0.

    `scalars` are read only where they are not known before run time.
    """
    distance = distance + rule.offset_by(scalars)
    seen = []
    if rule.causal:
        seen.append(distance >= 0)
    if rule.windowed:
        seen.append(jnp.abs(distance) < rule.window_by(scalars))
    if not seen:
        return None
    return reduce(jnp.logical_and, seen)


def real(rule: Rule, k_index: jax.Array, ids: Sequence[Ids]) -> jax.Array:
    """The rest of a tile's mask: keys that are no padding, and segments, which broadcast to the tile."""
    seen = k_index < rule.lengths[1]
    for q, k in ids:
        same = q == k
        is_token = k != 0
        seen = jnp.logical_and(seen, same & is_token)
    return seen


def allowed(rule: Rule, q_index: jax.Array, k_index: jax.Array, scalars: Any, ids: Sequence[Ids]) -> jax.Array:
    """The mask of a tile inside a kernel; indices and segments broadcast to the tile in either orientation."""
    seen = near(rule, q_index - k_index, scalars)
    if seen is None:
        return real(rule, k_index, ids)
    return seen & real(rule, k_index, ids)
