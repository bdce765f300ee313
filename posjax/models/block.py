"""One layer as a module: its sublayers, its norms, and how they join the stream."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from posjax.mesh import split_here
from posjax.models.architecture import Architecture, Layer, Stack
from posjax.models.attention_layer import AttentionLayer, Call, Probe
from posjax.models.cache import Entry
from posjax.models.compute import Compute
from posjax.models.linear_layer import LinearLayer
from posjax.models.modules import DenseLayer, NormLayer, activation, dropped, rowwise
from posjax.models.parts import Attention, FeedForward, LinearAttention, Sublayer
from posjax.models.plans import StackPlan
from posjax.models.preparing import PreparedLayers


class FeedForwardLayer(nnx.Module):
    """Two maps with an activation between, or three where one of them gates another."""

    def __init__(
        self, config: FeedForward, width: int, residual_scale: float, share: float, compute: Compute, rngs: nnx.Rngs
    ):
        stream, channels = {"D": width}, {"F": config.size}
        self.config = config
        self.share = share
        deviation = width**-0.5
        gate = None
        if config.gated:
            gate = DenseLayer(stream, channels, deviation, rngs, dtype=compute.dtype, bias=config.bias)
        self.gate = gate
        self.up = DenseLayer(stream, channels, deviation, rngs, dtype=compute.dtype, bias=config.bias)
        down_deviation = config.size**-0.5 * residual_scale
        self.down = DenseLayer(channels, stream, down_deviation, rngs, dtype=compute.dtype, bias=config.bias)

    def __call__(self, x_BTD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        act = activation(self.config.activation)
        if self.gate is None:
            inner_BTF = act(self.up(x_BTD))
        else:
            gate_BTF = act(self.gate(x_BTD))
            inner_BTF = gate_BTF * self.up(x_BTD)
        inner_BTF = dropped(inner_BTF, self.share, key)
        return self.down(inner_BTF)


class Block(nnx.Module):
    """One layer of a stack. Its sublayers are attributes under their own names, each beside its norms."""

    def __init__(
        self, architecture: Architecture, stack: Stack, index: int, layers: StackPlan, compute: Compute, rngs: Any
    ):
        layer = stack.layer(index)
        width = architecture.width
        self.config = layer
        self.share = architecture.dropout.residual
        self.kinds = layers.layers[index]
        self.names = _names(layer)
        # Norms first, then what they serve: an order of draws that a seed's model depends on.
        for at, name in enumerate(self.names):
            if layer.norm is None or (layer.shared_norm and at > 0):
                continue
            skipped = index == 0 and at == 0 and not stack.norm_first
            if not skipped:
                setattr(self, f"{name}_norm", NormLayer(layer.norm, {"D": width}, rngs, dtype=compute.dtype))
            if layer.norm_at == "both":
                setattr(self, f"{name}_norm_after", NormLayer(layer.norm, {"D": width}, rngs, dtype=compute.dtype))
        scale = residual_scale(stack)
        for name, sublayer in zip(self.names, layer.sublayers, strict=True):
            setattr(self, name, _module(sublayer, architecture, scale, compute, rngs))

    def __call__(
        self,
        x_BTD: jax.Array,
        prepared: PreparedLayers,
        entries: tuple[Entry, ...] | None = None,
        *,
        memory: jax.Array | None = None,
        key: jax.Array | None = None,
        probe: Probe | None = None,
    ) -> tuple[jax.Array, tuple[Entry, ...], list[Any]]:
        """The stream after the layer, what a cache keeps of it, and what a probe saw in each of its attentions."""
        # In parallel all sublayers read this one.
        read_BTD = x_BTD
        kept: list[Entry] = []
        seen = []
        for at, name in enumerate(self.names):
            own_key = None
            if key is not None:
                own_key = jax.random.fold_in(key, at)
            entry = None
            if entries is not None:
                entry = entries[at]
            call = self._call(at, prepared, entry, memory, own_key, probe)
            if not self.config.parallel:
                read_BTD = x_BTD
            made_BTD, entry, saw = self._made(at, read_BTD, call, prepared.may_end, own_key)
            joined_BTD = self._joined(name, x_BTD, made_BTD, prepared.may_end, own_key)
            x_BTD = split_here(joined_BTD, "BTD")
            kept.append(entry)
            # Linear attention has no scores to look at, and a probe gets one answer for each attention.
            if isinstance(self.config.sublayers[at], Attention):
                seen.append(saw)
        return x_BTD, tuple(kept), seen

    def _call(
        self,
        at: int,
        prepared: PreparedLayers,
        entry: Entry,
        memory: jax.Array | None,
        key: jax.Array | None,
        probe: Probe | None,
    ) -> Call | None:
        kind = self.kinds[at]
        if kind is None:
            return None
        return Call(
            prepared.kinds[kind],
            prepared.may_end,
            cached=entry,
            windowed=kind in prepared.windowed,
            memory=memory,
            key=key,
            probe=probe,
        )

    def _made(
        self, at: int, x_BTD: jax.Array, call: Call | None, may_end: bool, key: jax.Array | None
    ) -> tuple[jax.Array, Entry, Any]:
        """What a sublayer makes of the stream, through the norm that stands before it."""
        name = self.names[at]
        sublayer = getattr(self, name)
        before = self._norm_before(name)
        # A feed-forward and its norm see one token, so what is void is kept from both at once.
        if call is None:

            def fed_forward(x: jax.Array) -> jax.Array:
                return sublayer(before(x), key=key)

            return rowwise(fed_forward, x_BTD, may_end), None, None
        normed_BTD = rowwise(before, x_BTD, may_end)
        return sublayer(normed_BTD, call=call)

    def _norm_before(self, name: str) -> Any:
        if self.config.norm_at not in ("before", "both"):
            return _unchanged
        if self.config.shared_norm:
            name = self.names[0]
        return getattr(self, f"{name}_norm", _unchanged)

    def _joined(
        self, name: str, x_BTD: jax.Array, made_BTD: jax.Array, may_end: bool, key: jax.Array | None
    ) -> jax.Array:
        """The stream with what a sublayer made, through the norm that stands after it."""
        after = {"after": f"{name}_norm", "both": f"{name}_norm_after"}.get(self.config.norm_at)
        if after is not None and self.config.norm is not None:
            made_BTD = rowwise(getattr(self, after), made_BTD, may_end)
        if key is not None:
            # Another key than the sublayer's own.
            key = jax.random.fold_in(key, 1)
        made_BTD = dropped(made_BTD, self.share, key)
        # A product with 1 would be the same, and one more operation in the default's program.
        if self.config.multiplier != 1:
            made_BTD = made_BTD * self.config.multiplier
        sum_BTD = x_BTD + made_BTD
        if self.config.norm_at == "sum" and self.config.norm is not None:
            return rowwise(getattr(self, f"{name}_norm"), sum_BTD, may_end)
        return sum_BTD


def residual_scale(stack: Stack) -> float:
    """What keeps the stream's variance at 1 at the start, with one addition for each sublayer."""
    turns, rest = divmod(stack.layers, len(stack.pattern))
    counts = [len(layer.sublayers) for layer in stack.pattern]
    additions = turns * sum(counts) + sum(counts[:rest])
    return additions**-0.5


def _unchanged(x: jax.Array) -> jax.Array:
    return x


def _module(sublayer: Sublayer, architecture: Architecture, scale: float, compute: Compute, rngs: nnx.Rngs) -> Any:
    width = architecture.width
    if isinstance(sublayer, Attention):
        return AttentionLayer(sublayer, width, scale, architecture.dropout.attention, compute, rngs)
    if isinstance(sublayer, LinearAttention):
        return LinearLayer(sublayer, width, scale, compute, rngs)
    return FeedForwardLayer(sublayer, width, scale, architecture.dropout.feed_forward, compute, rngs)


def _names(layer: Layer) -> tuple[str, ...]:
    """A name for each sublayer: what it is, with a number where there are several of them."""
    names: list[str] = []
    for sublayer in layer.sublayers:
        name = "feed_forward"
        if isinstance(sublayer, LinearAttention):
            name = "linear_attention"
        elif isinstance(sublayer, Attention):
            name = "attention"
            if sublayer.keys_from == "memory":
                name = "cross_attention"
        same = sum(other.rstrip("_0123456789") == name for other in names)
        if same:
            name = f"{name}_{same + 1}"
        names.append(name)
    return tuple(names)
