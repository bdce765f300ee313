"""Rotary position embedding, exact at every int32 position."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings import phases
from posjax.encodings.arrays import exact
from posjax.encodings.base import Dims, Encoding, Params, Role, complete
from posjax.encodings.phases import rotate_pairs
from posjax.encodings.schedules import (
    PLAIN,
    Schedule,
)
from posjax.errors import InputError
from posjax.fields import Above, AsIn, Share

_FACTORS = (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max))
"""Attention factors that float32 holds: a smaller one would be 0, a larger one infinite."""


@dataclass(frozen=True)
class Rope(Encoding):
    """Rotary position embedding: each pair of channels turns by an angle proportional to the position.

        (a, b) -> (a cos m theta_i - b sin m theta_i,  a sin m theta_i + b cos m theta_i),   theta_i = base^(-2i/r)

    for pair i of the first `r = fraction * H` channels at position m; the other channels pass through. Queries and
    keys turn the same way, values never, so a score depends on the distance alone.

    `base`: sets the slowest pair. `schedule`: how frequencies are changed to extend the trained window, see
    `posjax.encodings.schedules`. `layout`: "split" pairs channels (i, i + r/2) as Llama does, "interleaved"
    (2i, 2i + 1) as GPT-J. `fraction`: the share of the head that turns.

    Convention: angles are exact 64-bit fixed-point phases, the rotation is in float32, and the result has the dtype
    of the input. A schedule's attention factor scales the channels that turn.

    Good at: loss within the trained window; scores of the distance alone without a bias array, so every kernel and
    cache can take it.
    Bad at: contexts past the trained window without a schedule (Llama-2-70B: perplexity 2.96 at 4k, 56 at 8k). Its
    scores do not fall monotonically with the distance: only an upper bound trends down.

    Errors: `InputError` for a base not above 1, a fraction outside (0, 1], or a rotary size that is odd or zero.
    Source: Su et al. 2021, RoFormer, arXiv:2104.09864, equations 14 to 16 and 34.

    >>> import jax.numpy as jnp
    >>> at_one = Rope().rotate({}, jnp.ones((1, 1, 1, 4)), jnp.array([1]), "query")
    >>> [round(float(channel), 2) for channel in at_one[0, 0, 0]]
    [-0.3, 0.99, 1.38, 1.01]
    """

    base: Annotated[float, Above(1, ", usually 10,000 or more")] = 10_000.0
    schedule: Schedule = PLAIN
    layout: Annotated[Literal["split", "interleaved"], AsIn(("Llama", "GPT-J"))] = "split"
    fraction: Annotated[float, Share("the head")] = 1.0

    swept = ("base", "schedule")

    @property
    def relative(self) -> bool:
        return True

    @property
    def length_dependent(self) -> bool:
        return self.schedule.length_dependent

    def rotary_size(self, head_size: int) -> int:
        """The number of channels that turn. Errors: `InputError` where it is odd or zero."""
        exact = head_size * self.fraction
        # 30/44 of 44 comes to 29.999...: only what is more than rounding is cut off.
        size = int(exact)
        if abs(exact - round(exact)) < 1e-9:
            size = round(exact)
        if size < 2 or size % 2:
            raise InputError(
                f"Rope got a head size of {head_size} and fraction={self.fraction}: {size} channels would "
                "turn, needed is an even number of 2 or more; change the head size or the fraction"
            )
        return size

    def constants(self, dims: Dims) -> Params:
        size = self.rotary_size(dims.head_size)
        frequencies, factor = self.schedule.frequencies(size, self.base)
        # Of a user's schedule nothing else is known, and a number that float32 cannot hold would turn up as NaN.
        frequencies = np.asarray(frequencies, np.float64)
        if frequencies.shape != (size // 2,) or not np.isfinite(frequencies).all():
            raise InputError(
                f"{self.schedule!r} answers the frequencies {frequencies}: needed are {size // 2} finite "
                "numbers, one for each pair of channels"
            )
        if not _FACTORS[0] <= factor <= _FACTORS[1]:
            raise InputError(
                f"{self.schedule!r} answers the attention factor {factor}: needed is a positive number "
                "within the range of float32"
            )
        turns = phases.fixed_point_turns(frequencies)
        return {"turns": turns, "factor": np.float32(factor)}

    def prepare(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        held = complete(self, params, dims)
        # Without the barrier XLA may compute them anew for every head, inside the loop that turns the channels.
        waves = phases.cos_sin(exact(positions), held["turns"])
        cos, sin = jax.lax.optimization_barrier(waves)
        # Scaled here, once for all heads: what turns and what scales are then one product.
        factor = held["factor"]
        return {**held, "cos": cos * factor, "sin": sin * factor}

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        head_size = x.shape[-1]
        if "cos" not in params:
            params = self.prepare(params, positions, Dims(head_size=head_size))
        channels = self.rotary_size(head_size)
        turning, passing = jnp.split(x, [channels], axis=-1)
        turned = rotate_pairs(turning, params["cos"], params["sin"], self.layout)
        # Where the whole head turns there is nothing to copy.
        if not passing.shape[-1]:
            return turned
        return jnp.concatenate([turned, passing], axis=-1)

    def at_length(self, length: int) -> Encoding:
        if not self.length_dependent:
            return self
        schedule = self.schedule.at_length(length)
        return dataclasses.replace(self, schedule=schedule)
