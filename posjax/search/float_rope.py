"""RoPE that a loss can be differentiated through: its frequencies are floats, and data."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from posjax.axes import expand_rank
from posjax.encodings import Dims, Rope
from posjax.encodings.base import Params, complete
from posjax.encodings.schedules import inverse_frequencies

LONGEST = 2**16
"""Tokens up to which float32 angles serve a search: at the last of them they are wrong by at most 0.004 radians."""


@dataclass(frozen=True)
class FloatRope(Rope):
    """`Rope` with a divisor for each pair and a temperature as its constants, in logarithms.

        theta_i = base^(-2i/r) / exp(log_divisor_i),   attention factor exp(log_temperature)

    For a search alone. `Rope` counts turns in fixed point, which is exact and has no gradient: here an angle is
    float32(position) * float32(theta), as everywhere else in the field. At position p it is off by up to p * 6e-8
    radians, so what is found is measured again as a schedule of `Rope`. It is no encoding of the registry: nothing is
    trained with it, and it holds no law of precision.
    """

    def constants(self, dims: Dims) -> Params:
        size = self.rotary_size(dims.head_size)
        frequencies, factor = self.schedule.frequencies(size, self.base)
        # In float64 up to the logarithm: of two close numbers float32 would lose the difference.
        divisors = inverse_frequencies(size, self.base) / frequencies
        log_divisors = np.log(divisors)
        return {"log_divisors": np.float32(log_divisors), "log_temperature": np.float32(np.log(factor))}

    def prepare(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        held = complete(self, params, dims)
        size = self.rotary_size(dims.head_size)
        # The fields are no data of a compiled function, and the numbers that vary all stand in the constants.
        published = jnp.asarray(inverse_frequencies(size, self.base), jnp.float32)
        frequencies = published * jnp.exp(-jnp.asarray(held["log_divisors"]))
        at = positions.astype(jnp.float32)[..., None]
        # Here a loss has its gradient: an integer count of turns would have none.
        angles = at * expand_rank(frequencies, at.ndim)
        # Queries and keys are both scaled, so the logits are by the square.
        factor = jnp.exp(jnp.asarray(held["log_temperature"]))
        return {**held, "cos": jnp.cos(angles) * factor, "sin": jnp.sin(angles) * factor}
