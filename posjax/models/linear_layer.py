"""The module of a linear attention sublayer: a state of fixed size takes the place of a cache."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posjax.attention import LinearState, linear_attend
from posjax.attention.features import elu_plus_one
from posjax.attention.linear_attention import FeatureMap
from posjax.models.attention_layer import Call
from posjax.models.compute import Compute
from posjax.models.modules import marked, rowwise
from posjax.models.parts import LinearAttention
from posjax.models.projections import Projections
from posjax.models.rotating import rotating


def feature_map(config: LinearAttention) -> FeatureMap:
    """The map of queries and keys to features."""
    if config.features == "elu":
        return elu_plus_one
    return config.features


class LinearLayer(Projections):
    """Linear attention whose numerator an encoding may rotate."""

    def __init__(self, config: LinearAttention, width: int, residual_scale: float, compute: Compute, rngs: nnx.Rngs):
        super().__init__(config, width, residual_scale, compute, rngs)
        self.config = config

    def __call__(self, x_BTD: jax.Array, call: Call) -> tuple[jax.Array, LinearState | None, Any]:
        prepared, may_end = call.prepared, call.may_end
        q_BTNH = rowwise(self.query, x_BTD, may_end)
        k_BTKH = rowwise(self.key, x_BTD, may_end)
        v_BTKH = rowwise(self.value, x_BTD, may_end)
        # Whoever sees padding says so, by NaN, as in softmax attention; under Segments nobody does.
        if prepared.void is not None:
            k_BTKH = marked(k_BTKH, prepared.void[..., None, None])
        # Not those prepared: features are rotated there, not queries.
        encoding, params = rotating(prepared.encoding, prepared.raw)
        out_BTNH, state = linear_attend(
            q_BTNH,
            k_BTKH,
            v_BTKH,
            positions=prepared.tokens.q_positions,
            encoding=encoding,
            params=params,
            mask=prepared.mask,
            state=call.cached,
            feature=feature_map(self.config),
        )
        # As in softmax attention: a row of padding is NaN, and may not enter the stream.
        if prepared.void is not None:
            void = prepared.void[..., None, None]
            out_BTNH = jnp.where(void, 0, out_BTNH)
        out_BTD = rowwise(self.out, out_BTNH, may_end)
        # Without a cache nobody asked for it, and it would be kept alive.
        if call.cached is None:
            state = None
        return out_BTD, state, None
