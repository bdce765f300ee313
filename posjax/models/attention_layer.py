"""The module of an attention sublayer: projections, what happens to queries and keys, and the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posjax import attention
from posjax.attention import Prepared
from posjax.attention.over_cache import attention_over, folded, kept, unfolded
from posjax.encodings.base import turned
from posjax.errors import InputError
from posjax.models.cache import KeysValues
from posjax.models.compute import Compute
from posjax.models.modules import DenseLayer, NormLayer, marked, rowwise
from posjax.models.parts import Attention, Scores, key_value_heads, sizes
from posjax.models.projections import Projections

Probe = Callable[[jax.Array, jax.Array, Prepared], Any]
"""Looks at one layer's rotated queries `[B, T, N, H]` and keys `[B, S, K, H]`; its answers are collected by layer."""


@dataclass(frozen=True)
class Call:
    """One pass through one sublayer that looks at tokens.

    `windowed`: whether the cache keeps a window of the keys alone. `memory`: an encoder's stream, for cross attention
    without a cache. `key`: of what is dropped.
    """

    prepared: Prepared
    may_end: bool
    cached: Any = None
    windowed: bool = False
    memory: jax.Array | None = None
    key: jax.Array | None = None
    probe: Probe | None = None


jax.tree_util.register_dataclass(
    Call, data_fields=["prepared", "cached", "memory", "key"], meta_fields=["may_end", "windowed", "probe"]
)


class AttentionLayer(Projections):
    """Grouped-query attention whose positions are always explicit."""

    def __init__(
        self, config: Attention, width: int, residual_scale: float, share: float, compute: Compute, rngs: nnx.Rngs
    ):
        N, K, H = sizes(config, width)
        self.config = config
        self.share = share
        self.backend = compute.backend
        super().__init__(config, width, residual_scale, compute, rngs)
        stream = {"D": width}
        dtype = compute.dtype
        deviation = width**-0.5
        scores = config.scores
        self.query_norm = _norm(scores, {"N": N, "H": H}, compute, rngs)
        self.key_norm = _norm(scores, {"K": K, "H": H}, compute, rngs)
        gate, sink = None, None
        if scores.gate == "head":
            gate = DenseLayer(stream, {"N": N, "_": 1}, deviation, rngs, dtype=dtype)
        elif scores.gate == "channel":
            gate = DenseLayer(stream, {"N": N, "H": H}, deviation, rngs, dtype=dtype)
        if scores.sink:
            sink = nnx.Param(jnp.zeros(N, jnp.float32), letters="N")
        self.gate = gate
        self.sink = sink

    def __call__(self, x_BTD: jax.Array, call: Call) -> tuple[jax.Array, KeysValues | None, Any]:
        prepared, may_end = call.prepared, call.may_end
        q_BTNH = rowwise(self.query, x_BTD, may_end)
        # Before the rotation, which keeps lengths: the norm of what is rotated would be the same but for its scale.
        if self.query_norm is not None:
            q_BTNH = rowwise(self.query_norm, q_BTNH, may_end)
        q_BTNH = turned(prepared.encoding, prepared.params, q_BTNH, prepared.tokens.q_positions, "query")
        if self.config.keys_from == "memory":
            keys, values, cached = self._of_memory(call)
        else:
            keys, values, cached = self._of_stream(x_BTD, call)
        out_BTNH = self._attended(q_BTNH, keys, values, call)
        # A gate reads the stream, not what attention made of it.
        if self.gate is not None:
            gate_BTNH = rowwise(self.gate, x_BTD, may_end)
            out_BTNH = _gated(out_BTNH, gate_BTNH, may_end)
        seen = None
        if call.probe is not None:
            k_BSKH = keys
            if call.cached is not None:
                k_BSKH = unfolded(keys, rows=len(x_BTD))
            seen = call.probe(q_BTNH, k_BSKH, prepared)
        out_BTD = rowwise(self.out, out_BTNH, may_end)
        return out_BTD, cached, seen

    def keys_values(self, x_BSD: jax.Array, may_end: bool = False) -> KeysValues:
        """Keys, not yet rotated, and values `[B, S, K, H]` of a stream."""
        k_BSKH = rowwise(self.key, x_BSD, may_end)
        v_BSKH = rowwise(self.value, x_BSD, may_end)
        if self.key_norm is not None:
            k_BSKH = rowwise(self.key_norm, k_BSKH, may_end)
        return k_BSKH, v_BSKH

    def _of_memory(self, call: Call) -> tuple[jax.Array, jax.Array, KeysValues | None]:
        """The keys and values of an encoder's tokens, from the cache where they are made already."""
        # Rotated here and not in the cache: a schedule that follows the length would turn them anew.
        if call.cached is not None:
            keys, values = call.cached
            return self._late(keys, call), values, call.cached
        # Its padding may be no number, whatever this stack's own tokens are.
        k_BSKH, v_BSKH = self.keys_values(_expected(call), may_end=True)
        return call.prepared.rotate(k_BSKH, "key"), v_BSKH, None

    def _of_stream(self, x_BTD: jax.Array, call: Call) -> tuple[jax.Array, jax.Array, KeysValues | None]:
        """The keys and values of the tokens so far, and what the cache holds of them afterwards."""
        prepared = call.prepared
        k_BTKH, v_BTKH = self.keys_values(x_BTD, call.may_end)
        # A cache of an encoding that depends on the length holds keys that are not rotated yet.
        # What `at_length` gives need not know that it does: the layer's own is asked.
        late = call.cached is not None and self.config.encoding.length_dependent
        if not late:
            positions = prepared.tokens.q_positions
            k_BTKH = turned(prepared.encoding, prepared.params, k_BTKH, positions, "key")
        if prepared.void is not None:  # Whoever sees such a key says so, by NaN.
            void = prepared.void[..., None, None]
            k_BTKH = marked(k_BTKH, void)
        if call.cached is None:
            return k_BTKH, v_BTKH, None
        keys, values, cached = _appended(call.cached, k_BTKH, v_BTKH, call)
        if late:
            keys = self._late(keys, call)
        return keys, values, cached

    def _late(self, keys: jax.Array, call: Call) -> jax.Array:
        """Keys of a cache, rotated as they are looked at."""
        rows = len(keys) // key_value_heads(self.config)
        k_BSKH = call.prepared.rotate(unfolded(keys, rows), "key")
        # Back in lines, since that is how all of a cache is read.
        return folded(k_BSKH)

    def _attended(self, q_BTNH: jax.Array, keys: jax.Array, values: jax.Array, call: Call) -> jax.Array:
        """What the queries see, `[B, T, N, H]`."""
        prepared = call.prepared
        told = {"bias": prepared.bias, "mask": prepared.mask, "q_offset": prepared.q_offset, **self._more(call.key)}
        # A step over a cache is another job than the pass that the backend was named for.
        if call.cached is not None:
            out_BTNH = attention_over(q_BTNH, (keys, values), **told)
        else:
            backend = self.backend
            out_BTNH, _ = attention.attention(q_BTNH, keys, values, backend=backend, with_lse=False, **told)
        if prepared.void is None:
            return out_BTNH
        # Padding sees itself, so its own results are NaN: in the stream they would reach every weight's gradient.
        void = prepared.void[..., None, None]
        return jnp.where(void, 0, out_BTNH)

    def _more(self, key: jax.Array | None) -> dict[str, Any]:
        """What of the scores differs from plain attention."""
        scores = self.config.scores
        # Left out where it is plain, so that backends which know no more are asked for no more.
        more: dict[str, Any] = {}
        if scores.scale is not None:
            more["scale"] = scores.scale
        if scores.cap is not None:
            more["softcap"] = scores.cap
        if self.sink is not None:
            more["sinks"] = self.sink.get_value()
        if self.share and key is not None:
            more["dropout"] = attention.Dropout(self.share, key)
        return more


def _gated(x_BTNH: jax.Array, gate_BTNH: jax.Array, may_end: bool) -> jax.Array:
    """A product with the gate's share; rows of NaN reach neither of the two as a gradient."""
    H = x_BTNH.shape[-1]

    def product(both: jax.Array) -> jax.Array:
        return both[..., :H] * jax.nn.sigmoid(both[..., H:])

    if not may_end:
        return x_BTNH * jax.nn.sigmoid(gate_BTNH)
    return rowwise(product, jnp.concatenate([x_BTNH, gate_BTNH], axis=-1), may_end)


def _norm(scores: Scores, heads: dict[str, int], compute: Compute, rngs: nnx.Rngs) -> NormLayer | None:
    """The norm of queries or keys, whose last two axes are `heads`."""
    if scores.norm is None:
        return None
    if scores.norm_over == "head":
        return NormLayer(scores.norm, {"H": heads["H"]}, rngs, dtype=compute.dtype)
    over = 1
    if scores.norm_over == "all":
        over = 2
    return NormLayer(scores.norm, heads, rngs, dtype=compute.dtype, over=over)


def _expected(call: Call) -> jax.Array:
    """The stream of the memory that was prepared for. Errors: `InputError` for none, or one of other tokens."""
    if call.memory is None or call.memory.shape[1] != call.prepared.tokens.keys:
        have = "none was given"
        if call.memory is not None:
            have = f"one of {call.memory.shape[1]} was given"
        raise InputError(
            f"a memory of {call.prepared.tokens.keys} tokens was prepared for, and {have}: hand hidden the memory that "
            "prepare got"
        )
    return call.memory


def _appended(
    old: KeysValues, k_BTKH: jax.Array, v_BTKH: jax.Array, call: Call
) -> tuple[jax.Array, jax.Array, KeysValues]:
    """The keys and values of a step, and those that are kept for the next."""
    tokens = call.prepared.tokens
    earlier_keys, earlier_values = old
    slots = earlier_keys.shape[1]
    # Marks of a value go to its key here, once and for all steps that follow.
    new_keys, new_values = kept(k_BTKH, v_BTKH)
    if call.windowed:
        # The first tokens of all see themselves alone; later ones what was kept too.
        keys = _joined(earlier_keys, new_keys)
        values = _joined(earlier_values, new_values)
        moved_on = keys[:, -slots:], values[:, -slots:]
        return keys[:, -tokens.keys :], values[:, -tokens.keys :], moved_on
    keys = _put(earlier_keys, new_keys, tokens.q_offset)
    values = _put(earlier_values, new_values, tokens.q_offset)
    return keys, values, (keys, values)


def _joined(old: jax.Array, new: jax.Array) -> jax.Array:
    return jnp.concatenate([old, new.astype(old.dtype)], axis=1)


def _put(old: jax.Array, new: jax.Array, at: Any) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), at, 1)
