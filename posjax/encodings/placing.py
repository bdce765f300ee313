"""Position transforms: where tokens are said to be while training. Chain them with whatever reads positions."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.encodings.base import Encoding, Params
from posjax.errors import InputError


def _by_row(positions: jax.Array, key: jax.Array, one: object) -> jax.Array:
    """One draw for each row of `[B, T]`, or a single one for `[T]`."""
    if positions.ndim == 1:
        return one(positions, key)  # type: ignore[operator]
    return jax.vmap(one)(positions, jax.random.split(key, positions.shape[0]))  # type: ignore[arg-type]


def _ranks(row: jax.Array) -> jax.Array:
    """The rank of each position among those of its row, equal ones alike: 0, 1, 2, … stay as they are."""
    order = jnp.argsort(row, stable=True)
    rises = jnp.diff(row[order], prepend=row[order][:1]) > 0
    return jnp.zeros_like(order).at[order].set(jnp.cumsum(rises.astype(order.dtype)))


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

    length: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.length >= 1:
            raise InputError(f"Randomized got length={self.length}: needed is the number of positions, 1 or more")

    @property
    def relative(self) -> bool:
        return True

    def move(self, params: Params, positions: jax.Array, key: jax.Array) -> jax.Array:
        count = positions.shape[-1]
        if count > self.length:
            raise InputError(f"Randomized draws from {self.length} positions and got {count} tokens: raise its length")

        def one(row: jax.Array, key: jax.Array) -> jax.Array:
            drawn = jax.random.choice(key, self.length, (count,), replace=False)
            return jnp.where(row < 0, row, jnp.sort(drawn).astype(jnp.int32)[_ranks(row)])

        return _by_row(positions, key, one)


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

    window: int = 2048
    chunks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunks < 1 or self.window < 1:
            raise InputError(f"PoSE got window={self.window} and chunks={self.chunks}: each must be 1 or more")

    @property
    def relative(self) -> bool:
        return True

    def move(self, params: Params, positions: jax.Array, key: jax.Array) -> jax.Array:
        count = positions.shape[-1]
        if count > self.window:
            raise InputError(f"PoSE covers a window of {self.window} and got {count} tokens: raise its window")

        def one(row: jax.Array, key: jax.Array) -> jax.Array:
            where, far = jax.random.split(key)
            cuts = jnp.sort(jax.random.randint(where, (self.chunks - 1,), 1, max(count, 2)))
            skips = jnp.sort(jax.random.randint(far, (self.chunks - 1,), 0, self.window - count + 1))
            # A row that begins further on has less room to the window's end.
            skips = jnp.minimum(skips, jnp.maximum(self.window - 1 - jnp.max(row), 0))
            chunk = jnp.sum(row[:, None] >= cuts[None, :], axis=-1)
            return (row + jnp.concatenate([jnp.zeros(1, skips.dtype), skips])[chunk]).astype(jnp.int32)

        return _by_row(positions, key, one)
