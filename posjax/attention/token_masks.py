"""Masks that single out tokens: those of one document, the first ones, those of one chunk, and chosen ones.

They are made to be joined to others: `Causal() & (Window(8) | First(4))` is a window with four tokens that all see.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from posjax.attention.masks import Causal, Mask
from posjax.errors import InputError
from posjax.positions import Index
from posjax.trees import register


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

    @property
    def key_ids(self) -> Any:
        """The ids of keys, which are those of queries unless they have their own."""
        if self.keys is None:
            return self.queries
        return self.keys

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        q = self.queries[:, q_index]
        k = self.key_ids[:, k_index]
        queries = q[:, :, None]
        keys = k[:, None, :]
        same = queries == keys
        # Only keys are asked whether they are padding: a query of segment 0 meets no other id.
        real = keys != 0
        return same & real

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        def span(ids: Any, blocks: jax.Array) -> tuple[jax.Array, jax.Array]:
            ids = jnp.asarray(ids)
            held = ids[:, blocks]
            # Padding is no segment: it may not stretch the span of a block.
            padding = held == 0
            limits = jnp.iinfo(held.dtype)
            segments = jnp.where(padding, limits.max, held)
            low = segments.min(-1)
            high = held.max(-1)
            return low, high

        q_low, q_high = span(self.queries, q_blocks)
        k_low, k_high = span(self.key_ids, k_blocks)
        # Two spans that overlap need not share an id. Then the block is computed and masked, which is only slower.
        reaches_up = q_low[:, :, None] <= k_high[:, None, :]
        reaches_down = k_low[:, None, :] <= q_high[:, :, None]
        overlap = reaches_up & reaches_down
        return jnp.any(overlap, axis=0)

    def part(self, first: Index, count: int) -> Mask:
        queries = _rows_of(self.queries, first, count)
        if self.keys is None:
            return replace(self, queries=queries)
        keys = _rows_of(self.keys, first, count)
        return replace(self, queries=queries, keys=keys)


@dataclass(frozen=True)
class First(Mask):
    """Every query sees the first `size` keys: a number for all rows of the batch, or integers `[B]`.

    >>> import jax.numpy as jnp
    >>> (Causal() | First(2)).allowed(jnp.arange(3), jnp.arange(3)).astype(int).tolist()
    [[[1, 1, 0], [1, 1, 0], [1, 1, 1]]]
    """

    size: Any

    def __post_init__(self) -> None:
        _settle_size(self, least=0)

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        seen = k_index[None, None, :] < self._sizes()[:, None, None]
        return jnp.broadcast_to(seen, (seen.shape[0], len(q_index), len(k_index)))

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        return not isinstance(self.size, int) or k_first < self.size

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        seen = k_blocks[:, 0] < jnp.max(self._sizes())
        return jnp.broadcast_to(seen[None], (len(q_blocks), len(k_blocks)))

    def part(self, first: Index, count: int) -> Mask:
        if jnp.ndim(self.size) == 0:
            return self
        return replace(self, size=_rows_of(self.size, first, count))

    def _sizes(self) -> jax.Array:
        return jnp.asarray(self.size, jnp.int32).reshape(-1)


def prefix(size: Index) -> Mask:
    """The mask of a prefix language model: the first `size` tokens see each other, and what follows is causal.

    `size` is a number, or integers `[B]` with the prefix of each row. It is `Causal() | First(size)`.

    Source: Raffel et al. 2020, arXiv:1910.10683, section 3.2.1.

    >>> prefix(4)
    Causal() | First(size=4)
    """
    return Causal() | First(size)


@dataclass(frozen=True)
class Chunked(Mask):
    """A query sees the keys of its own chunk of `size` tokens, `q // size == k // size`; intersect it with `Causal()`.

    Source: the local layers of Llama 4 (Meta 2025, Llama 4 model code, `attention_chunk_size`).

    >>> import jax.numpy as jnp
    >>> Chunked(2).allowed(jnp.arange(3), jnp.arange(3)).astype(int).tolist()
    [[[1, 1, 0], [1, 1, 0], [0, 0, 1]]]
    """

    size: Any

    def __post_init__(self) -> None:
        _settle_size(self, least=1)

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        return self._of(q_index)[None, :, None] == self._of(k_index)[None, None, :]

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        if not isinstance(self.size, int):
            return True
        reaches_down = k_first // self.size <= q_last // self.size
        reaches_up = q_first // self.size <= k_last // self.size
        return reaches_down and reaches_up

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        queries = self._of(q_blocks)
        keys = self._of(k_blocks)
        reaches_down = keys[None, :, 0] <= queries[:, -1, None]
        reaches_up = queries[:, 0, None] <= keys[None, :, -1]
        return reaches_down & reaches_up

    def part(self, first: Index, count: int) -> Mask:
        return self

    def _of(self, index: jax.Array) -> jax.Array:
        """The number of each token's chunk."""
        return index // jnp.asarray(self.size, jnp.int32)


@dataclass(frozen=True)
class Global(Mask):
    """Chosen tokens see every key, and every query sees them: `tokens [B, S]` or `[1, S]` bool, by a token's index.

    Source: Beltagy et al. 2020, arXiv:2004.05150, section 3.1, with `Window(n) | Global(tokens)`.

    >>> import jax.numpy as jnp
    >>> Global(jnp.array([[False, True, False]])).allowed(jnp.arange(3), jnp.arange(3)).astype(int).tolist()
    [[[0, 1, 0], [1, 1, 1], [0, 1, 0]]]
    """

    tokens: Any

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        tokens = jnp.asarray(self.tokens)
        queries = jnp.take(tokens, q_index, axis=1, mode="clip")
        keys = jnp.take(tokens, k_index, axis=1, mode="clip")
        return queries[:, :, None] | keys[:, None, :]

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        of_any_row = jnp.any(jnp.asarray(self.tokens), axis=0)

        def some(blocks: jax.Array) -> jax.Array:
            return jnp.any(jnp.take(of_any_row, blocks, mode="clip"), axis=-1)

        return some(q_blocks)[:, None] | some(k_blocks)[None, :]

    def part(self, first: Index, count: int) -> Mask:
        return replace(self, tokens=_rows_of(self.tokens, first, count))


def _settle_size(mask: First | Chunked, least: int) -> None:
    """Makes a size of numpy Python's own, and refuses what is no size; arrays are looked at where a call is checked."""
    size = mask.size
    if isinstance(size, np.integer):
        size = int(size)
        object.__setattr__(mask, "size", size)
    wrong = isinstance(size, int) and (size < least or isinstance(size, bool))
    if wrong or isinstance(size, float | str):
        raise InputError(
            f"{type(mask).__name__} got size={size!r}: needed is a whole number of tokens, {least} or more"
        )


def _rows_of(array: Any, first: Index, count: int) -> jax.Array:
    """`count` rows of the batch from `first` on, or the one row that all of them share."""
    array = jnp.asarray(array)
    if array.shape[0] == 1:
        return array
    return lax.dynamic_slice_in_dim(array, first, count)


def is_known(mask: Mask) -> bool:
    """Whether a rule of this file is known before anything runs, so that `may_see` says all there is to say."""
    return type(mask) in (First, Chunked) and type(mask.size) is int  # type: ignore[attr-defined]


for _mask, _data in (
    (Segments, ["queries", "keys"]),
    (First, ["size"]),
    (Chunked, ["size"]),
    (Global, ["tokens"]),
):
    register(_mask, _data)
