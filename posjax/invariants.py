"""Assertions that a user runs on any encoding, theirs included: that it does what an encoding must.

Each takes the encoding, its joined parameters and the model's sizes, and raises `AssertionError` with the worst case.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings.base import Dims, Encoding, Head, Pairs, Params


def scores(encoding: Encoding, params: Params, q: jax.Array, k: jax.Array, q_positions: jax.Array,
           k_positions: jax.Array) -> jax.Array:
    """What attention sees of an encoding: `(R_q q)(R_k k) / sqrt(H) + bias`, in float32.

    `q [B, T, N, H]`, `k [B, S, N, H]`, positions `[T]` and `[S]` -> `[B, N, T, S]`.
    """
    heads = q.shape[-2]
    chex.assert_equal_shape_suffix([q, k], 2)
    pairs = Pairs(q_positions, k_positions, jnp.arange(q.shape[1]), jnp.arange(k.shape[1]))
    q = encoding.rotate(params, q, q_positions, "query")
    k = encoding.rotate(params, k, k_positions, "key")
    content = jax.vmap(lambda q, k: encoding.score(params, q, k, pairs))(q, k)
    bias = jnp.stack([encoding.bias(params, q_positions, k_positions, Head(n, heads)) for n in range(heads)])
    return content + bias[None]


def assert_relative(encoding: Encoding, params: Params, dims: Dims, offsets: Sequence[int] = (1, 1000, 2**24 + 1),
                    length: int = 16, tolerance: float = 1e-5, seed: int = 0) -> None:
    """The shift law: scores stay the same when all positions move by one offset.

    The difference is measured against the scores' own scale, at each offset; positions stay below 2^31.

    >>> import posjax
    >>> assert_relative(posjax.Rope(), {}, Dims(heads=2, head_size=8), offsets=(1, 2**31 - 17))
    """
    q, k = jax.random.normal(jax.random.key(seed), (2, 2, length, dims.heads, dims.head_size))
    at = jnp.arange(length, dtype=jnp.int32)
    before = np.asarray(scores(encoding, params, q, k, at, at))
    for offset in offsets:
        moved = at + jnp.int32(offset)
        after = np.asarray(scores(encoding, params, q, k, moved, moved))
        worst = float(np.max(np.abs(after - before))) / max(float(np.max(np.abs(before))), 1.0)
        if not worst <= tolerance:
            raise AssertionError(f"{encoding!r} is not relative: moving all positions by {offset} changes a score by "
                                 f"{worst:.2g} of the scores' scale, and {tolerance:.2g} is allowed")


def assert_tile(encoding: Encoding, params: Params, dims: Dims, length: int = 12, seed: int = 0) -> None:
    """The tile law: every hook of a slice of positions is the slice of the hook.

    >>> import posjax
    >>> assert_tile(posjax.Alibi(), {}, Dims(heads=3, head_size=8, model_size=24))
    """
    at = jnp.arange(length, dtype=jnp.int32)
    x = jax.random.normal(jax.random.key(seed), (2, length, dims.model_size))
    heads = jax.random.normal(jax.random.key(seed), (2, length, dims.heads, dims.head_size))
    rows, columns = slice(length // 3, length - 1), slice(1, length // 2)
    for role in ("query", "key"):
        whole = encoding.rotate(params, heads, at, role)
        chex.assert_trees_all_close(encoding.rotate(params, heads[:, rows], at[rows], role), whole[:, rows], rtol=1e-6)
    chex.assert_trees_all_close(encoding.embed(params, x[:, rows], at[rows]), encoding.embed(params, x, at)[:, rows],
                                rtol=1e-6)
    for n in range(dims.heads):
        whole = encoding.bias(params, at, at, Head(n, dims.heads))
        part = encoding.bias(params, at[rows], at[columns], Head(n, dims.heads))
        chex.assert_trees_all_close(part, whole[rows, columns], rtol=1e-6)


def assert_distinct(encoding: Encoding, params: Params, dims: Dims, positions: Sequence[int], seed: int = 0) -> None:
    """The distinct law, for encodings that embed or rotate: different positions give different results.

    >>> import posjax
    >>> assert_distinct(posjax.Rope(), {}, Dims(heads=1, head_size=8, model_size=8), (0, 1, 2**31 - 1))
    """
    at = jnp.asarray(positions, jnp.int32)
    x = jax.random.normal(jax.random.key(seed), (1, 1, dims.model_size))
    heads = jax.random.normal(jax.random.key(seed), (1, 1, dims.heads, dims.head_size))
    embedded = encoding.embed(params, jnp.broadcast_to(x, (1, len(at), dims.model_size)), at)[0]
    shape = (1, len(at), dims.heads, dims.head_size)
    rotated = encoding.rotate(params, jnp.broadcast_to(heads, shape), at, "query")[0].reshape(len(at), -1)
    both = np.concatenate([np.asarray(embedded), np.asarray(rotated)], axis=1)
    for i in range(len(at)):
        same = [j for j in range(i) if np.array_equal(both[i], both[j])]
        if same:
            raise AssertionError(f"{encoding!r} does not tell position {positions[same[0]]} from {positions[i]}")
