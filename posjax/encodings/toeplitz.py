"""Free and fixed biases by distance: a trained number for each distance, and the sandwich of sinusoids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from posjax.axes import lead
from posjax.encodings import phases
from posjax.encodings.base import Dims, Encoding, Head, Params, RelativeBias, held
from posjax.encodings.schedules import inverse_frequencies
from posjax.errors import InputError


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

    length: int = 512
    deviation: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.length >= 1:
            raise InputError(
                f"Toeplitz got length={self.length}: needed is one more than the largest distance, 1 or more"
            )
        if not self.deviation >= 0:
            raise InputError(f"Toeplitz got deviation={self.deviation}: needed is a standard deviation, 0 or more")

    @property
    def max_length(self) -> int | None:
        return self.length

    def init(self, key: jax.Array, dims: Dims) -> Params:
        return {"table": self.deviation * jax.random.normal(key, (dims.heads, 2 * self.length - 1), jnp.float32)}

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        table = head.of(held(self, "table", params["table"], 2 * self.length - 1)).astype(jnp.float32)
        index = distance + (self.length - 1)
        outside = (index < 0) | (index >= table.shape[0])
        return table.at[jnp.where(outside, table.shape[0], index)].get(mode="fill", fill_value=jnp.nan)


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
    base: float = 10_000.0

    swept: ClassVar[tuple[str, ...]] = ("base",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 2 or self.size % 2:
            raise InputError(f"Sandwich got size={self.size}: needed is an even number of 2 or more")
        if not self.base > 1:
            raise InputError(f"Sandwich got base={self.base}: needed is a number above 1, usually 10,000")

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return (cls(size=16),)

    def constants(self, dims: Dims) -> Params:
        return {
            "turns": phases.fixed_point_turns(inverse_frequencies(self.size, self.base)),
            "rate": (dims.heads / (8 * np.arange(1, dims.heads + 1))).astype(np.float32),
        }

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        numbers = self.complete(params, Dims(heads=head.count))
        cos, _ = phases.cos_sin(jnp.abs(distance), numbers["turns"])
        rate = lead(head.of(jnp.asarray(numbers["rate"])), distance.ndim)
        return (jnp.sum(cos, axis=-1) - self.size / 2) * rate
