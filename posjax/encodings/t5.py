"""The bucketed relative bias of T5."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings.arrays import held
from posjax.encodings.base import Dims, Head, Params, RelativeBias, complete
from posjax.encodings.ranges import Deviation
from posjax.errors import InputError


@dataclass(frozen=True)
class T5Bias(RelativeBias):
    """A trained bias for each bucket of distances, exact for near ones and logarithmic for far ones.

        b(d) = d                                                          for d < n/2
        b(d) = n/2 + floor(ln(d / (n/2)) / ln(max_distance / (n/2)) * n/2)  for larger d, at most n - 1

    with n the number of buckets; `bidirectional` gives half of them to each direction. The table is `[N, buckets]`.

    Convention: `d = q_position - k_position`. One-directional buckets put every key ahead of the query in bucket 0.
    T5 itself has no 1/sqrt(H) before the bias; `attend` keeps it. `deviation` is that of the initial table.
    A `max_distance` past the trained length leaves buckets that are never trained.

    Good at: letting data choose each head's profile of distance; past the trained length it degrades slowly, less
    than sinusoidal or rotary (Press et al. 2021, arXiv:2108.12409).
    Bad at: telling distances past max_distance apart, since they share a bucket; the loss creeps up with length,
    and more so where buckets were never trained.

    Errors: `InputError` for a number of buckets that does not split, or a max_distance within the exact buckets.
    Source: Raffel et al. 2019, arXiv:1910.10683, section 2.1, and its released bucket function.

    >>> T5Bias().edges()[:18].tolist()
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 21]
    """

    buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = False
    deviation: Deviation = 0.02

    swept = ("max_distance",)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Half of each direction's buckets are exact, and each direction has its share.
        unit = 2
        if self.bidirectional:
            unit = 4
        if self.buckets < unit or self.buckets % unit:
            raise InputError(
                f"T5Bias got buckets={self.buckets} and bidirectional={self.bidirectional}: needed is a "
                f"positive multiple of {unit}"
            )
        if not self.max_distance > self.one_way // 2:
            raise InputError(
                f"T5Bias got max_distance={self.max_distance}: needed is more than the "
                f"{self.one_way // 2} exact buckets of each direction"
            )

    def advice(self, trained_length: int) -> tuple[str, ...]:
        if self.max_distance <= trained_length:
            return ()
        enough = max(trained_length // 2, self.one_way // 2 + 1)
        return (
            f"T5Bias has max_distance={self.max_distance} and the model is trained at length {trained_length}: the "
            f"buckets past it are never trained; {enough} would train all",
        )

    @property
    def one_way(self) -> int:
        """The buckets of one direction."""
        if self.bidirectional:
            return self.buckets // 2
        return self.buckets

    def edges(self) -> np.ndarray:
        """The smallest distance of each bucket but the first, int32 `[one_way - 1]`.

        Found in integers, so a distance on the border of two buckets falls where the formula says, not where a
        float32 logarithm happens to round: with e exact and f further buckets,
        bucket e + k begins at the least d with (d / e)^f >= (max_distance / e)^k.
        """
        exact = self.one_way // 2
        far = self.one_way - exact
        edges = list(range(1, exact + 1))
        for k in range(1, far):
            guess = int(exact * (self.max_distance / exact) ** (k / far))
            # From a little below what floats guess, up to where the integers agree.
            least = max(guess - 2, exact)
            while least**far < self.max_distance**k * exact ** (far - k):
                least += 1
            edges.append(least)
        return np.array(edges, np.int32)

    def init(self, key: jax.Array, dims: Dims) -> Params:
        shape = (dims.heads, self.buckets)
        drawn = jax.random.normal(key, shape, jnp.float32)
        return {"table": self.deviation * drawn}

    def constants(self, dims: Dims) -> Params:
        return {"edges": self.edges()}

    def bucket(self, params: Params, distance: jax.Array) -> jax.Array:
        """The bucket of each distance `q_position - k_position`, int32 of the same shape."""
        constants = complete(self, params, Dims())
        edges = jnp.asarray(constants["edges"])
        if self.bidirectional:
            near = jnp.abs(distance)
        else:
            near = jnp.maximum(distance, 0)

        def count(bucket: jax.Array, edge: jax.Array) -> tuple[jax.Array, None]:
            reached = near >= edge
            return bucket + reached.astype(jnp.int32), None

        # One edge at a time: no array has an axis of edges, and kernels can evaluate it.
        first = jnp.zeros_like(near)
        bucket, _ = jax.lax.scan(count, first, edges)
        if not self.bidirectional:
            return bucket
        # Distances ahead of the query have the second half of the table.
        half = jnp.where(distance < 0, self.one_way, 0)
        return bucket + half

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        table = held(self, "table", params["table"], self.buckets)
        own = head.of(table).astype(jnp.float32)
        return own[self.bucket(params, distance)]
