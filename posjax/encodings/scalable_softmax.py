"""Queries that grow with the logarithm of their position, at a trained rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from posjax.axes import expand_rank
from posjax.encodings.base import Dims, Encoding, Params, Role
from posjax.encodings.temperature import log_place, scaled
from posjax.fields import Above


@dataclass(frozen=True)
class ScalableSoftmax(Encoding):
    """Scalable softmax: a trained scale for each head, so that attention does not fade as the number of keys grows.

        queries at position m times s_h ln(m + 1)

    Convention: a query at position m sees m + 1 keys, so n = m + 1; the first token, with n = 1, attends to itself
    whatever its scale. `scale` is the initial s.

    Good at: attention that stays sharp as keys grow in number, and retrieval in long contexts, in models trained
    with it (Nakanishi).
    Bad at: telling positions apart, which it does not; and models that were trained without it, whose logits it
    changes at once.

    Errors: `InputError` for a scale that is not positive.
    Source: Nakanishi 2025, arXiv:2501.19399, equation 2.

    >>> import jax
    >>> ScalableSoftmax().init(jax.random.key(0), Dims(heads=3))["scale"].shape
    (3,)
    """

    scale: Annotated[float, Above(0, "; the paper's models learn about 0.43")] = 0.43

    @property
    def injective(self) -> bool:
        # Queries differ in size by their position, keys not at all.
        return False

    def init(self, key: jax.Array, dims: Dims) -> Params:
        scale = jnp.full((dims.heads,), self.scale, jnp.float32)
        return {"scale": scale}

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        if role == "key":
            return x
        scale_N1 = params["scale"].astype(jnp.float32)[:, None]
        # Beside the positions' own axes there are those of heads and channels.
        own_scale = expand_rank(scale_N1, positions.ndim + 2)
        scale = log_place(positions) * own_scale
        return scaled(x, scale, positions)
