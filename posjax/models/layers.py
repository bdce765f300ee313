"""The layers of a decoder: attention with any encoding, SwiGLU, and the pre-norm block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from posjax import attention
from posjax.attention import Bias, Mask
from posjax.encodings.base import Dims, Encoding, Params

if TYPE_CHECKING:
    from posjax.models.decoder import Decoder


@dataclass(frozen=True)
class Places:
    """What layers of one forward pass share: computed once, from positions, mask and encoding.

    `params` is joined and prepared for `positions [b, T]`; `key_positions [b, S]` and `raw` (the same parameters, not
    prepared) serve a cache of keys that are not rotated yet. `q_offset` is the first query's index among the keys.
    `void [b, T]` marks tokens without a position: nothing is to look at them, and they look at nothing.
    """

    encoding: Encoding
    params: Params
    positions: jax.Array
    bias: Bias
    mask: Mask
    q_offset: Any
    raw: Params
    key_positions: jax.Array
    void: jax.Array | None = None


jax.tree_util.register_dataclass(
    Places,
    meta_fields=["encoding"],
    data_fields=["params", "positions", "bias", "mask", "q_offset", "raw", "key_positions", "void"],
)


@dataclass(frozen=True)
class Pass:
    """One forward pass: the whole encoding's parameters for the embedding, and the places of each kind of layer.

    There is one kind but where the encoding changes over the layers, and they take turns. They have names, "0", "1", …,
    and no numbers, since `nnx.tabulate` shows a dict of such values, and no tuple.
    """

    params: Params
    kinds: dict[str, Places]

    def of(self, layer: int) -> Places:
        """The places of one layer."""
        return self.kinds[str(layer % len(self.kinds))]


jax.tree_util.register_dataclass(Pass, data_fields=["params", "kinds"], meta_fields=[])

KeysValues = tuple[jax.Array, jax.Array]
Probe = Callable[[jax.Array, jax.Array, Places], Any]
"""Looks at one layer's rotated queries `[B, T, N, H]` and keys `[B, S, K, H]`; its answers are collected by layer."""


def _linear(size: tuple[int, int], deviation: float, config: Decoder, rngs: nnx.Rngs) -> nnx.Linear:
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
        D, N, K, H = config.model_size, config.heads, config.key_value_heads, config.size_of_head
        self.backend, self.sizes = config.backend, (N, K, H)
        self.query, self.key, self.value = (_linear((D, n * H), D**-0.5, config, rngs) for n in (N, K, K))
        self.out = _linear((N * H, D), (N * H) ** -0.5 * config.residual_scale, config, rngs)

    def __call__(
        self, x_BTD: jax.Array, places: Places, cached: KeysValues | None = None, probe: Probe | None = None
    ) -> tuple[jax.Array, KeysValues | None, Any]:
        N, K, H = self.sizes
        B, T = x_BTD.shape[:2]
        q_BTNH = self.query(x_BTD).reshape(B, T, N, H)
        k_BSKH, v_BSKH = self.key(x_BTD).reshape(B, T, K, H), self.value(x_BTD).reshape(B, T, K, H)
        encoding = places.encoding
        q_BTNH = encoding.rotate(places.params, q_BTNH, places.positions, "query")
        # A cache of an encoding that depends on the length holds keys that are not rotated yet.
        late = cached is not None and encoding.length_dependent
        if not late:
            k_BSKH = encoding.rotate(places.params, k_BSKH, places.positions, "key")
        if places.void is not None:  # Whoever sees such a key says so, by NaN.
            k_BSKH = jnp.where(places.void[..., None, None], jnp.nan, k_BSKH).astype(k_BSKH.dtype)
        if cached is not None:
            cached = k_BSKH, v_BSKH = _append(cached[0], k_BSKH, places), _append(cached[1], v_BSKH, places)
        if late:
            k_BSKH = encoding.rotate(places.raw, k_BSKH, places.key_positions, "key")
        # A step over a cache is another job than the pass that the backend was named for: there the table chooses.
        backend = self.backend if cached is None else "auto"
        out_BTNH, _ = attention.attention(
            q_BTNH,
            k_BSKH,
            v_BSKH,
            bias=places.bias,
            mask=places.mask,
            q_offset=places.q_offset,
            backend=backend,
            with_lse=False,
        )
        if places.void is not None:
            out_BTNH = jnp.where(places.void[..., None, None], 0, out_BTNH)
        seen = None if probe is None else probe(q_BTNH, k_BSKH, places)
        return self.out(out_BTNH.reshape(B, T, N * H)), cached, seen


def _append(old: jax.Array, new: jax.Array, places: Places) -> jax.Array:
    if not isinstance(places.q_offset, int):
        # Known only now that there is no room: the last place would be overwritten, and nobody told.
        room = places.q_offset + new.shape[1] <= old.shape[1]
        new = jnp.where(room, new, jnp.nan)
    return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), places.q_offset, 1)


class SwiGLU(nnx.Module):
    """`(silu(x W_gate) * x W_up) W_down`. Source: Shazeer 2020, arXiv:2002.05202."""

    def __init__(self, config: Decoder, rngs: nnx.Rngs):
        D, F = config.model_size, config.size_of_feed_forward
        self.gate, self.up = (_linear((D, F), D**-0.5, config, rngs) for _ in range(2))
        self.down = _linear((F, D), F**-0.5 * config.residual_scale, config, rngs)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(x_BTD)) * self.up(x_BTD))


class Block(nnx.Module):
    """Pre-norm: each half normalises, computes, and adds to the stream."""

    def __init__(self, config: Decoder, rngs: nnx.Rngs):
        self.attention_norm, self.feed_forward_norm = (norm(config, rngs) for _ in range(2))
        self.attention = Attention(config, rngs)
        self.feed_forward = SwiGLU(config, rngs)

    def __call__(
        self, x_BTD: jax.Array, places: Places, cached: KeysValues | None = None, probe: Probe | None = None
    ) -> tuple[jax.Array, KeysValues | None, Any]:
        attended, cached, seen = self.attention(self.attention_norm(x_BTD), places=places, cached=cached, probe=probe)
        x_BTD = x_BTD + attended
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD)), cached, seen


def norm(config: Decoder, rngs: nnx.Rngs) -> nnx.RMSNorm:
    """Root-mean-square normalisation with a learned scale, its statistics in float32."""
    return nnx.RMSNorm(
        config.model_size, epsilon=config.epsilon, dtype=jnp.dtype(config.dtype), param_dtype=jnp.float32, rngs=rngs
    )


def dims(config: Decoder) -> Dims:
    """The sizes that an encoding takes from this model."""
    return Dims(heads=config.heads, head_size=config.size_of_head, model_size=config.model_size)
