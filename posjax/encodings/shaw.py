"""Relative vectors on the key side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from posjax.encodings.arrays import held, products
from posjax.encodings.base import Dims, Encoding, Pairs, Params
from posjax.encodings.ranges import Deviation
from posjax.fields import AtLeast


@dataclass(frozen=True)
class Shaw(Encoding):
    """Relative vectors on the key side: each clipped distance has a trained vector that the query meets.

        score = q (k + a_c) / sqrt(H),   c = clip(d, -clip, clip),   d = q_position - k_position

    `clip`: the largest distance that is told apart. `deviation`: that of the initial vectors `[1, 2 clip + 1, H]`,
    shared by the heads as in the paper.

    Convention: the vector joins the key after its projection. The paper's second set of vectors, on the values, is
    left out; its ablation finds no difference.

    Good at: positions that matter by content: the same distance may attract one query and repel another, and left
    differs from right.
    Bad at: distances past the clip, which all look alike; and speed, since scores by content need the reference or
    chunked backend.

    Errors: `InputError` for a clip below 1 or a negative deviation.
    Source: Shaw et al. 2018, arXiv:1803.02155, equations 2 and 4.

    >>> import jax
    >>> Shaw(clip=4).init(jax.random.key(0), Dims(heads=2, head_size=8))["keys"].shape
    (1, 9, 8)
    """

    clip: Annotated[int, AtLeast(1, "a distance")] = 16
    deviation: Deviation = 0.02

    @property
    def relative(self) -> bool:
        return True

    def init(self, key: jax.Array, dims: Dims) -> Params:
        distances = 2 * self.clip + 1
        shape = (1, distances, dims.head_size)
        drawn = jax.random.normal(key, shape, jnp.float32)
        return {"keys": self.deviation * drawn}

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        # The query meets every vector once, and pairs pick from the answers: no [T, S, H] array.
        head_size = q.shape[-1]
        distances = 2 * self.clip + 1
        keys = held(self, "keys", params["keys"], 1, distances, head_size)
        q_TNH = q.astype(jnp.float32)
        keys_CH = keys[0].astype(jnp.float32)
        met = jnp.einsum("TNH,CH->NTC", q_TNH, keys_CH)
        heads = met.shape[0]
        # The vectors stand in order of distance, from -clip on.
        clipped = jnp.clip(pairs.distance, -self.clip, self.clip)
        index = clipped + self.clip
        # Every head picks alike: only what it picks from differs.
        index_NTS = jnp.broadcast_to(index[None], (heads, *index.shape))
        chosen = jnp.take_along_axis(met, index_NTS, axis=-1)
        both = products(q, k) + chosen
        return both / math.sqrt(head_size)
