"""A trained number for each distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from posjax.encodings.arrays import held
from posjax.encodings.base import Dims, Head, Params, RelativeBias
from posjax.encodings.ranges import Deviation
from posjax.fields import AtLeast


@dataclass(frozen=True)
class Toeplitz(RelativeBias):
    """A free trained bias for each head and each distance: the most general relative bias of a given reach.

        bias = table[h, d + length - 1]   for -length < d < length

    `length`: one more than the largest distance, on either side. `deviation`: that of the initial table
    `[N, 2 length - 1]`.

    Convention: a distance past the table gives NaN, never another distance's bias.

    Good at: finding which profile of distance the data asks for: it contains every other relative bias of its
    reach.
    Bad at: distances past its table, where it ends, and rare far ones, each of which is trained alone; its
    parameters grow with the length.

    Errors: `InputError` for a length below 1 or a negative deviation.
    Source: the unbucketed form of Raffel et al. 2019, arXiv:1910.10683, section 2.1.

    >>> import jax
    >>> Toeplitz(length=4).init(jax.random.key(0), Dims(heads=2))["table"].shape
    (2, 7)
    """

    length: Annotated[int, AtLeast(1, "one more than the largest distance")] = 512
    deviation: Deviation = 0.02

    @property
    def max_length(self) -> int | None:
        return self.length

    def init(self, key: jax.Array, dims: Dims) -> Params:
        shape = (dims.heads, 2 * self.length - 1)
        drawn = jax.random.normal(key, shape, jnp.float32)
        return {"table": self.deviation * drawn}

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        tables = held(self, "table", params["table"], 2 * self.length - 1)
        table = head.of(tables).astype(jnp.float32)
        # The table begins with the most negative distance.
        index = distance + (self.length - 1)
        # A negative index would count from the end: send it past the table, where the fill value is.
        size = table.shape[0]
        outside = (index < 0) | (index >= size)
        index = jnp.where(outside, size, index)
        return table.at[index].get(mode="fill", fill_value=jnp.nan)
