"""Encodings whose queries and keys stand somewhere else: what the far sides of `near_far` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from posjax.encodings.base import Dims, Encoding, Params, Role


@dataclass(frozen=True)
class Moved(Encoding):
    """An encoding whose queries and keys stand somewhere else; what `Regrouped`, `Wrapped` and `Pinned` share."""

    inner: Encoding

    injective: ClassVar[bool] = False

    @property
    def relative(self) -> bool:
        return False

    def init(self, key: jax.Array, dims: Dims) -> Params:
        return self.inner.init(key, dims)

    def constants(self, dims: Dims) -> Params:
        return self.inner.constants(dims)

    def join(self, params: Params, constants: Params) -> Params:
        return self.inner.join(params, constants)

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return self.inner.causal

    def moved(self, positions: jax.Array, role: Role) -> jax.Array:
        return positions

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        return self.inner.rotate(params, x, jnp.where(positions < 0, -1, self.moved(positions, role)), role)
