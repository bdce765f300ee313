"""The layers of a decoder: attention with any encoding, SwiGLU, and the pre-norm block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posjax import attention
from posjax.attention import Prepared
from posjax.encodings.base import Params
from posjax.models.cache import KeysValues
from posjax.models.decoder import Decoder


@dataclass(frozen=True)
class PreparedLayers:
    """One forward pass: the whole encoding's parameters for the embedding, and what each kind of layer needs.

    There is one kind but where the encoding changes over the layers, and they take turns. They have names, "0", "1", …,
    and no numbers, since `nnx.tabulate` shows a dict of such values, and no tuple.
    """

    params: Params
    kinds: dict[str, Prepared]

    def of(self, layer: int) -> Prepared:
        """What one layer needs."""
        kind = layer % len(self.kinds)
        return self.kinds[str(kind)]


jax.tree_util.register_dataclass(PreparedLayers, data_fields=["params", "kinds"], meta_fields=[])

Probe = Callable[[jax.Array, jax.Array, Prepared], Any]
"""Looks at one layer's rotated queries `[B, T, N, H]` and keys `[B, S, K, H]`; its answers are collected by layer."""


def dense(size: tuple[int, int], deviation: float, config: Decoder, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear map without a bias, of normal weights with this standard deviation."""
    return nnx.Linear(
        *size,
        use_bias=False,
        dtype=jnp.dtype(config.dtype),
        param_dtype=jnp.float32,
        kernel_init=nnx.initializers.normal(deviation),
        rngs=rngs,
    )


class Attention(nnx.Module):
    """Grouped-query attention whose positions are always explicit."""

    def __init__(self, config: Decoder, rngs: nnx.Rngs):
        D, H = config.model_size, config.size_of_head
        N, K = config.heads, config.key_value_heads
        self.backend = config.backend
        self.sizes = (N, K, H)
        # Deviations that keep the variance of what they make at that of what they read.
        deviation = D**-0.5
        self.query = dense((D, N * H), deviation, config, rngs)
        self.key = dense((D, K * H), deviation, config, rngs)
        self.value = dense((D, K * H), deviation, config, rngs)
        # What adds to the stream starts smaller, the more layers add.
        width = N * H
        out_deviation = width**-0.5 * config.residual_scale
        self.out = dense((width, D), out_deviation, config, rngs)

    def __call__(
        self, x_BTD: jax.Array, prepared: Prepared, cached: KeysValues | None = None, probe: Probe | None = None
    ) -> tuple[jax.Array, KeysValues | None, Any]:
        N, K, H = self.sizes
        B, T, _ = x_BTD.shape
        may_end = prepared.may_end
        queries = rowwise(self.query, x_BTD, may_end)
        keys = rowwise(self.key, x_BTD, may_end)
        values = rowwise(self.value, x_BTD, may_end)
        q_BTNH = queries.reshape(B, T, N, H)
        k_BSKH = keys.reshape(B, T, K, H)
        v_BSKH = values.reshape(B, T, K, H)
        encoding = prepared.encoding
        positions = prepared.tokens.q_positions
        q_BTNH = encoding.rotate(prepared.params, q_BTNH, positions, "query")
        # A cache of an encoding that depends on the length holds keys that are not rotated yet.
        late = cached is not None and encoding.length_dependent
        if not late:
            k_BSKH = encoding.rotate(prepared.params, k_BSKH, positions, "key")
        if prepared.void is not None:  # Whoever sees such a key says so, by NaN.
            void = prepared.void[..., None, None]
            k_BSKH = _marked(k_BSKH, void)
        if cached is not None:
            earlier_keys, earlier_values = cached
            k_BSKH = _append(earlier_keys, k_BSKH, prepared)
            v_BSKH = _append(earlier_values, v_BSKH, prepared)
            cached = k_BSKH, v_BSKH
        if late:
            k_BSKH = prepared.rotate(k_BSKH, "key")
        # A step over a cache is another job than the pass that the backend was named for: there the table chooses.
        backend = self.backend
        if cached is not None:
            backend = "auto"
        out_BTNH = _attended(q_BTNH, k_BSKH, v_BSKH, prepared, backend)
        seen = None
        if probe is not None:
            seen = probe(q_BTNH, k_BSKH, prepared)
        joined_BTX = out_BTNH.reshape(B, T, N * H)
        out_BTD = rowwise(self.out, joined_BTX, may_end)
        return out_BTD, cached, seen


def _attended(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, prepared: Prepared, backend: str) -> jax.Array:
    """What the queries of a layer see, `[B, T, N, H]`."""
    out_BTNH, _ = attention.attention(
        q_BTNH,
        k_BSKH,
        v_BSKH,
        bias=prepared.bias,
        mask=prepared.mask,
        q_offset=prepared.q_offset,
        backend=backend,
        with_lse=False,
    )
    if prepared.void is None:
        return out_BTNH
    # Padding sees itself, so its own results are NaN: in the stream they would reach every weight's gradient.
    void = prepared.void[..., None, None]
    return jnp.where(void, 0, out_BTNH)


def _append(old: jax.Array, new: jax.Array, prepared: Prepared) -> jax.Array:
    if not isinstance(prepared.q_offset, int):
        # Known only now that there is no room: the last place would be overwritten, and nobody told.
        end = prepared.q_offset + new.shape[1]
        room = end <= old.shape[1]
        new = jnp.where(room, new, jnp.nan)
    new = new.astype(old.dtype)
    return jax.lax.dynamic_update_slice_in_dim(old, new, prepared.q_offset, 1)


def _marked(x: jax.Array, void: jax.Array) -> jax.Array:
    """An array with NaN where something is void, in its own dtype."""
    marked = jnp.where(void, jnp.nan, x)
    return marked.astype(x.dtype)


def rowwise(function: Callable[[jax.Array], jax.Array], x_BTD: jax.Array, may_end: bool) -> jax.Array:
    """A function of each token alone; where an encoding may end, tokens past it stay NaN and reach no gradient.

    A NaN in the stream would otherwise be multiplied by a cotangent of 0, and make the gradient of every weight NaN.
    """
    if not may_end:
        return function(x_BTD)
    finite = jnp.isfinite(x_BTD)
    void = ~jnp.all(finite, axis=-1, keepdims=True)
    # Zeros go in, so that what comes back through the function to its weights is a number.
    only_numbers = jnp.where(void, 0, x_BTD)
    out = function(only_numbers)
    return _marked(out, void)


class SwiGLU(nnx.Module):
    """`(silu(x W_gate) * x W_up) W_down`. Source: Shazeer 2020, arXiv:2002.05202."""

    def __init__(self, config: Decoder, rngs: nnx.Rngs):
        D, F = config.model_size, config.size_of_feed_forward
        deviation = D**-0.5
        self.gate = dense((D, F), deviation, config, rngs)
        self.up = dense((D, F), deviation, config, rngs)
        down_deviation = F**-0.5 * config.residual_scale
        self.down = dense((F, D), down_deviation, config, rngs)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        gate_BTF = jax.nn.silu(self.gate(x_BTD))
        gated_BTF = gate_BTF * self.up(x_BTD)
        return self.down(gated_BTF)


class Block(nnx.Module):
    """Pre-norm: each half normalises, computes, and adds to the stream."""

    def __init__(self, config: Decoder, rngs: nnx.Rngs):
        self.attention_norm = norm(config, rngs)
        self.feed_forward_norm = norm(config, rngs)
        self.attention = Attention(config, rngs)
        self.feed_forward = SwiGLU(config, rngs)

    def __call__(
        self, x_BTD: jax.Array, prepared: Prepared, cached: KeysValues | None = None, probe: Probe | None = None
    ) -> tuple[jax.Array, KeysValues | None, Any]:
        may_end = prepared.may_end
        normed_BTD = rowwise(self.attention_norm, x_BTD, may_end)
        attended_BTD, cached, seen = self.attention(normed_BTD, prepared=prepared, cached=cached, probe=probe)
        x_BTD = x_BTD + attended_BTD
        fed_BTD = rowwise(self._fed_forward, x_BTD, may_end)
        return x_BTD + fed_BTD, cached, seen

    def _fed_forward(self, x_BTD: jax.Array) -> jax.Array:
        normed_BTD = self.feed_forward_norm(x_BTD)
        return self.feed_forward(normed_BTD)


def norm(config: Decoder, rngs: nnx.Rngs) -> nnx.RMSNorm:
    """Root-mean-square normalisation with a learned scale, its statistics in float32."""
    return nnx.RMSNorm(
        config.model_size, epsilon=config.epsilon, dtype=jnp.dtype(config.dtype), param_dtype=jnp.float32, rngs=rngs
    )
