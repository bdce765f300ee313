"""Queries that grow with the logarithm of their position, past the trained length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings.base import Dims, Encoding, Params, Role, complete
from posjax.encodings.temperature import log_place, scaled
from posjax.fields import AtLeast


@dataclass(frozen=True)
class LogN(Encoding):
    """log-n scaling: past the trained length, queries grow with the logarithm of their position.

        queries at position m times max(1, ln(m + 1) / ln(original_length))

    `original_length`: the trained length in tokens.

    Convention: queries alone are scaled, so the logits are; within the trained length nothing changes.

    Good at: keeping attention as sharp in long contexts as in trained ones, with any encoding that it is chained
    with.
    Bad at: telling positions apart, which it does not; and alone it did not mend RoPE or NoPE past the trained
    length in small language models.

    Errors: `InputError` for an original length below 2.
    Source: Chiang and Cholak 2022, arXiv:2202.12172, section 5, with the trained length as the unit.

    >>> import jax.numpy as jnp
    >>> LogN(original_length=4).rotate({}, jnp.ones((1, 1, 1, 2)), jnp.array([15]), "query").tolist()
    [[[[2.0, 2.0]]]]
    """

    original_length: Annotated[int, AtLeast(2, "the trained length in tokens")] = 512

    swept = ("original_length",)

    @property
    def injective(self) -> bool:
        # Queries differ in size by their position, keys not at all.
        return False

    def constants(self, dims: Dims) -> Params:
        unit = 1 / math.log(self.original_length)
        return {"unit": np.float32(unit)}

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        if role == "key":
            return x
        unit = complete(self, params, Dims())["unit"]
        # Never below 1: within the trained length nothing changes.
        grown = log_place(positions) * unit
        scale = jnp.maximum(grown, 1.0)
        return scaled(x, scale, positions)
