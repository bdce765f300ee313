"""Float64 oracles of encodings that score content, of Sandwich and of temperatures, importing nothing of posjax or jax.

Symbols and shapes as in `tests.oracles`; one row at a time: q `[T,N,H]`, k `[S,N,H]`, positions `[T]` and `[S]`, and
scores `[N,T,S]` that are final, so scaled by 1/sqrt(H). Loops rather than cleverness: these are for small arrays.
"""

import numpy as np
from numpy.typing import ArrayLike

from tests.oracles import Array, distances, plain, rope


def products(q: ArrayLike, k: ArrayLike) -> Array:
    """q k / sqrt(H).

    Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1.
    Second source: none.
    """
    q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
    return np.einsum("tnh,snh->nts", q, k) / np.sqrt(q.shape[-1])


def shaw(rows: ArrayLike, clip: int, q: ArrayLike, k: ArrayLike, q_at: ArrayLike, k_at: ArrayLike) -> Array:
    """q (k + a_clip(d)) / sqrt(H).

    `rows[1, 2 clip + 1, H]` by d = m - n, the furthest key ahead first.

    Source: Shaw et al. 2018 (arXiv 1803.02155), equations 2 and 4.
    Second source: none.
    """
    q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
    vector = np.asarray(rows, np.float64)[0][np.clip(distances(q_at, k_at), -clip, clip) + clip]  # [T,S,H]
    return products(q, k) + np.einsum("tnh,tsh->nts", q, vector) / np.sqrt(q.shape[-1])


def transformer_xl(params: dict, base: float, q: ArrayLike, k: ArrayLike, q_at: ArrayLike, k_at: ArrayLike) -> Array:
    """((q + u) k + (q + v) W R_d) / sqrt(H).

    u, v `[N,H]`, w `[N,H,D]`; R_d keeps all sines of d theta_i, then all cosines.

    Source: Dai et al. 2019 (arXiv 1901.02860), section 3.3.
    Second source: none.
    """
    q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
    u, v, w = (np.asarray(params[name], np.float64) for name in ("u", "v", "w"))
    angles = distances(q_at, k_at)[..., None] * plain(w.shape[-1], base)[0]
    waves = np.concatenate([np.sin(angles), np.cos(angles)], -1)  # [T,S,D]
    place = np.einsum("tnh,nhd,tsd->nts", q + v, w, waves)
    return products(q + u, k) + place / np.sqrt(q.shape[-1])


def cope(rows: ArrayLike, q: ArrayLike, k: ArrayLike) -> Array:
    """q k / sqrt(H) + q e[p], p the sum of gates from key to query.

    `rows[1, length, H]`; gates are sigmoid(q k / sqrt(H)), p at most length - 1; keys ahead stay as they are (masked).

    Source: Golovneva et al. 2024 (arXiv 2405.18719), equations 3 to 6.
    Second source: none; one row by hand.
    """
    q, scores = np.asarray(q, np.float64), products(q, k)
    table = np.asarray(rows, np.float64)[0]
    result = scores.copy()
    for h, t, s in np.ndindex(scores.shape):
        if s > t:
            continue
        place = min(sum(1 / (1 + np.exp(-scores[h, t, j])) for j in range(s, t + 1)), len(table) - 1)
        below = int(np.floor(place))
        above = min(below + 1, len(table) - 1)
        row = (1 - (place - below)) * table[below] + (place - below) * table[above]
        result[h, t, s] += q[t, h] @ row
    return result


def forgetting(w: ArrayLike, b: ArrayLike, q: ArrayLike, k: ArrayLike) -> Array:
    """q k / sqrt(H) + sum_{l=s+1..t} ln sigmoid(w k_l + b).

    Source: Lin et al. 2025 (arXiv 2503.02130), equations 5 to 7.
    Second source: none; one row by hand.
    """
    w, b, k, scores = np.asarray(w, np.float64), np.asarray(b, np.float64), np.asarray(k, np.float64), products(q, k)
    faded = -np.log1p(np.exp(-(np.einsum("nh,snh->ns", w, k) + b[:, None])))
    result = scores.copy()
    for h, t, s in np.ndindex(scores.shape):
        if s < t:
            result[h, t, s] += sum(faded[h, l] for l in range(s + 1, t + 1))
    return result


def sandwich(heads: int, size: int, base: float, q_at: ArrayLike, k_at: ArrayLike) -> Array:
    """(sum_i cos(d theta_i) - size/2) / (8 h / N), i = 0..size/2 - 1, h = 1..N: the ratio compresses, so it divides.

    Source: Chi et al. 2022 (arXiv 2212.10356), section 5.
    Second source: NeMo's SandwichRelativePositionEmbedding, read and run by no test: it divides too, but its i are
    1..size/2.
    """
    waves = np.cos(distances(q_at, k_at)[..., None] * plain(size, base)[0]).sum(-1) - size / 2
    return np.array([waves / (8 * h / heads) for h in range(1, heads + 1)])


def scalable_softmax(scale: ArrayLike, q: ArrayLike, at: ArrayLike) -> Array:
    """Queries `[B,T,N,H]` at `[B,T]` times s_h ln(m + 1).

    Source: Nakanishi 2025 (arXiv 2501.19399), equation 2.
    Second source: none.
    """
    grown = np.log(np.asarray(at, np.float64) + 1)[:, :, None] * np.asarray(scale, np.float64)
    return np.asarray(q, np.float64) * grown[..., None]


def _turned(x: ArrayLike, at: ArrayLike, base: float) -> Array:
    x = np.asarray(x, np.float64)
    return rope(x[None], np.asarray(at)[None], plain(x.shape[-1], base)[0])[0]


def near_far(near: Array, far: Array, window: int, q_at: ArrayLike, k_at: ArrayLike) -> Array:
    """Scores `near` for |d| < window, else `far`.

    Source: Jin et al. 2024 (arXiv 2401.01325), section 3.
    Second source: none.
    """
    return np.where(np.abs(distances(q_at, k_at)) < window, near, far)


def self_extend(
    window: int, group: int, base: float, q: ArrayLike, k: ArrayLike, q_at: ArrayLike, k_at: ArrayLike
) -> Array:
    """RoPE near, and far queries at m // g + w - w // g, keys at n // g.

    Source: Jin et al. 2024 (arXiv 2401.01325), section 3.
    Second source: none.
    """
    q_far, k_far = np.asarray(q_at) // group + window - window // group, np.asarray(k_at) // group
    near = products(_turned(q, q_at, base), _turned(k, k_at, base))
    far = products(_turned(q, q_far, base), _turned(k, k_far, base))
    return near_far(near, far, window, q_at, k_at)


def rerope(window: int, base: float, q: ArrayLike, k: ArrayLike, q_at: ArrayLike, k_at: ArrayLike) -> Array:
    """RoPE with the distance min(d, w): ReRoPE, the truncated relative matrix.

    Source: Su 2023 (kexue.fm/archives/9706).
    Second source: none.
    """
    far_q, far_k = np.full(len(np.asarray(q_at)), window), np.zeros(len(np.asarray(k_at)), int)
    near = products(_turned(q, q_at, base), _turned(k, k_at, base))
    far = products(_turned(q, far_q, base), _turned(k, far_k, base))
    return near_far(near, far, window, q_at, k_at)


def dual_chunk(
    chunk: int, trained: int, base: float, q: ArrayLike, k: ArrayLike, q_at: ArrayLike, k_at: ArrayLike
) -> Array:
    """Dual chunk attention: RoPE at one distance for each pair.

    Keys stand at n mod s. Within a chunk queries stand at m mod s; for the chunk before, from s on up to c - 1; for
    all others at c - 1.

    Source: An et al. 2024 (arXiv 2402.17463), equations 2 to 6.
    Second source: none.
    """
    m, n = np.asarray(q_at)[:, None], np.asarray(k_at)[None, :]
    chunks = m // chunk - n // chunk
    successive = np.minimum(m % chunk + chunk, trained - 1)
    query = np.where(chunks == 0, m % chunk, np.where(chunks == 1, successive, trained - 1))
    q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
    half = q.shape[-1] // 2
    angle = (query - n % chunk)[..., None] * plain(2 * half, base)[0]
    (a, b), (c, d) = ((x[..., :half], x[..., half:]) for x in (q, k))
    even = np.einsum("tnh,snh,tsh->nts", a, c, np.cos(angle)) + np.einsum("tnh,snh,tsh->nts", b, d, np.cos(angle))
    odd = np.einsum("tnh,snh,tsh->nts", a, d, np.sin(angle)) - np.einsum("tnh,snh,tsh->nts", b, c, np.sin(angle))
    return (even + odd) / np.sqrt(2 * half)


def linear_attention(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, at: ArrayLike, base: float | None = None, allowed: Array | None = None
) -> Array:
    """Pair by pair, rotated above and not below the line, with the features elu(x) + 1.

    `q [B, T, N, H]`, `k`, `v [B, T, K, H]`; `at [B, T]`; `allowed [B, T, T]`.

    Source: Su et al. 2021 (RoFormer, arXiv 2104.09864), equation 19.
    Second source: none.
    """
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    q, k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (q, k))
    above_q, above_k = q, k
    if base is not None:
        frequencies, _ = plain(q.shape[-1], base)
        above_q, above_k = (rope(x, np.asarray(at), frequencies) for x in (q, k))
    above, below = np.einsum("btnh,bsnh->bnts", above_q, above_k), np.einsum("btnh,bsnh->bnts", q, k)
    if allowed is not None:
        above, below = above * allowed[:, None], below * allowed[:, None]
    total = below.sum(-1, keepdims=True)
    return np.einsum("bnts,bsnh->btnh", above / np.where(total == 0, 1, total), v)
