"""The sandwich of sinusoids as a bias."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from posjax.axes import expand_rank
from posjax.encodings import phases
from posjax.encodings.base import Dims, Head, Params, RelativeBias, complete
from posjax.encodings.ranges import Base
from posjax.encodings.schedules import inverse_frequencies
from posjax.errors import InputError


@dataclass(frozen=True)
class Sandwich(RelativeBias):
    """The inner product of two sinusoidal encodings as a bias, compressed by head.

        bias = (sum_i cos(d base^(-2i/size)) - size / 2) / (8 h / N),   i = 0 .. size/2 - 1,  h = 1 .. N

    It falls off about logarithmically with the distance, with no parameter to learn; d = q_position - k_position, both
    directions alike. `size` is the number of channels of the sinusoids.

    Convention: the constant size / 2 is taken off so that the bias is 0 at distance 0, which softmax does not see.
    Head 0 falls off the fastest, as in ALiBi: with 8 heads the factors are 1, 1/2 .. 1/8. The phases are exact at every
    distance.

    Good at: contexts past the trained length without a learned parameter; its profile resembles the learned
    KERPLE's and T5's (Chi et al.).
    Bad at: far context, which fades in every head, and telling left from right; its profile is fixed.

    Errors: `InputError` for an odd size or a base not above 1.
    Source: Chi et al. 2022, arXiv:2212.10356, section 5.

    >>> import jax.numpy as jnp
    >>> Sandwich(size=2).bias({}, jnp.arange(1), jnp.arange(1), Head(0, 1)).tolist()
    [[0.0]]
    """

    size: int = 128
    base: Base = 10_000.0

    swept = ("base",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 2 or self.size % 2:
            raise InputError(f"Sandwich got size={self.size}: needed is an even number of 2 or more")

    def constants(self, dims: Dims) -> Params:
        # Heads count from 1, so that the first falls off the fastest.
        compression = 8 * np.arange(1, dims.heads + 1)
        rate = dims.heads / compression
        frequencies = inverse_frequencies(self.size, self.base)
        turns = phases.fixed_point_turns(frequencies)
        return {"turns": turns, "rate": rate.astype(np.float32)}

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        held = complete(self, params, Dims(heads=head.count))
        # A cosine is the same on both sides, and phases have no meaning at negative distances.
        cos, _ = phases.cos_sin(jnp.abs(distance), held["turns"])
        own_rate = head.of(jnp.asarray(held["rate"]))
        rate = expand_rank(own_rate, distance.ndim)
        total = jnp.sum(cos, axis=-1)
        # The sum at distance 0 is size / 2.
        falling = total - self.size / 2
        return falling * rate
