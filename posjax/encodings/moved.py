"""Encodings whose queries and keys stand somewhere else: what the far sides of `near_far` share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from posjax.encodings.arrays import exact
from posjax.encodings.base import Dims, Encoding, Params, Role
from posjax.encodings.traits import scores_content, turns_by_one_position
from posjax.errors import InputError


@dataclass(frozen=True)
class Moved(Encoding):
    """An encoding whose queries and keys stand somewhere else; what `Regrouped`, `Wrapped` and `Pinned` share."""

    inner: Encoding

    def __post_init__(self) -> None:
        super().__post_init__()
        inner = self.inner
        if scores_content(inner) or not turns_by_one_position(inner):
            raise InputError(
                f"{type(self).__name__} got {inner!r}: needed is an encoding that rotates by one position and does no "
                "more, since all else of it would be left out; chain that beside"
            )

    @property
    def relative(self) -> bool:
        return False

    @property
    def injective(self) -> bool:
        # Positions are repeated by design: that is how far ones come within the trained range.
        return False

    @property
    def causal(self) -> bool:
        return self.inner.causal

    @property
    def length_dependent(self) -> bool:
        return self.inner.length_dependent

    def at_length(self, length: int) -> Encoding:
        return replace(self, inner=self.inner.at_length(length))

    def init(self, key: jax.Array, dims: Dims) -> Params:
        return self.inner.init(key, dims)

    def constants(self, dims: Dims) -> Params:
        return self.inner.constants(dims)

    def join(self, params: Params, constants: Params) -> Params:
        return self.inner.join(params, constants)

    def moved(self, positions: jax.Array, role: Role) -> jax.Array:
        """Where queries or keys stand: int32 of the same shape."""
        return positions

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        positions = exact(positions)
        # A negative position marks padding, and floors or remainders would make an ordinary one of it.
        moved = self.moved(positions, role)
        at = jnp.where(positions < 0, -1, moved)
        return self.inner.rotate(params, x, at, role)
