"""Which blocks of queries and keys meet: decided before run time where it can be, and at run time where not."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posjax.attention.masks import Both, Causal, Either, Mask, Window, indices_to, rules
from posjax.attention.token_masks import is_known
from posjax.positions import Index


class BlockGrid(NamedTuple):
    """T queries and S keys, cut into blocks of `rows` and `columns`."""

    queries: int
    keys: int
    rows: int
    columns: int


def visited_pairs(mask: Mask, q_offset: Index, grid: BlockGrid) -> np.ndarray:
    """The (query block, key block) pairs that may hold an allowed pair, row by row, int32 `[pairs, 2]`."""
    T, S, rows, columns = grid
    q_blocks, k_blocks = -(-T // rows), -(-S // columns)
    every = [(i, j) for i in range(q_blocks) for j in range(k_blocks)]
    if isinstance(q_offset, int):  # A traced q_offset is unknown until run time: then every block is visited.

        def seen(i: int, j: int) -> bool:
            start = i * rows
            end = min(start + rows, T)
            q_first = q_offset + start
            q_last = q_offset + end - 1
            k_first = j * columns
            k_last = k_first + columns - 1
            return mask.may_see(q_first, q_last, k_first, k_last)

        every = [pair for pair in every if seen(*pair)]
    return np.array(every, np.int32).reshape(-1, 2)


def live_pairs(mask: Mask, q_offset: Index, grid: BlockGrid) -> tuple[jax.Array, Any]:
    """The pairs to visit, those that can hold an allowed pair first, and how many these are; `None`: all of them.

    What is known before run time has made the list short already. Segments, and a traced q_offset or window, are known
    at run time only: then the loop ends early.
    """
    visited = visited_pairs(mask, q_offset, grid)
    pairs = jnp.asarray(visited)
    if pairs.shape[0] < 2 or (isinstance(q_offset, int) and all(map(_is_static, rules(mask)))):
        return pairs, None

    def tokens(length: int, block: int) -> jax.Array:
        """The token indices of each block; past the last token, that token again."""
        count = -(-length // block)
        index = indices_to(count * block)
        last = length - 1
        inside = jnp.minimum(index, last)
        return inside.reshape(-1, block)

    visible = mask.visible(q_offset + tokens(grid.queries, grid.rows), tokens(grid.keys, grid.columns))
    if visible is None:
        return pairs, None
    i = pairs[:, 0]
    j = pairs[:, 1]
    visible = visible[i, j]
    # Stable, so that what is visited keeps its order and sums are added as they always are.
    skipped = ~visible
    order = jnp.argsort(skipped, stable=True)
    count = jnp.sum(visible, dtype=jnp.int32)
    return pairs[order], count


def _is_static(rule: Mask) -> bool:
    """Whether `may_see` has already said all that a rule can say."""
    if isinstance(rule, Both | Either):
        return _is_static(rule.first) and _is_static(rule.second)
    if type(rule) is Window:
        return type(rule.size) is int
    return type(rule) is Causal or is_known(rule)
