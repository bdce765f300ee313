"""Masks for kernels: which blocks of pairs to visit, which of them need no mask, and the mask of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posjax.attention.masks import Causal, Mask, Segments, Window, rules

Ids = tuple[jax.Array, jax.Array]
"""The segments of queries and of keys, shaped to broadcast to a tile."""


@dataclass(frozen=True)
class Rule:
    """A mask between T queries and S keys, taken apart.

    `numbers` int32 `[2]`: the first query's index among the keys, and the window. `q_ids [b, T]` and `k_ids [b, S]`:
    one pair for each `Segments`. What is known before run time is in `q_offset` and `window` too, else they are `None`.
    """

    numbers: jax.Array
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


jax.tree_util.register_dataclass(
    Rule, data_fields=["numbers", "q_ids", "k_ids"], meta_fields=["lengths", "causal", "windowed", "q_offset", "window"]
)


def take_apart(mask: Mask, q_offset: Any, lengths: tuple[int, int]) -> Rule:
    """The rule of a mask; `lengths = (T, S)`.

    Errors: `NotImplementedError` for a mask that kernels do not know.
    """
    parts = rules(mask)
    for part in parts:
        if type(part) not in (Causal, Window, Segments):
            raise NotImplementedError(
                f"the fused backend cannot evaluate the mask {part!r} inside its kernels: they "
                "know Causal, Window, Segments and Full, and their intersections; take "
                "backend='chunked'"
            )
    sizes = [part.size for part in parts if isinstance(part, Window)]
    known = all(isinstance(size, int) for size in sizes)
    window = reduce(min if known else jnp.minimum, sizes) if sizes else 0
    segments = [_ids(part, q_offset, lengths) for part in parts if isinstance(part, Segments)]
    numbers = jnp.stack([jnp.asarray(q_offset, jnp.int32), jnp.asarray(window, jnp.int32)])
    return Rule(
        numbers,
        tuple(q for q, _ in segments),
        tuple(k for _, k in segments),
        lengths,
        any(part.causal for part in parts),
        bool(sizes),
        int(q_offset) if isinstance(q_offset, int) else None,
        int(window) if known and sizes else None,
    )


def _ids(segments: Segments, q_offset: Any, lengths: tuple[int, int]) -> Ids:
    k_ids = jnp.asarray(segments.queries if segments.keys is None else segments.keys, jnp.int32)
    at = jnp.asarray(q_offset, jnp.int32) + jnp.arange(lengths[0], dtype=jnp.int32)
    return jnp.asarray(segments.queries, jnp.int32)[:, at], k_ids[:, : lengths[1]]


class Visits(NamedTuple):
    """For each block of one side, the blocks of the other side to visit.

    `bounds` int32 `[b, blocks, 4]`: visit from the first to the fourth; those from the second to the third need no
    mask. `most` bounds the number of visits, and `parts` tells which of the three stretches is ever visited.
    """

    bounds: Any
    most: int
    parts: tuple[bool, bool, bool]


class Table(NamedTuple):
    """The visits of each block of queries and of each block of keys, and of each diagonal of blocks.

    `diagonals` int32 `[D, 3]`: query block minus key block, and the range of the query blocks to visit on it.
    """

    by_query: Visits
    by_key: Visits
    diagonals: Any


def table(rule: Rule, rows: int, columns: int) -> Table:
    """Which blocks of `rows` queries and `columns` keys to visit: numpy arrays where that is known before run time."""
    may, whole = _blocks(rule, rows, columns)
    return Table(_visits(may, whole), _visits(may.swapaxes(1, 2), whole.swapaxes(1, 2)), _diagonals(may))


def _blocks(rule: Rule, rows: int, columns: int) -> tuple[Any, Any]:
    """Whether any pair, and whether every pair of a block is allowed: bool `[b, query blocks, key blocks]`."""
    xp = np if rule.static else jnp
    (T, S), q_offset = rule.lengths, rule.numbers[0] if rule.q_offset is None else rule.q_offset
    window = rule.numbers[1] if rule.window is None else rule.window
    q_first, k_first = (xp.arange(-(-n // size), dtype=np.int32) * size for n, size in ((T, rows), (S, columns)))
    q_last = (q_offset + xp.minimum(q_first + rows, T) - 1)[None, :, None]
    k_last = (xp.minimum(k_first + columns, S) - 1)[None, None, :]
    q_first, k_end, k_first = (
        (q_offset + q_first)[None, :, None],
        (k_first + columns)[None, None, :],
        k_first[None, None],
    )
    may = xp.ones((1, q_first.shape[1], k_first.shape[2]), bool)
    whole = may & (k_end <= S)
    if rule.causal:
        may, whole = may & (k_first <= q_last), whole & (k_last <= q_first)
    if rule.windowed:
        # Differences alone: a window may be the largest int32 there is, and then any sum with it wraps.
        may = may & (q_first - k_last < window) & (k_first - q_last < window)
        whole = whole & (q_last - k_first < window) & (k_last - q_first < window)
    for q_ids, k_ids in zip(rule.q_ids, rule.k_ids, strict=True):
        (q_low, q_high), (k_low, k_high) = _extremes(q_ids, rows), _extremes(k_ids, columns)
        q_low, q_high, k_low, k_high = q_low[:, :, None], q_high[:, :, None], k_low[:, None], k_high[:, None]
        may = may & (q_low <= k_high) & (k_low <= q_high) & ((k_low != 0) | (k_high != 0))
        whole = whole & (q_low == q_high) & (k_low == k_high) & (q_low == k_low)
    return may, whole & may


def _extremes(ids: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The lowest and the highest segment of each block."""
    padded = jnp.pad(ids, ((0, 0), (0, -ids.shape[1] % size)), mode="edge").reshape(ids.shape[0], -1, size)
    return padded.min(-1), padded.max(-1)


def _visits(may: Any, whole: Any) -> Visits:
    xp, blocks = (np if isinstance(may, np.ndarray) else jnp), may.shape[2]
    seen, free = may.any(-1), whole.any(-1)
    first = xp.where(seen, xp.argmax(may, -1), 0)
    last = xp.where(seen, blocks - xp.argmax(may[..., ::-1], -1), 0)
    begin = xp.where(free, xp.argmax(whole, -1), first)
    after = ~whole & (xp.arange(blocks)[None, None] >= begin[..., None])
    end = xp.where(free, xp.where(after.any(-1), xp.argmax(after, -1), blocks), first)
    if xp is jnp:
        return Visits(jnp.stack([first, begin, end, last], -1).astype(jnp.int32), blocks, (True, True, True))
    if (free & (begin > first)).any():  # What is masked throughout goes where something is masked anyway.
        begin, end = np.where(free, begin, last), np.where(free, end, last)
    bounds = np.stack([first, begin, end, last], -1).astype(np.int32)
    early, free, late = (bool(n > 0) for n in np.diff(bounds).max((0, 1)))
    return Visits(bounds, max(1, int((last - first).max())), (early, free, late))


def _diagonals(may: Any) -> Any:
    """Diagonals of blocks, from the one below all keys to the one above; those never seen are left out if known."""
    queries, keys = may.shape[1:]
    offsets = np.arange(1 - keys, queries, dtype=np.int32)
    low, high = np.maximum(offsets, 0), np.minimum(offsets + keys, queries)
    if isinstance(may, np.ndarray):
        seen = np.array([may[0].diagonal(-offset).any() for offset in offsets])
        offsets, low, high = offsets[seen], low[seen], high[seen]
    return np.stack([offsets, low, high], -1).astype(np.int32)


def linear(rule: Rule, q_index: jax.Array, k_index: jax.Array, numbers: Any) -> jax.Array:
    """Minus the distance of a tile's pairs in float32, exact up to 2^24 tokens and cheaper than integers."""
    q_offset = numbers[0] if rule.q_offset is None else rule.q_offset
    return k_index.astype(jnp.float32) - (q_index + q_offset).astype(jnp.float32)


def near(rule: Rule, distance: jax.Array, numbers: Any) -> jax.Array | None:
    """The part of a tile's mask that depends on `query - key` alone, with queries counted from 0.

    `numbers[0]` and `numbers[1]` are read only where they are not known before run time.
    """
    distance = distance + (numbers[0] if rule.q_offset is None else rule.q_offset)
    seen = [distance >= 0] if rule.causal else []
    if rule.windowed:
        seen.append(jnp.abs(distance) < (numbers[1] if rule.window is None else rule.window))
    return reduce(jnp.logical_and, seen) if seen else None


def real(rule: Rule, k_index: jax.Array, ids: Sequence[Ids]) -> jax.Array:
    """The rest of a tile's mask: keys that are no padding, and segments, which broadcast to the tile."""
    return reduce(jnp.logical_and, [(q == k) & (k != 0) for q, k in ids], k_index < rule.lengths[1])


def allowed(rule: Rule, q_index: jax.Array, k_index: jax.Array, numbers: Any, ids: Sequence[Ids]) -> jax.Array:
    """The mask of a tile inside a kernel; indices and segments broadcast to the tile in either orientation."""
    seen = near(rule, q_index - k_index, numbers)
    return real(rule, k_index, ids) if seen is None else seen & real(rule, k_index, ids)
