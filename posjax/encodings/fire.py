"""A learned function of the distance relative to the query's position."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.encodings.base import Dims, Encoding, Head, Params
from posjax.errors import InputError


@dataclass(frozen=True)
class Fire(Encoding):
    """FIRE: a small network of the distance, normalised by how far the query could look back.

        bias = f(psi(d) / psi(max(m, threshold))),   psi(x) = ln(c x + 1)

    for the query at position m, with f a network of one hidden layer of `hidden` ReLU units and an output for each
    head, c > 0 and the threshold > 0 learned. It depends on m too, so it is not a function of the distance alone.

    `c` and `threshold` give the initial values of what is learned.

    Convention: added after 1/sqrt(H); d = max(q_position - k_position, 0), so it is for causal attention. c and the
    threshold are stored as logarithms. Parameters: `in_scale`, `in_shift` `[1, M]`, `out` `[N, M]`, `shift` `[N]`,
    `c` and `threshold` `[1]`.

    Good at: unseen lengths: the network's input stays within [0, 1] whatever the length, and it can represent T5's
    bias, ALiBi and KERPLE (Li et al.).
    Bad at: speed: the network runs for each pair of positions rather than once for each distance; and attention
    without a causal mask.

    Errors: `InputError` for a number that is not positive.
    Source: Li et al. 2023, arXiv:2310.04418, equations 5 to 8.

    >>> import jax
    >>> encoding, dims = Fire(hidden=8), Dims(heads=2)
    >>> at = jnp.arange(3)
    >>> encoding.bias(encoding.init(jax.random.key(0), dims), at, at, Head(0, 2)).shape
    (3, 3)
    """

    hidden: int = 32
    c: float = 0.1
    threshold: float = 512.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden", "c", "threshold"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"Fire got {name}={getattr(self, name)}: needed is a positive number")

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return True

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return (cls(hidden=8, threshold=5.0),)

    def init(self, key: jax.Array, dims: Dims) -> Params:
        first, second, third = jax.random.split(key, 3)
        M, N = self.hidden, dims.heads
        return {
            "in_scale": jax.random.normal(first, (1, M), jnp.float32),
            "in_shift": 0.5 * jax.random.normal(second, (1, M), jnp.float32),
            "out": jax.random.normal(third, (N, M), jnp.float32) / math.sqrt(M),
            "shift": jnp.zeros((N,), jnp.float32),
            "c": jnp.full((1,), math.log(self.c), jnp.float32),
            "threshold": jnp.full((1,), math.log(self.threshold), jnp.float32),
        }

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        c, least = (jnp.exp(head.of(params[name]).astype(jnp.float32)) for name in ("c", "threshold"))
        distance = jnp.maximum(q_positions[:, None] - k_positions[None, :], 0).astype(jnp.float32)
        reach = jnp.maximum(q_positions.astype(jnp.float32), least)
        share = jnp.log1p(c * distance) / jnp.log1p(c * reach)[:, None]
        # A sum over the hidden units, one at a time: a [T, S, M] array would be the largest of all.
        weights = tuple(head.of(params[name]).astype(jnp.float32) for name in ("in_scale", "in_shift", "out"))

        def unit(total: jax.Array, weight: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            scale, shift, out = weight
            return total + out * jax.nn.relu(scale * share + shift), None

        start = jnp.zeros_like(share) + head.of(params["shift"]).astype(jnp.float32)
        return jax.lax.scan(unit, start, weights)[0]
