"""Positions that start anew."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.encodings.base import Role
from posjax.encodings.moved import Moved
from posjax.errors import InputError


@dataclass(frozen=True)
class Wrapped(Moved):
    """Positions that start anew every `size` tokens.

        keys at n mod size,   queries at min(m mod size + shift, most)

    Convention: without `most` nothing is cut off; the parameters are those of `inner`.

    Good at: far chunks of `near_far`, as in dual chunk attention: however long the context, positions stay within
    the trained ones.
    Bad at: anything alone: places a whole `size` apart share a position.

    Errors: `InputError` for a size below 1, a negative shift, or keys that could stand after `most`.
    Source: An et al. 2024, arXiv:2402.17463, section 3.

    >>> from posjax.encodings.rope import Rope
    >>> Wrapped(Rope(), size=4, shift=4, most=5).moved(jnp.arange(9), "query").tolist()
    [4, 5, 5, 5, 4, 5, 5, 5, 4]
    """

    size: int
    shift: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.most
        if most is None:
            most = self.size + self.shift - 1
        # A key ahead of every query would stand at a negative distance, which no trained model has seen.
        if self.size < 1 or self.shift < 0 or most < self.size - 1:
            raise InputError(
                f"Wrapped got size={self.size}, shift={self.shift} and most={self.most}: needed are a "
                "size of 1 or more, a shift of 0 or more, and most at size - 1 or later"
            )

    def moved(self, positions: jax.Array, role: Role) -> jax.Array:
        within = positions % self.size
        if role == "key":
            return within
        shifted = within + self.shift
        if self.most is None:
            return shifted
        return jnp.minimum(shifted, self.most)
