"""Positions in groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax

from posjax.encodings.base import Role
from posjax.encodings.moved import Moved
from posjax.fields import AtLeast


@dataclass(frozen=True)
class Regrouped(Moved):
    """Positions in groups, so that far distances shrink by `group`.

        keys at n // group,   queries at m // group + shift

    Convention: m and n are the positions of query and key; the parameters are those of `inner`.

    Good at: distances past the trained ones in a trained rotary model, as the far side of `near_far`: each shrinks
    by the group.
    Bad at: order within a group, whose tokens share a position: alone, near tokens become indistinguishable.

    Errors: `InputError` for a group below 1 or a negative shift.
    Source: Jin et al. 2024, arXiv:2401.01325, section 3.

    >>> import jax.numpy as jnp
    >>> from posjax.encodings.rope import Rope
    >>> Regrouped(Rope(), group=4, shift=6).moved(jnp.arange(9), "query").tolist()
    [6, 6, 6, 6, 7, 7, 7, 7, 8]
    """

    group: Annotated[int, AtLeast(1, "the positions of a group")]
    shift: Annotated[int, AtLeast(0)] = 0

    @property
    def max_length(self) -> int | None:
        most = self.inner.max_length
        if most is None:
            return None
        # Queries reach the end first, by the shift.
        return max(most - self.shift, 0) * self.group

    def moved(self, positions: jax.Array, role: Role) -> jax.Array:
        # The shift closes the gap at the window's edge, between near distances and those that shrank.
        shift = 0
        if role == "query":
            shift = self.shift
        return positions // self.group + shift
