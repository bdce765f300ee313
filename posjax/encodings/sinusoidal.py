"""The fixed absolute encoding of the first transformer, exact at every int32 position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from posjax.axes import expand_rank
from posjax.encodings import phases
from posjax.encodings.arrays import exact
from posjax.encodings.base import Dims, Encoding, Params, complete
from posjax.encodings.ranges import Base
from posjax.encodings.schedules import inverse_frequencies
from posjax.errors import InputError


@dataclass(frozen=True)
class Sinusoidal(Encoding):
    """Sines and cosines of the position, added to the embedding.

        e[2i] = sin(p base^(-2i/D)),   e[2i + 1] = cos(p base^(-2i/D))

    `layout`: "interleaved" as in the formula; "split" keeps all sines, then all cosines, as the released code does.

    Convention: added once, to the embedding, in its dtype; the sum is formed in float32. The sum of the two has the
    size of sqrt(D / 2), so the token embedding should have entries of about 1.

    Good at: a distinct code for every position at no parameter and almost no cost, added once before the first
    layer.
    Bad at: contexts longer than the trained ones: the loss climbs steeply just past them (Press et al. 2021,
    arXiv:2108.12409).

    Errors: `InputError` for a base not above 1 or an odd model size.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    >>> import jax.numpy as jnp
    >>> Sinusoidal().embed({}, jnp.zeros((1, 1, 4)), jnp.zeros(1, jnp.int32)).tolist()
    [[[0.0, 1.0, 0.0, 1.0]]]
    """

    base: Base = 10_000.0
    layout: Literal["interleaved", "split"] = "interleaved"

    swept = ("base",)

    def constants(self, dims: Dims) -> Params:
        if dims.model_size % 2:
            raise InputError(
                f"Sinusoidal got a model size of {dims.model_size}: needed is an even one, half of it "
                "sines and half cosines"
            )
        frequencies = inverse_frequencies(dims.model_size, self.base)
        return {"turns": phases.fixed_point_turns(frequencies)}

    def prepare(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        waves = self._waves(params, positions, dims)
        return {**complete(self, params, dims), **waves}

    def embed(self, params: Params, x: jax.Array, positions: jax.Array) -> jax.Array:
        if "waves" not in params:
            dims = Dims(model_size=x.shape[-1])
            params = self._waves(params, positions, dims)
        added = expand_rank(params["waves"], x.ndim)
        # Added in float32 and rounded once, whatever the type of the embedding.
        wide = x.astype(jnp.float32) + added
        return wide.astype(x.dtype)

    def _waves(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        turns = complete(self, params, dims)["turns"]
        cos, sin = phases.cos_sin(exact(positions), turns)
        # Stacked behind the pairs they alternate, before them each keeps its half.
        axis = -2
        if self.layout == "interleaved":
            axis = -1
        waves = jnp.stack([sin, cos], axis=axis)
        return {"waves": waves.reshape(*sin.shape[:-1], dims.model_size)}
