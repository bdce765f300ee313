"""Positions that are counted by content."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from posjax.encodings.arrays import held, products
from posjax.encodings.base import Dims, Encoding, Pairs, Params
from posjax.fields import AtLeast


@dataclass(frozen=True)
class CoPE(Encoding):
    """Contextual positions: a key's place is counted in the tokens between it and the query that the query cares for.

        gate = sigmoid(q k / sqrt(H)),   p = sum of the gates from the key up to the query, at most length - 1
        score = q k / sqrt(H) + q e[p],   e interpolated between its trained rows

    `length`: the rows of e, `[1, length, H]`, shared by the heads.

    Convention: gates see the scaled product; the embedded place meets the query unscaled, as in the released code.
    Keys after the query, and those that the mask hides, have no gate. Defined by token order, so it is for causal
    attention.

    Good at: counting what content marks: words, sentences, items; the paper's counting, selective copying and
    flip-flop tasks.
    Bad at: attention without a causal mask, places past its last row, which are all alike, and speed: positions are
    known only after all scores.

    Errors: `InputError` for a length below 2.
    Source: Golovneva et al. 2024, arXiv:2405.18719, equations 3 to 6.

    >>> import jax
    >>> CoPE(length=8).init(jax.random.key(0), Dims(heads=2, head_size=4))["rows"].shape
    (1, 8, 4)
    """

    length: Annotated[int, AtLeast(2, "the number of rows")] = 64

    @property
    def causal(self) -> bool:
        return True

    @property
    def relative(self) -> bool:
        return True

    def init(self, key: jax.Array, dims: Dims) -> Params:
        # Zero rows, as published, would leave the gates without a gradient in the first step.
        shape = (1, self.length, dims.head_size)
        drawn = jax.random.normal(key, shape, jnp.float32)
        return {"rows": 0.02 * drawn}

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        head_size = q.shape[-1]
        content = products(q, k) / math.sqrt(head_size)
        opened = jax.nn.sigmoid(content)
        gates = jnp.where(pairs.before[None], opened, 0.0)
        # Summed from the query back to each key, so along the keys from their end.
        from_the_end = jnp.cumsum(gates[..., ::-1], axis=-1)
        counted = from_the_end[..., ::-1]
        place = jnp.minimum(counted, self.length - 1.0)
        rows = held(self, "rows", params["rows"], 1, self.length, q.shape[-1])
        # The query meets every row once, and pairs pick from the answers: no [T, S, H] array.
        q_TNH = q.astype(jnp.float32)
        rows_PH = rows[0].astype(jnp.float32)
        met_NTP = jnp.einsum("TNH,PH->NTP", q_TNH, rows_PH)
        # The last row has none above it: what stands there is read from the row below, in full.
        floor = jnp.floor(place).astype(jnp.int32)
        below = jnp.clip(floor, 0, self.length - 2)
        part = place - below.astype(jnp.float32)
        low = jnp.take_along_axis(met_NTP, below, axis=-1)
        high = jnp.take_along_axis(met_NTP, below + 1, axis=-1)
        between_low = low * (1 - part)
        between_high = high * part
        return content + between_low + between_high
