"""The layout of projection weights: which channels of a head are a pair, and the way from one layout to another."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from posjax.arguments import whole
from posjax.encodings.rope import Rope
from posjax.errors import InputError


def convert_layout(weights: jax.Array, heads: int, to: str, fraction: float = 1.0) -> jax.Array:
    """A query or key projection for the other pairing of channels, its outputs reordered within each head.

    `weights [..., N H]`, a projection's kernel or bias with the heads' channels last; `to` is "split" or
    "interleaved", `fraction` the share of each head that turns. Converting there and back gives the same bits, and a
    model with converted query and key projections and the other `Rope(layout=...)` gives the same output.

    Errors: `InputError` for another layout, or channels that the heads do not divide.

    >>> convert_layout(jnp.arange(4), heads=1, to="split").tolist()
    [0, 2, 1, 3]
    """
    if to not in ("split", "interleaved"):
        raise InputError(f"convert_layout got to={to!r}: needed is 'split' or 'interleaved'")
    heads = whole(heads, "heads", least=1)
    weights = jnp.asarray(weights)
    channels = 0
    if weights.ndim:
        channels = weights.shape[-1]
    if not channels or channels % heads:
        raise InputError(f"convert_layout got {channels} channels and heads={heads}: the heads must divide them")
    size = channels // heads
    turning = Rope(fraction=fraction).rotary_size(size)
    # Even channels are first of their pairs, odd ones second; the rest of the head stays behind them.
    even = jnp.arange(0, turning, 2)
    odd = jnp.arange(1, turning, 2)
    rest = jnp.arange(turning, size)
    order = jnp.concatenate([even, odd, rest])
    if to == "interleaved":
        order = jnp.argsort(order)  # The way back.
    shaped = weights.reshape(*weights.shape[:-1], heads, size)
    ordered = jnp.take(shaped, order, axis=-1)
    return ordered.reshape(weights.shape)
