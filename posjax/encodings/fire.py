"""A learned function of the distance relative to the query's position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from posjax.encodings.arrays import exact
from posjax.encodings.base import Dims, Encoding, Head, Params
from posjax.fields import Above

LEARNED = ("c", "threshold", "in_scale", "in_shift", "out", "shift")
"""The names of its parameters."""


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

    hidden: Annotated[int, Above(0)] = 32
    c: Annotated[float, Above(0)] = 0.1
    threshold: Annotated[float, Above(0)] = 512.0

    @property
    def causal(self) -> bool:
        return True

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
        own = {name: head.of(params[name]).astype(jnp.float32) for name in LEARNED}
        c = jnp.exp(own["c"])
        threshold = jnp.exp(own["threshold"])
        q_positions = exact(q_positions)
        k_positions = exact(k_positions)
        # Subtracted as integers, and only then a float: positions past 2^24 have no float32 of their own.
        between = q_positions[:, None] - k_positions[None, :]
        back = jnp.maximum(between, 0)
        distance = back.astype(jnp.float32)
        # How far the query could look back; near the beginning that is so little that the threshold takes its place.
        wide = q_positions.astype(jnp.float32)
        reach = jnp.maximum(wide, threshold)
        far = jnp.log1p(c * distance)
        whole = jnp.log1p(c * reach)
        share = far / whole[:, None]
        total = _network(share, own["in_scale"], own["in_shift"], own["out"])
        return total + own["shift"]


def _summed(share: jax.Array, scale: jax.Array, shift: jax.Array, out: jax.Array) -> jax.Array:
    """`sum_m out_m relu(scale_m share + shift_m)`, one hidden unit at a time: `share [T, S]`, the others `[M]`."""

    # By hand, since a [T, S, M] array of all hidden units would be M times as large as the scores.
    def unit(total: jax.Array, weight: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        scale, shift, out = weight
        hidden = jax.nn.relu(scale * share + shift)
        return total + out * hidden, None

    nothing = jnp.zeros_like(share)
    total, _ = jax.lax.scan(unit, nothing, (scale, shift, out))
    return total


_network = jax.custom_vjp(_summed)


def _network_back(kept: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[jax.Array, ...]:
    # As products: JAX would sum each unit's gradient over all pairs by itself, thirty times slower on CPU.
    share, scale, shift, out = kept
    x_P = share.reshape(-1)
    c_P = cotangent.reshape(-1)
    scaled_MP = scale[:, None] * x_P[None]
    hidden_MP = scaled_MP + shift[:, None]
    open_MP = (hidden_MP > 0).astype(jnp.float32)
    d_share = ((out * scale) @ open_MP) * c_P
    return (
        d_share.reshape(share.shape),
        out * (open_MP @ (x_P * c_P)),
        out * (open_MP @ c_P),
        jnp.maximum(hidden_MP, 0.0) @ c_P,
    )


# The plain sum, so that a gradient may be differentiated in forward mode.
_network.defvjp(lambda *given: (_summed(*given), given), _network_back)
