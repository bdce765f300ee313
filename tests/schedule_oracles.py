"""Float64 oracles of RoPE's frequency schedules, written from the papers; read them from `tests.oracles`.

Symbols and sources as there. A schedule returns (frequencies [r/2] in float64 radians per position, attention factor).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Schedule = tuple[Array, float]


def plain(r: int, base: float) -> Schedule:
    """theta_i = base^(-2i/r).

    Source: Su et al. 2021 (arXiv 2104.09864), equation 15.
    Second source: transformers (torch, float32), rope_frequencies.json, two bases and a part of the head.
    """
    if r < 2 or r % 2:
        raise ValueError(f"channels turn in pairs: got a rotary size of {r}, need an even number from 2")
    return np.float64(base) ** (-np.arange(0, r, 2, dtype=np.float64) / r), 1.0


def interpolation(r: int, base: float, factor: float) -> Schedule:
    """theta_i / s: position interpolation.

    Source: Chen et al. 2023 (arXiv 2306.15595), equation 4 (positions times L/L').
    Second source: transformers (torch, float32), rope_frequencies.json, one case.
    """
    return plain(r, base)[0] / factor, 1.0


def ntk(r: int, base: float, factor: float) -> Schedule:
    """base' = base s^(r/(r-2)): NTK-aware.

    Source: Peng et al. 2023 (YaRN, arXiv 2309.00071), section 3.1, definition 1.
    Second source: transformers' dynamic scaling past L0, rope_frequencies.json: the same change of base.
    """
    return plain(r, base * factor ** (r / (r - 2)))


def dynamic_ntk(r: int, base: float, factor: float, original_length: int, length: int) -> Schedule:
    """base' = base (s L/L0 - (s - 1))^(r/(r-2)) for L > L0, else plain.

    The paper scales by L/L0 alone; the base with s is the released code's, and equals the paper's at s = 1.

    Source: YaRN (arXiv 2309.00071), section 3.3 on dynamic scaling.
    Second source: transformers (torch, float32), rope_frequencies.json, within and past L0.
    """
    stretch = factor * max(length, original_length) / original_length - (factor - 1)
    return plain(r, base * stretch ** (r / (r - 2)))


def doubling_ntk(r: int, base: float, original_length: int, length: int) -> Schedule:
    """base' = base alpha^(r/(r-2)) with alpha = 2^ceil(log2(L/L0) + 1) - 1, at least 1: Qwen's dynamic NTK.

    Source: the released code of Qwen 7B, `get_ntk_alpha`.
    Second source: none; four lengths by hand.
    """
    alpha = max(2.0 ** np.ceil(np.log2(length / original_length) + 1) - 1, 1.0)
    return plain(r, base * alpha ** (r / (r - 2)))


def ntk_by_parts(
    r: int,
    base: float,
    factor: float,
    original_length: int,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> Schedule:
    """(1 - ramp_i) theta_i + ramp_i theta_i / s: NTK-by-parts.

    The ramp is 0 for pairs of more than `beta_fast` turns in L0 and 1 for those of fewer than `beta_slow`. Between, the
    paper is linear in the turns; the released code, and so this, is linear in the pair's index.

    Source: YaRN (arXiv 2309.00071), section 3.2, definition 2.
    Second source: transformers' YaRN, rope_frequencies.json, through `yarn`: three cases, one without `truncate`.
    """
    theta, _ = plain(r, base)

    def pair_with(turns: float) -> float:
        return r * np.log(original_length / (2 * np.pi * turns)) / (2 * np.log(base))

    first, last = pair_with(beta_fast), pair_with(beta_slow)
    if truncate:
        first, last = np.floor(first), np.ceil(last)
    # The released code bounds the ramp before it is drawn, and the upper bound is r - 1, not the last pair r/2 - 1.
    first, last = max(first, 0.0), min(last, r - 1.0)
    width = last - first if last != first else 0.001
    ramp = np.clip((np.arange(r // 2) - first) / width, 0.0, 1.0)
    return theta * (1 - ramp) + theta / factor * ramp, 1.0


def yarn(
    r: int,
    base: float,
    factor: float,
    original_length: int,
    *,
    attention_factor: float | None = None,
    mscale: float | None = None,
    mscale_all_dim: float | None = None,
    **ramp: Any,
) -> Schedule:
    """NTK-by-parts and sqrt(1/t) = 0.1 ln s + 1.

    `ramp` takes `beta_fast`, `beta_slow` and `truncate`. An `attention_factor` wins; else, with both `mscale` and
    `mscale_all_dim` (neither zero), the ratio of their temperatures as in DeepSeek's code; else the paper's. One of the
    two alone counts for nothing.

    Source: YaRN (arXiv 2309.00071), section 3.4, definition 3.
    Second source: transformers (torch, float32), rope_frequencies.json: the paper's temperature, and equal `mscale`s;
    none for the other precedences, which are by hand.
    """
    theta, _ = ntk_by_parts(r, base, factor, original_length, **ramp)

    def temperature(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * float(np.log(factor)) + 1.0

    if attention_factor is not None:
        return theta, attention_factor
    if mscale and mscale_all_dim:
        return theta, temperature(mscale) / temperature(mscale_all_dim)
    return theta, temperature(1.0)


def llama3(
    r: int,
    base: float,
    factor: float,
    original_length: int,
    low_frequency_factor: float = 1.0,
    high_frequency_factor: float = 4.0,
) -> Schedule:
    """Interpolation smooth in L0 / wavelength.

    With w = L0 theta_i / (2 pi): theta_i for w > high, theta_i / s for w < low, and linear in w between.

    Source: Llama 3.1's released code (arXiv 2407.21783 has no equation of it).
    Second source: transformers (torch, float32), rope_frequencies.json, one case.
    """
    theta, _ = plain(r, base)
    turns = original_length * theta / (2 * np.pi)
    span = high_frequency_factor - low_frequency_factor
    kept = np.clip((turns - low_frequency_factor) / span, 0.0, 1.0)
    return kept * theta + (1 - kept) * theta / factor, 1.0


def long_rope(
    r: int,
    base: float,
    factor: float,
    original_length: int,
    length: int,
    short_factor: Sequence[float],
    long_factor: Sequence[float],
) -> Schedule:
    """theta_i / lambda_i: LongRoPE, the rescale factors with n-hat = 0.

    `short_factor` serves up to L0, `long_factor` past it. The temperature sqrt(1 + ln s / ln L0), the same for both, is
    from the released code of Phi-3 (arXiv 2404.14219).

    Source: Ding et al. 2024 (arXiv 2402.13753), section 3.
    Second source: transformers (torch, float32), rope_frequencies.json, within and past L0.
    """
    rescale = np.asarray(long_factor if length > original_length else short_factor, np.float64)
    if rescale.shape != (r // 2,):
        raise ValueError(f"one rescale factor per pair: got {rescale.shape}, need ({r // 2},)")
    return plain(r, base)[0] / rescale, float(np.sqrt(1 + np.log(max(factor, 1.0)) / np.log(original_length)))


def proportional(head_size: int, base: float, fraction: float) -> Schedule:
    """base^(-2i/H) for the first fraction of the pairs, then 0: p-RoPE.

    The zeros stand for channels that pass, so there are always H/2 entries; how many turn is rounded down.

    Source: Barbero et al. 2024 (arXiv 2410.06205).
    Second source: none; one case by hand.
    """
    theta, _ = plain(head_size, base)
    return np.where(np.arange(head_size // 2) < int(fraction * head_size // 2), theta, 0.0), 1.0
