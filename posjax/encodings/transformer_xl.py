"""Content and position, each meeting the key's content and its distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.axes import expand_rank
from posjax.encodings import phases
from posjax.encodings.arrays import products
from posjax.encodings.base import Dims, Encoding, Pairs, Params, complete
from posjax.encodings.ranges import Base
from posjax.encodings.schedules import inverse_frequencies
from posjax.errors import InputError


@dataclass(frozen=True)
class TransformerXL(Encoding):
    """The decomposition of Transformer-XL: content and position each meet the key's content and its distance.

        score = ((q + u) k + (q + v) W R_d) / sqrt(H),   R_d = (sin d theta_i, cos d theta_i)

    at distance d = q_position - k_position, with u, v `[N, H]` and W `[N, H, D]` trained, `theta_i = base^(-2i/D)`, D
    the model size.

    Convention: sines of distances are taken apart into those of positions, which are exact, so that no vector is
    needed for each pair; all sines come first, then all cosines, as in the released code.

    Good at: states cached from earlier segments, for which it was made: content and distance have terms of their
    own, and any distance has a vector.
    Bad at: speed and size: a second product for each pair, a projection for each layer, and the reference or
    chunked backend.

    Errors: `InputError` for a base not above 1 or an odd model size.
    Source: Dai et al. 2019, arXiv:1901.02860, section 3.3.

    >>> import jax
    >>> sorted(TransformerXL().init(jax.random.key(0), Dims(heads=2, head_size=4, model_size=8)))
    ['u', 'v', 'w']
    """

    base: Base = 10_000.0

    swept = ("base",)

    @property
    def relative(self) -> bool:
        return True

    def init(self, key: jax.Array, dims: Dims) -> Params:
        if dims.model_size < 2 or dims.model_size % 2:
            raise InputError(
                f"TransformerXL got a model size of {dims.model_size}: needed is an even one, in Dims(model_size=...)"
            )
        # The width of W's last axis is that of R: one number for each sine and each cosine.
        first, second, third = jax.random.split(key, 3)
        shape = (dims.heads, dims.head_size)
        u = jax.random.normal(first, shape, jnp.float32)
        v = jax.random.normal(second, shape, jnp.float32)
        w = jax.random.normal(third, (*shape, dims.model_size), jnp.float32)
        return {"u": 0.02 * u, "v": 0.02 * v, "w": w / math.sqrt(dims.model_size)}

    def constants(self, dims: Dims) -> Params:
        frequencies = inverse_frequencies(dims.model_size, self.base)
        return {"turns": phases.fixed_point_turns(frequencies)}

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        u = params["u"].astype(jnp.float32)
        v = params["v"].astype(jnp.float32)
        w = params["w"].astype(jnp.float32)
        dims = Dims(model_size=w.shape[-1])
        turns = complete(self, params, dims)["turns"]
        wide = q.astype(jnp.float32)
        # What each query makes of the two halves of R, before any distance is known.
        towards_positions = wide + expand_rank(v, 3)
        met_NTD = jnp.einsum("TNH,NHD->NTD", towards_positions, w)
        on_sin, on_cos = jnp.split(met_NTD, 2, axis=-1)
        q_cos, q_sin = phases.cos_sin(pairs.q_positions, turns)
        k_cos, k_sin = phases.cos_sin(pairs.k_positions, turns)
        q_cos = expand_rank(q_cos, 3)
        q_sin = expand_rank(q_sin, 3)
        # sin(m - n) and cos(m - n) by the addition theorems, the parts of m on the query's side.
        beside_cos = on_sin * q_sin + on_cos * q_cos
        beside_sin = on_cos * q_sin - on_sin * q_cos
        by_cos = jnp.einsum("NTP,SP->NTS", beside_cos, k_cos)
        by_sin = jnp.einsum("NTP,SP->NTS", beside_sin, k_sin)
        towards_content = wide + expand_rank(u, 3)
        content = products(towards_content, k)
        by_position = by_cos + by_sin
        return (content + by_position) / math.sqrt(q.shape[-1])
