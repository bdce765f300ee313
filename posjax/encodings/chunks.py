"""A window of whole chunks, by which `near_far` may choose."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.encodings.arrays import exact
from posjax.errors import InputError
from posjax.fields import check_fields


@dataclass(frozen=True)
class Chunks:
    """A window of whole chunks: near are the keys of the query's own chunk of `size` positions and of the `count - 1`
    chunks on either side.

    Errors: `InputError` for a size or a count below 1.

    >>> import jax.numpy as jnp
    >>> Chunks(2).near(jnp.arange(3), jnp.arange(3)).tolist()
    [[True, True, False], [True, True, False], [False, False, True]]
    """

    size: int
    count: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        if self.size < 1 or self.count < 1:
            raise InputError(f"Chunks got size={self.size} and count={self.count}: needed are 1 or more of each")

    def near(self, q_positions: jax.Array, k_positions: jax.Array) -> jax.Array:
        """Which pairs are near, `[T]` and `[S]` -> bool `[T, S]`."""
        q_chunks = exact(q_positions)[:, None] // self.size
        k_chunks = exact(k_positions)[None, :] // self.size
        # On either side: without a causal mask a key may be ahead.
        return jnp.abs(q_chunks - k_chunks) < self.count
