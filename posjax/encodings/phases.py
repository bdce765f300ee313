"""Angles that are exact at every int32 position.

A frequency becomes a count of turns per position in 64-bit fixed point, two uint32 words. Position times turns wraps
modulo 2^64, which is modulo one turn, so the range reduction that float32 angles lose everything in costs nothing and
loses nothing. Only the remaining fraction of a turn becomes a float.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from posjax.axes import expand_rank

# round(2^192 / (2 pi)); the fractions of frequencies are divided by 2 pi in integers.
_INVERSE_TWO_PI = 999031769477504631556283515717616693813654938713089696784


def fixed_point_turns(frequencies: np.ndarray) -> np.ndarray:
    """Frequencies in radians per position, float64 `[P]`, as turns modulo one: high and low words, uint32 `[2, P]`."""
    words = []
    for frequency in np.asarray(frequencies, np.float64):
        # In integers of any size: a float64 division would lose the last of the 64 bits.
        numerator, denominator = float(frequency).as_integer_ratio()
        # Half a unit more, so that the floor of the division rounds to the nearest.
        half = denominator << 127
        turns = (numerator * _INVERSE_TWO_PI + half) // (denominator << 128)
        words.append(turns % 2**64)
    high = [word >> 32 for word in words]
    low = [word & 0xFFFFFFFF for word in words]
    return np.array([high, low], np.uint32)


def _high_word(a: jax.Array, b: jax.Array) -> jax.Array:
    """The upper 32 bits of the 64-bit product of two uint32 arrays, from 16-bit pieces: no 64-bit type is needed."""
    a_low = a & 0xFFFF
    a_high = a >> 16
    b_low = b & 0xFFFF
    b_high = b >> 16
    # Each sum below stays within 32 bits: a product of halves is at most 2^32 - 2^17 + 1, and what joins it, 2^16 - 1.
    lowest = a_low * b_low
    middle = a_high * b_low + (lowest >> 16)
    other_middle = a_low * b_high + (middle & 0xFFFF)
    carried = other_middle >> 16
    highest = a_high * b_high
    return highest + (middle >> 16) + carried


def cos_sin(positions: jax.Array, turns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of `position * frequency`, float32.

    `positions [..., T]` int32, `turns [2, P]` from `fixed_point_turns` -> two arrays `[..., T, P]`. The error is below
    5e-7 at every position up to 2^31 - 1. A negative position gives NaN: it has no meaning, and the wrapped product
    would be wrong silently.
    """
    p = positions.astype(jnp.uint32)[..., None]
    high_word = jnp.asarray(turns[0], jnp.uint32)
    low_word = jnp.asarray(turns[1], jnp.uint32)
    high = expand_rank(high_word, p.ndim)
    low = expand_rank(low_word, p.ndim)
    # Read as signed, the upper word is the phase in [-1/2, 1/2) turns in units of 2^-32.
    upper = p * high + _high_word(p, low)
    phase = jax.lax.bitcast_convert_type(upper, jnp.int32)
    unit = np.float32(2 * np.pi / 2**32)
    angle = phase.astype(jnp.float32) * unit
    negative = positions[..., None] < 0
    angle = jnp.where(negative, jnp.nan, angle)
    return jnp.cos(angle), jnp.sin(angle)


def rotate_pairs(x: jax.Array, cos: jax.Array, sin: jax.Array, layout: str) -> jax.Array:
    """Turns each pair of channels. `x [B, T, N, r]`, `cos` and `sin [B or none, T, r/2]` -> `[B, T, N, r]`.

    Where a cosine is NaN, which marks a position without a meaning, so is the result, and it has no gradient.
    """
    half = x.shape[-1] // 2
    # A stack on a new axis beside the pairs is nine times faster on CPU than concatenating on the minor one.
    if layout == "split":
        axis, shape = -2, (2, half)
    else:
        axis, shape = -1, (half, 2)
    wide = x.astype(jnp.float32)
    pairs = wide.reshape(*x.shape[:-1], *shape)
    a = jnp.take(pairs, 0, axis=axis)
    b = jnp.take(pairs, 1, axis=axis)
    cos = expand_rank(cos[..., None, :], x.ndim)
    sin = expand_rank(sin[..., None, :], x.ndim)
    # NaN in a product would reach the gradient of the other factor: it is taken out, and put back at the end.
    void = jnp.isnan(cos)
    cos = jnp.where(void, 1.0, cos)
    sin = jnp.where(void, 0.0, sin)
    turned_a = a * cos - b * sin
    turned_b = a * sin + b * cos
    marked_a = jnp.where(void, jnp.nan, turned_a)
    marked_b = jnp.where(void, jnp.nan, turned_b)
    turned = jnp.stack([marked_a, marked_b], axis=axis)
    flat = turned.reshape(x.shape)
    return flat.astype(x.dtype)
