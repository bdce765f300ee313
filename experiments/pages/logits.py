"""What an encoding makes of queries and keys at given distances, computed by its own hooks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pages.picture_axes import FAR
from posjax.encodings import Dims, Encoding, Head, Pairs

HEAD_SIZE, MODEL_SIZE = 64, 64
DRAWS = 64
"""Random vectors over which a mean is taken."""


def distances(far: int = FAR) -> np.ndarray:
    """Distances up to `far`: every one while they are small, then evenly on a logarithmic axis."""
    # A logarithmic axis shows each small distance, and has no room for each large one.
    near = np.arange(17)
    beyond = np.geomspace(16, far, 240)
    return np.unique(np.concatenate([near, beyond]).round().astype(np.int32))


def params_of(value: Encoding, heads: int) -> Any:
    """What the hooks take: parameters as they begin, with the constants."""
    dims = Dims(heads, HEAD_SIZE, MODEL_SIZE)
    return value.join(value.init(jax.random.key(0), dims), value.constants(dims))


def vectors(rows: int, heads: int, seed: int) -> jax.Array:
    """Random queries or keys at one position, `[rows, 1, heads, H]`."""
    return jax.random.normal(jax.random.key(seed), (rows, 1, heads, HEAD_SIZE))


def at_each(vectors_B1NH: jax.Array, count: int) -> jax.Array:
    """The same vectors at `count` positions, so that a score differs by position alone."""
    B, _, N, H = vectors_B1NH.shape
    return jnp.broadcast_to(vectors_B1NH, (B, count, N, H))


def logits(value: Encoding, q: jax.Array, k: jax.Array, distances_S: np.ndarray, at: int = FAR) -> np.ndarray:
    """Scores and bias of queries `[R, 1, N, H]` at one position and keys `[R, S, N, H]` before it, `[R, N, S]`."""
    heads = q.shape[2]
    params = params_of(value, heads)
    q_at = jnp.array([at], jnp.int32)
    k_at = jnp.asarray(at - distances_S, jnp.int32)
    turned_q = value.rotate(params, q, q_at, "query")
    turned_k = value.rotate(params, k, k_at, "key")
    # The query is the last token: encodings that count tokens see every key at or before it.
    q_index = jnp.array([len(distances_S) - 1])
    pairs = Pairs(q_at, k_at, q_index, jnp.arange(len(distances_S)))
    scores = jax.vmap(lambda q_TNH, k_SNH: value.score(params, q_TNH, k_SNH, pairs))(turned_q, turned_k)
    # A head at a time, as the contract has it.
    bias = [value.bias(params, q_at, k_at, Head(head, heads)) for head in range(heads)]
    return np.asarray(scores + jnp.stack(bias)[None])[:, :, 0]


def aligned(value: Encoding, heads: int, distances_S: np.ndarray) -> np.ndarray:
    """Mean logits of q = k by head, `[N, S]`."""
    # The score of one vector bounces with its own channels; the mean leaves what the distance does.
    q = vectors(DRAWS, heads, 1)
    return logits(value, q, at_each(q, len(distances_S)), distances_S).mean(0)
