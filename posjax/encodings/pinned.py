"""One distance for all pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from posjax.encodings.base import Role
from posjax.encodings.moved import Moved
from posjax.fields import AtLeast


@dataclass(frozen=True)
class Pinned(Moved):
    """One distance for all pairs.

        keys at 0,   queries at `distance`

    Convention: positions are replaced before `inner` rotates; the parameters are those of `inner`.

    Good at: the far side of `near_far`: however long the context, no pair stands farther apart than the trained
    model knows.
    Bad at: anything alone: all pairs stand at one distance, so it tells nothing of order.

    Errors: `InputError` for a negative distance.
    Source: Su 2023, ReRoPE, https://kexue.fm/archives/9706.

    >>> from posjax.encodings.rope import Rope
    >>> Pinned(Rope(), distance=7).moved(jnp.arange(3), "query").tolist()
    [7, 7, 7]
    """

    distance: Annotated[int, AtLeast(0)]

    @property
    def relative(self) -> bool:
        return True

    def moved(self, positions: jax.Array, role: Role) -> jax.Array:
        # Keys at one end and queries at the other: every difference is the distance.
        at = 0
        if role == "query":
            at = self.distance
        return jnp.full_like(positions, at)
