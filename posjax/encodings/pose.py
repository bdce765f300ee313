"""Positional skip-wise training: where tokens are said to be while training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from posjax.encodings.base import Encoding, Params
from posjax.encodings.drawing import by_row
from posjax.errors import InputError
from posjax.fields import AtLeast


@dataclass(frozen=True)
class PoSE(Encoding):
    """Positional skip-wise training: the row is cut into chunks, each shifted by a random skip, to cover a longer
    window while training on short rows.

        p_t = t + skip of t's chunk,   0 = skip_0 <= skip_1 <= ... <= window - T

    The cuts are drawn among the T - 1 places between tokens, the skips, which never fall, from 0 .. window - T; the
    first chunk stays at 0. Without a key tokens stay where they are.

    `window`: the length to cover. `chunks`: how many.

    Convention: cuts and skips are drawn for each row and step; they move positions, the text of a row stays as it is.

    Good at: teaching a model a long window at the cost of short rows, as the paper does for RoPE with
    interpolation.
    Bad at: attention over many tokens: a row never holds more of them than T, however far apart they stand.

    Errors: `InputError` for fewer than 1 chunk or a window below 1, and for a window below the number of tokens.
    Source: Zhu et al. 2023, arXiv:2309.10400, section 3.2.

    >>> placed = PoSE(window=100).move({}, jnp.arange(8), jax.random.key(1))
    >>> int(placed[0]), int(placed[-1]) < 100
    (0, True)
    """

    window: Annotated[int, AtLeast(1, "a length in tokens")] = 2048
    chunks: Annotated[int, AtLeast(1, "a number of chunks")] = 2

    @property
    def relative(self) -> bool:
        return True

    def move(self, params: Params, positions: jax.Array, key: jax.Array) -> jax.Array:
        count = positions.shape[-1]
        if count > self.window:
            raise InputError(f"PoSE covers a window of {self.window} and got {count} tokens: raise its window")

        def one(row: jax.Array, key: jax.Array) -> jax.Array:
            where, far = jax.random.split(key)
            borders = (self.chunks - 1,)
            drawn_cuts = jax.random.randint(where, borders, 1, max(count, 2), jnp.int32)
            drawn_skips = jax.random.randint(far, borders, 0, self.window - count + 1, jnp.int32)
            cuts = jnp.sort(drawn_cuts)
            # Sorted, so that a later chunk never stands before an earlier one.
            skips = jnp.sort(drawn_skips)
            # A row that begins further on has less room to the window's end.
            room = jnp.maximum(self.window - 1 - jnp.max(row, initial=0), 0)
            skips = jnp.minimum(skips, room)
            # By position, not by index: tokens of packed documents that share one stay together.
            chunk = jnp.sum(row[:, None] >= cuts[None, :], axis=-1)
            skips = jnp.concatenate([jnp.zeros(1, skips.dtype), skips])
            return (row + skips[chunk]).astype(jnp.int32)

        return by_row(positions, key, one)
