"""Claims about extensions of RoPE that arithmetic decides, from the frequencies of posjax's own schedules."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from experiments.claims.angles import HEAD_SIZE, WINDOW, angles, frequencies, turned
from experiments.claims.base import Claim, Verdict
from experiments.claims.deciding import fact
from experiments.claims.seeds import digits
from posjax.encodings import NTK, DynamicNTK, NTKByParts, Rope, Yarn
from posjax.results import Measurements


def _aligned_base(table: Measurements) -> Verdict:
    # Where the slow pairs alone still agree.
    far = np.arange(1024, WINDOW + 1)
    # The mean score of q = k is the mean cosine over the pairs, 1 at distance 0.
    means = []
    for base in (10_000.0, 500_000.0):
        waves = np.cos(angles(far, frequencies(base=base)))
        means.append(waves.mean())
    small, large = means
    return fact(
        bool(large > small),
        f"The mean score of q = k from 1,024 to {WINDOW:,} tokens, 1 at distance 0, is {digits(small)} with base "
        f"10,000 and {digits(large)} with base 500,000.",
    )


def _whole_turns(table: Measurements) -> Verdict:
    # A pair that has not come round in training meets angles past it that it has never seen.
    turns = WINDOW * frequencies() / (2 * np.pi)
    channels = 2 * int((turns >= 1).sum())
    return fact(
        channels == 92,
        f"With base 10,000, {channels} of {HEAD_SIZE} channels turn at least once within {WINDOW:,} tokens; the "
        f"slowest makes {digits(turns[-1])} of a turn.",
    )


def _base_for_twice(table: Measurements) -> Verdict:
    # The base that gives these frequencies, from the second of them.
    second = frequencies(NTK(2.0), head_size=64)[1]
    base = second ** (-64 / 2)
    return fact(abs(base - 20_700) < 50, f"The grown base is {base:,.1f}, 10,000 times 2^(64/62).")


def _ntk_ends(table: Measurements) -> Verdict:
    ratios = frequencies() / frequencies(NTK(4.0))
    is_so = abs(ratios[0] - 1) < 1e-12 and abs(ratios[-1] - 4) < 1e-9
    return fact(
        is_so, f"At factor 4 the fastest pair is divided by {ratios[0]:.4f} and the slowest by {ratios[-1]:.4f}."
    )


def _yarn_parts(table: Measurements) -> Verdict:
    ratios = frequencies() / frequencies(Yarn(factor=4.0, original_length=WINDOW))
    # Exactly: the ramp between the two ends is neither.
    untouched = int((np.abs(ratios - 1) < 1e-12).sum())
    interpolated = int((np.abs(ratios - 4) < 1e-9).sum())
    return fact(
        bool(ratios[0] > ratios[-1]),
        f"At factor 4 the fastest pair is divided by {ratios[0]:.2f} and the slowest by {ratios[-1]:.2f}: of "
        f"{len(ratios)} pairs the {untouched} fastest are untouched and the {interpolated} slowest interpolated.",
    )


def _yarn_temperature(table: Measurements) -> Verdict:
    factor = Yarn(factor=4.0, original_length=WINDOW).frequencies(HEAD_SIZE, 10_000.0)[1]
    # The schedule whose frequencies YaRN takes over as they are.
    parts = NTKByParts(factor=4.0, original_length=WINDOW).frequencies(HEAD_SIZE, 10_000.0)[1]
    return fact(
        factor**2 > parts**2,
        f"At factor 4 YaRN multiplies queries and keys by {factor:.4f}, and so every score by {factor**2:.3f}; "
        f"NTK-by-parts, the same frequencies, by {parts**2:.3f}.",
    )


def _cached_under_dynamic(table: Measurements) -> Verdict:
    rope = Rope(schedule=DynamicNTK(factor=2.0, original_length=WINDOW))
    key = jnp.ones((1, 1, 1, HEAD_SIZE))
    at = jnp.array([4000])
    # What a cache holds was rotated when the context was shorter.
    first = turned(rope.at_length(WINDOW), key, at)
    second = turned(rope.at_length(2 * WINDOW), key, at)
    change = float(jnp.abs(first - second).max())
    return fact(
        change < 1e-6,
        f"A key of ones at position 4,000 changes by up to {change:.2f} between a context of {WINDOW:,} and one of "
        f"{2 * WINDOW:,}.",
    )


CLAIMS = (
    Claim(
        name="a-larger-base-slows-the-decay",
        words="A larger base makes RoPE's mean score fall more slowly.",
        source="Xiong et al. 2023, arXiv:2309.16039",
        test=_aligned_base,
    ),
    Claim(
        name="critical-dimension-of-llama-2",
        words="Of the 128 rotary channels of Llama 2 only 92 see a whole turn in training.",
        source="Liu et al. 2023, arXiv:2310.05209",
        published="a critical dimension of 92",
        test=_whole_turns,
    ),
    Claim(
        name="ntk-base-is-20700",
        words="For twice the length at head size 64 the NTK-aware base is about 20,700.",
        source="a tutorial",
        test=_base_for_twice,
    ),
    Claim(
        name="ntk-keeps-the-fastest-pair",
        words="NTK-aware scaling leaves the fastest pair alone and divides the slowest by the whole factor.",
        source="bloc97 2023, NTK-aware scaled RoPE",
        test=_ntk_ends,
    ),
    Claim(
        name="yarn-interpolates-high-frequencies",
        words="YaRN interpolates the high frequencies and leaves the low ones to NTK.",
        source="tutorials",
        test=_yarn_parts,
    ),
    Claim(
        name="yarn-changes-the-temperature",
        words="YaRN is more than its frequencies: it sharpens the softmax too.",
        source="Peng et al. 2023, arXiv:2309.00071, section 3.4",
        test=_yarn_temperature,
    ),
    Claim(
        name="dynamic-ntk-may-cache-rotated-keys",
        words="With dynamic NTK a cache may keep keys that are rotated already.",
        source="implementations that do so",
        test=_cached_under_dynamic,
    ),
)
