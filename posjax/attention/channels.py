"""A bias by slopes, under a causal mask, as a few extra channels of queries and keys, for kernels that take no bias.

Softmax ignores what is constant along a row, so `-slope * (m - n)` needs only `slope * n` on the side of the keys. In
bfloat16 neither factor would survive: a slope keeps 8 bits of its mantissa, a position past 256 is rounded. So the
position, counted from the middle of the keys, is written in digits of base 256, each exact in bfloat16 and the same for
every head, and the slope in pieces that add up to it. Digits times pieces are exact, and the kernel adds them in
float32.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WIDTH = 8
"""Channels added, whatever the length: kernels want head sizes that are multiples of eight."""


def digits(keys: int) -> np.ndarray:
    """Key indices from their middle, in signed digits of base 256: float32 `[S, digits]`, their sum `n - S // 2`.

    >>> digits(600)[[0, 299, 300, 599]].tolist()
    [[-44.0, -256.0], [-1.0, 0.0], [0.0, 0.0], [43.0, 256.0]]
    """
    centred = np.arange(keys) - keys // 2
    # As few digits as do: every channel that they leave goes to another piece of the slope.
    count = 2
    if keys > 2**17:
        count = 3
    left = np.abs(centred)
    each = []
    for d in range(count - 1):
        each.append((left & 255) * 256.0**d)
        left = left >> 8
    # The last digit may be 256, which is exact as well.
    each.append(left * 256.0 ** (count - 1))
    parts = np.stack(each, axis=-1)
    signed = np.where(centred[:, None] < 0, -parts, parts).astype(np.float32)
    # The sum with 0 leaves no negative zero.
    return signed + np.float32(0)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def pieces(slopes: jax.Array, count: int, dtype: str) -> jax.Array:
    """Slopes `[N]` as numbers of a dtype whose sum they are, `[N, count]`, the largest first."""
    left = slopes
    parts = []
    for _ in range(count):
        # Rounded in a way that the compiler cannot take for a needless conversion.
        part = lax.reduce_precision(left, *_bits(dtype))
        parts.append(part)
        left = left - part
    return jnp.stack(parts, axis=-1).astype(dtype)


def _bits(dtype: str) -> tuple[int, int]:
    information = jnp.finfo(dtype)
    return int(information.nexp), int(information.nmant)


def _pieces_back(count: int, dtype: str, _: None, cotangent: jax.Array) -> tuple[jax.Array]:
    # Every piece meets the same digits, so each has the slope's whole derivative: the first one's is taken.
    return (cotangent[:, 0].astype(jnp.float32),)


pieces.defvjp(lambda slopes, count, dtype: (pieces(slopes, count, dtype), None), _pieces_back)


def widen(q: jax.Array, k: jax.Array, slopes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Queries and keys with `WIDTH` more channels, so that `q k` gains `slope * (n - S // 2)`.

    `q [B, T, N, H]`; `k [B, S, K, H]`, keys at 0 .. S - 1; `slopes [N]`, times what logits are divided by afterwards.
    Exact for grouped queries too, since keys know nothing of slopes.

    The gradient of a slope sums, over all keys, terms as large as S that cancel; in bfloat16 it carries their rounding.
    """
    each = digits(k.shape[1])
    count = WIDTH // each.shape[1]
    split: Any = pieces(slopes.astype(jnp.float32), count, str(q.dtype))
    # One channel for each pair of a piece and a digit: their products are exact, and the kernel adds them up.
    q_channels = jnp.repeat(split, each.shape[1], axis=-1)
    k_channels = np.tile(each, (1, count))
    more = WIDTH - k_channels.shape[1]

    def wider(x: jax.Array, channels: jax.Array) -> jax.Array:
        placed = jnp.broadcast_to(channels.astype(x.dtype), (*x.shape[:3], channels.shape[-1]))
        padded = jnp.pad(placed, ((0, 0),) * 3 + ((0, more),))
        return jnp.concatenate([x, padded], axis=-1)

    # Queries differ by head here, and keys by their index.
    wide_q = wider(q, q_channels[None, None])
    wide_k = wider(k, jnp.asarray(k_channels)[None, :, None])
    return wide_q, wide_k
