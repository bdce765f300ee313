"""Randomised positions: where tokens are said to be while training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from posjax.encodings.base import Encoding, Params
from posjax.encodings.drawing import by_row
from posjax.errors import InputError
from posjax.fields import AtLeast


def _ranks(row: jax.Array) -> jax.Array:
    """The rank of each position among those of its row, equal ones alike: 0, 1, 2, … stay as they are."""
    order = jnp.argsort(row, stable=True)
    rising = row[order]
    steps = jnp.diff(rising, prepend=rising[:1])
    rises = steps > 0
    # Counted in sorted order, and written back to where each position stands in the row.
    ranks = jnp.cumsum(rises.astype(order.dtype))
    return jnp.zeros_like(order).at[order].set(ranks)


@dataclass(frozen=True)
class Randomized(Encoding):
    """Randomised positions: T distinct sorted positions from 0 .. length - 1, fresh for each row and step.

        p_t = the t-th smallest of T draws without replacement from 0 .. length - 1

    where t is the rank of the token's position among those of its row.

    Order is kept and distances vary. Without a key (in evaluation) tokens stay where they are.

    `length`: how many positions there are to draw from, the longest context to prepare for.

    Convention: tokens that share a position stay together, as the same positions of packed documents do. Drawn by
    `move`, so whatever is chained after it reads the drawn positions.

    Good at: length generalisation on algorithmic tasks: longer inputs meet positions that training has seen (Ruoss
    et al.).
    Bad at: language modelling at an equal budget: small models so trained end at a higher loss at contiguous
    positions.

    Errors: `InputError` for a length below 1, or one below the number of tokens.
    Source: Ruoss et al. 2023, arXiv:2305.16843, section 3.

    >>> placed = Randomized(length=100).move({}, jnp.arange(5), jax.random.key(0))
    >>> bool((jnp.diff(placed) > 0).all()), int(placed.max()) < 100
    (True, True)
    """

    length: Annotated[int, AtLeast(1, "the number of positions")] = 2048

    @property
    def relative(self) -> bool:
        return True

    def move(self, params: Params, positions: jax.Array, key: jax.Array) -> jax.Array:
        count = positions.shape[-1]
        if count > self.length:
            raise InputError(f"Randomized draws from {self.length} positions and got {count} tokens: raise its length")

        def one(row: jax.Array, key: jax.Array) -> jax.Array:
            drawn = jax.random.choice(key, self.length, (count,), replace=False)
            rising = jnp.sort(drawn).astype(jnp.int32)
            # A negative position marks padding, and stays one.
            moved = rising[_ranks(row)]
            return jnp.where(row < 0, row, moved)

        return by_row(positions, key, one)
