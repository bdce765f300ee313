"""Attention with linear biases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings.base import Dims, Encoding, Head, Params, RelativeBias
from posjax.errors import InputError


def slopes(heads: int) -> np.ndarray:
    """The published slopes, float64 `[N]`, head 0 the steepest of a power of two.

    `2^(-8h/N)` for h = 1 .. N where N is a power of two; otherwise those of the power of two below, then every other
    slope of twice that.

    >>> slopes(6).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]
    """
    whole = 2 ** int(math.log2(heads))
    regular = [2.0 ** (-8 * h / whole) for h in range(1, whole + 1)]
    between = [2.0 ** (-4 * h / whole) for h in range(1, 2 * whole + 1, 2)]
    return np.array(regular + between[: heads - whole])


@dataclass(frozen=True)
class Alibi(RelativeBias):
    """A penalty that grows linearly with the distance, with a fixed slope for each head.

        bias = -slope_h * d,   d = q_position - k_position

    `direction`: "causal" is for keys at or before the query. "symmetric" takes |d|, and so cannot tell left from
    right. "asymmetric" lets the even heads look back with these slopes and the odd heads look ahead, each half
    of the heads blind to the other side.

    Convention: added after 1/sqrt(H); distances are subtracted as integers. In the causal direction keys ahead of the
    query get no penalty, and `attend` asks for a causal mask.

    Errors: `InputError` for another direction.
    Source: Press et al. 2021, arXiv:2108.12409, section 3; for both directions its authors' remark in their
    repository, that half of the heads may look each way.

    >>> import jax.numpy as jnp
    >>> Alibi().bias({}, jnp.arange(3), jnp.arange(3), Head(0, 8))[2].tolist()
    [-1.0, -0.5, -0.0]
    """

    direction: Literal["causal", "symmetric", "asymmetric"] = "causal"

    def __post_init__(self) -> None:
        if self.direction not in ("causal", "symmetric", "asymmetric"):
            raise InputError(f"Alibi got direction={self.direction!r}: needed is 'causal', 'symmetric' or 'asymmetric'")

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return self.direction == "causal"

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return (cls(), cls("symmetric"), cls("asymmetric"))

    def constants(self, dims: Dims) -> Params:
        if self.direction == "asymmetric":
            # Pairs of heads share a slope, one for each side, so that neither side lacks the steep or the flat ones.
            return {"slopes": np.repeat(slopes((dims.heads + 1) // 2), 2)[: dims.heads].astype(np.float32)}
        return {"slopes": slopes(dims.heads).astype(np.float32)}

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        slope = head.of(jnp.asarray(self.complete(params, Dims(heads=head.count))["slopes"]))
        if self.direction == "causal":
            return -slope * jnp.maximum(distance, 0).astype(jnp.float32)
        far = -slope * jnp.abs(distance.astype(jnp.float32))
        if self.direction == "symmetric":
            return far
        looks_back = jnp.asarray(head.index) % 2 == 0
        return jnp.where((distance == 0) | ((distance > 0) == looks_back), far, BLIND)


BLIND = -1e9
"""The bias of a side that a head does not see: finite, so that a row of such keys alone stays a number."""
