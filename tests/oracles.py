"""Float64 oracles of the encodings and of attention, written from the papers, importing nothing of posjax nor of jax.

Symbols: m a query's position, n a key's, d = m - n (positive looks back), r the rotary size, s an extension factor, L0
the trained length. Shapes: B batch, T query time, S key time, N query heads, K key-value heads, H head size, D model
size. Positions are exact integers, and distances are subtracted as integers. The schedules are in
`tests/schedule_oracles.py`. Readable before fast: these are for small arrays.

Each says its source, and its second source: an implementation or a number that others made, and that
`tests/test_oracles.py` compares it with, by the golden vector's file; "none" where it stands on one reading alone.
"""

from collections.abc import Callable

import mpmath
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tests.schedule_oracles import (
    Array as Array,
    doubling_ntk as doubling_ntk,
    dynamic_ntk as dynamic_ntk,
    interpolation as interpolation,
    llama3 as llama3,
    long_rope as long_rope,
    ntk as ntk,
    ntk_by_parts as ntk_by_parts,
    plain as plain,
    proportional as proportional,
    yarn as yarn,
)

DIGITS = 60


def distances(q_positions: ArrayLike, k_positions: ArrayLike) -> NDArray[np.int64]:
    """d = m - n as `[T, S]` int64, exact for every pair of int32 positions.

    Source: no paper; the sign that all of these oracles share.
    Second source: none.
    """
    return np.asarray(q_positions, np.int64)[:, None] - np.asarray(k_positions, np.int64)[None, :]


def sinusoidal(positions: ArrayLike, size: int, base: float = 10000.0, layout: str = "interleaved") -> Array:
    """Sines and cosines of p / base^(2i/D) as `[..., D]`.

    "interleaved" is the paper's layout (sine on channel 2i, cosine on 2i + 1); "split" is all sines, then all cosines.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.
    Second source: none; three rows by hand.
    """
    angles = np.asarray(positions, np.float64)[..., None] * plain(size, base)[0]
    sine, cosine = np.sin(angles), np.cos(angles)
    if _is_split(layout):
        return np.concatenate([sine, cosine], -1)
    return np.stack([sine, cosine], -1).reshape(*sine.shape[:-1], size)


# --- rotations ---


def rope(
    x: ArrayLike,
    positions: ArrayLike,
    frequencies: ArrayLike,
    factor: float = 1.0,
    layout: str = "split",
    rotary: int | None = None,
) -> Array:
    """Pair i turned by m theta_i.

    x `[B,T,N,H]` at positions `[B,T]`. "interleaved" pairs (2i, 2i + 1), as the paper; "split" pairs (i, i + r/2). The
    first `rotary` channels (2 per frequency) turn and are multiplied by `factor`; the rest pass, the factor aside too.

    Source: Su et al. 2021 (arXiv 2104.09864), equations 14, 15 and 34.
    Second source: transformers' Llama (split) and GPT-J (interleaved), rope_rotation.json; torch, attention.json.
    """
    x, frequencies = np.asarray(x, np.float64), np.asarray(frequencies, np.float64)
    rotary = 2 * len(frequencies) if rotary is None else rotary
    if rotary != 2 * len(frequencies) or rotary > x.shape[-1]:
        raise ValueError(f"{len(frequencies)} frequencies turn as many pairs, not {rotary} of {x.shape[-1]} channels")
    angles = np.asarray(positions, np.float64)[:, :, None, None] * frequencies
    turned = _turn(x[..., :rotary], np.cos(angles) * factor, np.sin(angles) * factor, layout)
    return np.concatenate([turned, x[..., rotary:]], -1)


def xpos(
    x: ArrayLike, positions: ArrayLike, role: str, base: float = 10000.0, layout: str = "split", unit: float = 512.0
) -> Array:
    """RoPE times zeta_i^(m/512) for queries, zeta_i^(-n/512) for keys.

    zeta_i = (2i/r + 0.4) / 1.4 over the whole head, x `[B,T,N,H]`, positions `[B,T]`; meant for d >= 0.

    Source: Sun et al. 2022 (arXiv 2212.10554), section 3 and algorithm 1.
    Second source: none; one pair's decay by hand.
    """
    x = np.asarray(x, np.float64)
    r = x.shape[-1]
    zeta = (np.arange(0, r, 2) / r + 0.4) / 1.4
    sign = {"query": 1, "key": -1}[role]
    m = np.asarray(positions, np.float64)[:, :, None, None]
    scale = zeta ** (sign * m / unit)
    angles = m * plain(r, base)[0]
    return _turn(x, np.cos(angles) * scale, np.sin(angles) * scale, layout)


def log_n(x: ArrayLike, positions: ArrayLike, original_length: int) -> Array:
    """Queries `[B,T,N,H]` times max(1, ln(m + 1) / ln L0).

    Source: Chiang and Cholak 2022 (arXiv 2202.12172), floored at 1.
    Second source: none; three positions by hand.
    """
    scale = np.maximum(1.0, np.log(np.asarray(positions, np.float64) + 1) / np.log(original_length))
    return np.asarray(x, np.float64) * scale[:, :, None, None]


def step_temperature(x: ArrayLike, positions: ArrayLike, scale: float, window: int, shift: int) -> Array:
    """Queries `[B,T,N,H]` times 1 + scale ln(1 + floor((m + shift) / window)).

    Source: the released code of Llama 4 (a shift of 1) and of Ministral 3 (none).
    Second source: none; three positions by hand.
    """
    # Python's integers, which know no largest one.
    windows = [[(int(m) + shift) // window for m in row] for row in np.asarray(positions)]
    factors = 1 + scale * np.log(1 + np.asarray(windows, np.float64))
    return np.asarray(x, np.float64) * factors[:, :, None, None]


def rope_exact_angles(positions: ArrayLike, r: int, base: float) -> tuple[Array, Array]:
    """cos and sin of m base^(-2i/r), `[..., r/2]`, to 60 digits.

    Source: Su et al. 2021 (arXiv 2104.09864), equation 15.
    Second source: rope_far_positions.json, written apart from this but with mpmath too.
    """
    with mpmath.workdps(DIGITS):
        theta = [mpmath.mpf(base) ** (mpmath.mpf(-2 * i) / r) for i in range(r // 2)]
        return _exact_cos_sin(positions, theta)


def exact_cos_sin(positions: ArrayLike, frequencies: ArrayLike) -> tuple[Array, Array]:
    """cos and sin of position times frequency, `[..., r/2]`, to 60 digits; each float64 frequency counts as exact.

    Source: the definition, by mpmath.
    Second source: rope_far_positions.json, written apart from this but with mpmath too.
    """
    with mpmath.workdps(DIGITS):
        return _exact_cos_sin(positions, [mpmath.mpf(float(theta)) for theta in np.asarray(frequencies)])


def _exact_cos_sin(positions: ArrayLike, theta: list) -> tuple[Array, Array]:
    positions = np.asarray(positions, np.int64)
    angles = [int(m) * t for m in positions.ravel() for t in theta]
    shape = (*positions.shape, len(theta))
    cosine = np.array([float(mpmath.cos(a)) for a in angles]).reshape(shape)
    return cosine, np.array([float(mpmath.sin(a)) for a in angles]).reshape(shape)


def _turn(x: Array, cosine: Array, sine: Array, layout: str) -> Array:
    half = x.shape[-1] // 2
    a, b = (x[..., :half], x[..., half:]) if _is_split(layout) else (x[..., 0::2], x[..., 1::2])
    first, second = a * cosine - b * sine, a * sine + b * cosine
    if _is_split(layout):
        return np.concatenate([first, second], -1)
    return np.stack([first, second], -1).reshape(x.shape)


def _is_split(layout: str) -> bool:
    if layout not in ("split", "interleaved"):
        raise ValueError(f'unknown layout {layout!r}: need "split" or "interleaved"')
    return layout == "split"


# --- biases, each [N, T, S] ---


def alibi_slopes(heads: int) -> Array:
    """2^(-8h/N), h = 1..N, for powers of two. Head 0 is the steepest.

    Other N, as the authors' code: those of the power of two P below, then the 1st, 3rd, 5th, ... slope of 2 P heads.

    Source: Press et al. 2021 (arXiv 2108.12409), section 3.
    Second source: transformers' BLOOM, alibi_slopes.json, 1 to 71 heads.
    """
    below = 1 << (heads.bit_length() - 1)
    whole = 2.0 ** (-8.0 * np.arange(1, below + 1) / below)
    between = 2.0 ** (-8.0 * np.arange(1, 2 * below, 2) / (2 * below))
    return np.concatenate([whole, between[: heads - below]])


def alibi_bias(heads: int, q_positions: ArrayLike, k_positions: ArrayLike, direction: str = "causal") -> Array:
    """-slope_h d, added after 1/sqrt(H): the equation for query i.

    "causal" is 0 for keys ahead (d < 0), to be masked; "symmetric" is -slope_h |d|.

    Source: Press et al. 2021 (arXiv 2108.12409), section 3.
    Second source: torch (float64), attention.json, both directions, through `attention`.
    """
    if direction not in ("causal", "symmetric"):
        raise ValueError(f'unknown direction {direction!r}: need "causal" or "symmetric"')
    d = distances(q_positions, k_positions)
    away = np.maximum(d, 0) if direction == "causal" else np.abs(d)
    return -alibi_slopes(heads)[:, None, None] * away


def t5_bucket(
    relative_position: ArrayLike, bidirectional: bool, buckets: int = 32, max_distance: int = 128
) -> NDArray[np.int64]:
    """Bucket of n - m (key minus query, T5's sign).

    With e half of the side's buckets k: distance x < e is its own bucket, else e + floor((k - e) ln(x/e) / ln(max/e)),
    at most k - 1. The floor is decided by integer powers, so a boundary is exact.

    Source: Raffel et al. 2019 (arXiv 1910.10683), section 2.1, and its code.
    Second source: transformers' T5, t5_buckets.json.
    """
    relative = np.asarray(relative_position, np.int64)
    side = buckets // 2 if bidirectional else buckets
    away = np.abs(relative) if bidirectional else np.maximum(-relative, 0)
    distinct, where = np.unique(away, return_inverse=True)
    of_distinct = np.array([_one_sided_bucket(int(x), side, max_distance) for x in distinct], np.int64)
    bucket = of_distinct[where].reshape(relative.shape)
    return bucket + side * (relative > 0) if bidirectional else bucket


def _one_sided_bucket(x: int, side: int, max_distance: int) -> int:
    exact = side // 2
    steps = side - exact
    if x < exact:
        return x
    # steps ln(x/exact) >= j ln(max/exact) exactly when x^steps exact^j >= max^j exact^steps.
    reached = [j for j in range(steps) if x**steps * exact**j >= max_distance**j * exact**steps]
    return exact + max(reached)


def t5_bias(
    table: ArrayLike, q_positions: ArrayLike, k_positions: ArrayLike, bidirectional: bool, max_distance: int = 128
) -> Array:
    """`table[N, buckets]` looked up by bucket, `[N,T,S]`.

    Source: Raffel et al. 2019 (arXiv 1910.10683), section 2.1.
    Second source: that of `t5_bucket` for the buckets; none for the look-up, which is by hand.
    """
    table = np.asarray(table, np.float64)
    bucket = t5_bucket(-distances(q_positions, k_positions), bidirectional, table.shape[1], max_distance)
    return table[:, bucket]


def kerple_log(r1: ArrayLike, r2: ArrayLike, q_positions: ArrayLike, k_positions: ArrayLike) -> Array:
    """-r1 ln(1 + r2 |d|), r1 and r2 `[N]`: KERPLE, the logarithmic variant.

    Source: Chi et al. 2022 (arXiv 2205.09921).
    Second source: none; one value by hand.
    """
    return -_per_head(r1) * np.log(1 + _per_head(r2) * np.abs(distances(q_positions, k_positions)))


def kerple_power(r1: ArrayLike, r2: ArrayLike, q_positions: ArrayLike, k_positions: ArrayLike) -> Array:
    """-r1 |d|^r2, r1 and r2 `[N]`, 0 < r2 <= 2: KERPLE, the power variant.

    Source: Chi et al. 2022 (arXiv 2205.09921).
    Second source: none; one value by hand.
    """
    return -_per_head(r1) * np.abs(distances(q_positions, k_positions)).astype(np.float64) ** _per_head(r2)


def fire(
    mlp: Callable[[Array], Array], c: float, threshold: float, q_positions: ArrayLike, k_positions: ArrayLike
) -> Array:
    """MLP(psi(d) / psi(max(m, threshold))), psi(x) = ln(c x + 1).

    `mlp` maps `[T,S]` to `[T,S,N]`. Causal: keys ahead (d < 0), to be masked, count as d = 0. c and threshold exceed 0.

    Source: Li et al. 2023 (arXiv 2310.04418), section 3.
    Second source: none; four pairs by hand.
    """
    d = np.maximum(distances(q_positions, k_positions), 0)
    reach = np.maximum(np.asarray(q_positions, np.float64), threshold)[:, None]
    return np.moveaxis(mlp(np.log1p(c * d) / np.log1p(c * reach)), -1, 0)


def _per_head(value: ArrayLike) -> Array:
    return np.asarray(value, np.float64)[:, None, None]


# --- attention ---


def attention_weights(
    q: ArrayLike,
    k: ArrayLike,
    bias: ArrayLike | None = None,
    allowed: ArrayLike | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: ArrayLike | None = None,
) -> Array:
    """softmax(q k^T / sqrt(H) + bias), `[B,N,T,S]`.

    q `[B,T,N,H]`; k `[B,S,K,H]`, query head n reading head n // (N/K) (Ainslie et al. 2023, arXiv 2305.13245); bias
    broadcasts to `[B,N,T,S]`; allowed `[B or 1,T,S]`, a row with nothing allowed being all zeros. `scale` replaces
    1/sqrt(H) (T5: 1); `softcap` bounds the scaled product by softcap tanh(x / softcap), before the bias (Gemma 2, arXiv
    2408.00118, section 2); `sinks [N]` are one more column of logits, cut off after the softmax (gpt-oss, arXiv
    2508.10925, section 2.1).

    Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1.
    Second source: torch (float64), attention.json, through `attention`; none for grouped heads, `scale` and empty rows.
    """
    q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
    scale = 1 / np.sqrt(q.shape[-1]) if scale is None else scale
    logits = np.einsum("btnh,bsnh->bnts", q, _for_queries(k, q.shape[2])) * scale
    if softcap is not None:
        logits = softcap * np.tanh(logits / softcap)
    if bias is not None:
        logits = logits + np.asarray(bias, np.float64)
    seen = np.broadcast_to(True if allowed is None else np.asarray(allowed, bool)[:, None], logits.shape)
    peak = np.max(logits, axis=-1, keepdims=True, where=seen, initial=-np.inf)
    peak = np.where(np.isfinite(peak), peak, 0.0)
    weights = np.exp(np.where(seen, logits - peak, -np.inf))
    total = weights.sum(-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(np.asarray(sinks, np.float64)[None, :, None, None] - peak)
    return weights / np.where(total > 0, total, 1.0)


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    bias: ArrayLike | None = None,
    allowed: ArrayLike | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: ArrayLike | None = None,
) -> Array:
    """softmax(q k^T / sqrt(H) + bias) v, `[B,T,N,H]`.

    v `[B,S,K,U]`; the rest as in `attention_weights`. A row with nothing allowed gives zeros.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1.
    Second source: torch (float64), attention.json: eight cases; none for grouped heads, `scale` and empty rows.
    """
    weights = attention_weights(q, k, bias, allowed, scale, softcap, sinks)
    return np.einsum("bnts,bsnh->btnh", weights, _for_queries(np.asarray(v, np.float64), weights.shape[1]))


def _for_queries(x: Array, heads: int) -> Array:
    if heads % x.shape[2]:
        raise ValueError(f"{x.shape[2]} key-value heads do not divide {heads} query heads")
    return np.repeat(x, heads // x.shape[2], axis=2)
