"""Kernelised relative biases with learned parameters that stay positive by construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from posjax.encodings.base import Dims, Head, Params, RelativeBias


@dataclass(frozen=True)
class Kerple(RelativeBias):
    """A conditionally positive definite kernel of the distance, two learned numbers for each head.

        kind "log":    bias = -r1 ln(1 + r2 |d|)            r1, r2 > 0
        kind "power":  bias = -r1 |d|^r2                     r1 > 0, 0 < r2 <= 2

    Convention: added after 1/sqrt(H). The parameters are stored without bounds, `[N]` each: r1 and the r2 of "log" as
    their logarithm, the r2 of "power" as the argument of 2 sigmoid. Heads begin spread out: r1 from 1/e to e, r2 from
    e^-4 to e ("log") or from 0.54 to 1.46 ("power").

    Good at: flat loss past the trained length with each head's reach learned; the "log" kind extrapolates best in
    the paper, and fades far context more gently than a linear penalty.
    Bad at: keys many times farther than training reached, which it still loses by its decay; it cannot tell left
    from right.

    Errors: `InputError` for another kind.
    Source: Chi et al. 2022, arXiv:2205.09921, equations 5 and 6.

    >>> import jax
    >>> sorted(Kerple().init(jax.random.key(0), Dims(heads=4)))
    ['r1', 'r2']
    """

    kind: Literal["log", "power"] = "log"

    def init(self, key: jax.Array, dims: Dims) -> Params:
        low = -1.0
        if self.kind == "log":
            low = -4.0
        return {
            "r1": jnp.linspace(-1.0, 1.0, dims.heads, dtype=jnp.float32),
            "r2": jnp.linspace(low, 1.0, dims.heads, dtype=jnp.float32),
        }

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        r1 = _bounded(head.of(params["r1"]))
        r2 = _bounded(head.of(params["r2"]))
        wide = distance.astype(jnp.float32)
        far = jnp.abs(wide)
        if self.kind == "log":
            stretched = jnp.exp(r2) * far
            height = -jnp.exp(r1)
            return height * jnp.log1p(stretched)
        # At distance 0 the power's derivative is infinite; its value is 0 whatever the exponent.
        safe = jnp.where(far == 0, 1.0, far)
        exponent = 2 * jax.nn.sigmoid(r2)
        falling = -jnp.exp(r1) * safe**exponent
        return jnp.where(far == 0, 0.0, falling)


def _bounded(logarithm: jax.Array) -> jax.Array:
    # Within these bounds every value is a positive float32, and so is its product with any distance.
    wide = logarithm.astype(jnp.float32)
    return jnp.clip(wide, -40.0, 40.0)
