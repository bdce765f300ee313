"""Claims about RoPE that arithmetic decides: computed from posjax's own frequencies and phases, without training."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from experiments.claims.angles import HEAD_SIZE, WINDOW, angles, bound, frequencies, power_above, turned
from experiments.claims.base import Claim, Verdict
from experiments.claims.deciding import fact
from experiments.claims.seeds import digits
from posjax.encodings import Dims, Rope
from posjax.encodings.phases import cos_sin, fixed_point_turns
from posjax.results import Measurements, interval

LAST = 2**31 - 1
"""The last position that an int32 holds."""


def _monotone(table: Measurements) -> Verdict:
    far = bound(np.arange(WINDOW + 1))
    # A claim of monotony is refuted by one step: the share tells that it is no exception.
    rising = np.diff(far) > 0
    marks = ", ".join(f"{digits(far[at])} at {at:,}" for at in (64, 256, 320, 512, 2048, 4096))
    return fact(
        not rising.any(),
        f"RoFormer's own upper bound rises on {rising.mean():.0%} of the steps up to {WINDOW:,} (head size "
        f"{HEAD_SIZE}): it is {marks}.",
    )


def _envelope(table: Measurements) -> Verdict:
    far = bound(np.arange(1, WINDOW + 1))
    # By factors of four, over which the bounces of the bound cancel.
    edges = (1, 4, 16, 64, 256, 1024, WINDOW)
    means = []
    told = []
    for low, high in pairwise(edges):
        means.append(far[low - 1 : high - 1].mean())
        told.append(f"{digits(means[-1])} from {low:,} to {high:,}")
    return fact(bool((np.diff(means) < 0).all()), f"The mean of RoFormer's bound is {', '.join(told)}.")


def _scores(q_RH: np.ndarray, k_RH: np.ndarray, distance: int) -> np.ndarray:
    """The scores of queries at a distance ahead of keys, `[R]`."""
    q_R2P = q_RH.reshape(len(q_RH), 2, -1)
    k_R2P = k_RH.reshape(len(k_RH), 2, -1)
    # A pair of channels is a complex number, and a turn is a product.
    turns = np.exp(1j * distance * frequencies(head_size=q_RH.shape[1]))
    q_RP = (q_R2P[:, 0] + 1j * q_R2P[:, 1]) * turns
    k_RP = k_R2P[:, 0] + 1j * k_R2P[:, 1]
    return (q_RP * k_RP.conj()).real.sum(1) / np.sqrt(q_RH.shape[1])


def _unaligned(table: Measurements) -> Verdict:
    # As many that the interval is a hundredth of the score.
    generator = np.random.default_rng(0)
    q_RH, k_RH = generator.normal(size=(2, 20_000, 64))
    near = np.abs(_scores(q_RH, k_RH, 0))
    told = []
    falls = True
    for distance in (64, 512, WINDOW):
        # The same vectors at both distances: what differs is the turn alone.
        gap = np.abs(_scores(q_RH, k_RH, distance)) - near
        half = interval(gap)
        falls = falls and gap.mean() + half < 0
        told.append(f"{gap.mean():+.3f} ± {half:.3f} at {distance:,}")
    return fact(
        falls,
        f"Of {len(q_RH):,} pairs of independent q and k the mean |score| is {digits(near.mean())} at distance 0, and "
        f"differs from that by {', '.join(told)}.",
    )


def _float32_angles(table: Measurements) -> Verdict:
    positions = np.arange(10**6 - 256, 10**6)
    pairs = frequencies()
    right = np.cos(angles(positions, pairs))
    rounded = angles(positions.astype(np.float32), pairs.astype(np.float32))
    # The cosine itself in float64, so that the error is that of the angle alone.
    worst = np.abs(np.cos(rounded.astype(np.float64)) - right).max()
    ours = np.abs(np.asarray(_cosines(positions, pairs)) - right).max()
    # What bfloat16 rounds a cosine by: a larger error is seen by every model.
    return fact(
        worst < 2.0**-9,
        f"Around position one million a cosine of float32(position) times float32(frequency) is off by up to "
        f"{worst:.1g}, and one of 64-bit fixed-point phases by less than {power_above(ours):.0e}.",
    )


def _cosines(positions: np.ndarray, frequencies_P: np.ndarray) -> jax.Array:
    turns = fixed_point_turns(frequencies_P)
    cos, _ = jax.jit(cos_sin)(jnp.asarray(positions, jnp.int32), turns)
    return cos


def _table_of_rows(table: Measurements) -> Verdict:
    rope = Rope()
    constants = rope.constants(Dims(head_size=HEAD_SIZE))
    size = sum(np.asarray(each).size for each in constants.values())
    ones = np.ones((1, 1, 1, HEAD_SIZE), np.float32)
    last = np.asarray(turned(rope, ones, np.array([LAST - 1])))
    # Where there is a table, past its end is no row, or the last one again; a turn changes no length.
    length = np.sqrt((last**2).mean())
    return fact(
        abs(length - 1) > 1e-5,
        f"Rope keeps {size} numbers for head size {HEAD_SIZE} whatever the length, and turns position {LAST - 1:,}, "
        f"whose length stays {length:.4f} of what it was.",
    )


def _relative(table: Measurements) -> Verdict:
    rope = Rope()
    generator = np.random.default_rng(0)
    q, k = generator.normal(size=(2, 1, 64, 1, HEAD_SIZE)).astype(np.float32)
    scores = []
    for start in (0, LAST - 64):
        positions = np.arange(start, start + 64, dtype=np.int32)
        q_BTNH = np.asarray(turned(rope, q, positions))
        k_BSNH = np.asarray(turned(rope, k, positions))
        scores.append(np.einsum("btnh,bsnh->ts", q_BTNH, k_BSNH) / np.sqrt(HEAD_SIZE))
    worst = float(np.abs(scores[0] - scores[1]).max())
    return fact(
        worst < 1e-5,
        f"The scores of 64 tokens moved from position 0 to {LAST - 64:,} change by less than {power_above(worst):.0e}, "
        f"where the largest is {np.abs(scores[0]).max():.1f}.",
    )


def _opposite_turns(table: Measurements) -> Verdict:
    generator = np.random.default_rng(0)
    real, imaginary = generator.normal(size=(2, 2, HEAD_SIZE // 2))
    q_P, k_P = real + 1j * imaginary
    scores = []
    for at in (8, 108):
        turned_q = q_P * np.exp(1j * at * frequencies())
        turned_k = k_P * np.exp(-1j * (at - 8) * frequencies())
        scores.append((turned_q * turned_k.conj()).real.sum() / np.sqrt(HEAD_SIZE))
    return fact(
        abs(scores[0] - scores[1]) < 1e-4,
        f"One q 8 tokens after one k scores {scores[0]:.2f} at position 8, and {scores[1]:.2f} at position 108.",
    )


def _added(table: Measurements) -> Verdict:
    rope = Rope()
    x_BTNH = np.ones((1, 4, 1, HEAD_SIZE), np.float32)
    positions = np.arange(4, dtype=np.int32)
    embedding = jnp.asarray(x_BTNH[:, :, 0])
    embedded = rope.embed({}, embedding, jnp.asarray(positions))
    moved = float(jnp.abs(embedded - embedding).max())
    turned_by = np.abs(np.asarray(turned(rope, x_BTNH, positions)) - x_BTNH).max()
    return fact(
        moved > 0,
        f"Rope changes the embedding by {moved:g}, and the channels of a query of ones by up to {turned_by:.2f}.",
    )


def _linear_theta(table: Measurements) -> Verdict:
    size = 64
    theta = np.arange(0, size, 2) * np.pi / size
    far = (size, 2 * size, 1024)
    # The score of q = k, if all its pairs have one length.
    kernel = np.cos(angles(np.array(far), theta)).mean(1)
    told = ", ".join(f"{score:.2f} at {at}" for score, at in zip(kernel, far, strict=True))
    return fact(
        bool(kernel.max() < 0.99),
        f"With theta = arange(0, {size}, 2) * pi / {size} the score of q = k, 1 at distance 0, is {told} again: "
        f"tokens {size} apart look like one.",
    )


CLAIMS = (
    Claim(
        name="rope-decays-monotonically",
        words="RoPE's attention score decays monotonically with distance.",
        source="tutorials, after Su et al. 2021, arXiv:2104.09864, section 3.4.3",
        test=_monotone,
    ),
    Claim(
        name="rope-envelope-falls",
        words="The bound on RoPE's score falls with distance in the long run.",
        source="Su et al. 2021, arXiv:2104.09864, section 3.4.3",
        test=_envelope,
    ),
    Claim(
        name="rope-lowers-far-scores",
        words="RoPE lowers the scores of far tokens whatever the queries and keys hold.",
        source="tutorials",
        test=_unaligned,
    ),
    Claim(
        name="float32-angles-are-exact-enough",
        words="A rotary angle in float32 is exact enough at position one million.",
        source="implied by float32(position) times float32(frequency), as most code has it",
        test=_float32_angles,
    ),
    Claim(
        name="rope-needs-a-table",
        words="RoPE needs a table of cosines as long as the longest sequence.",
        source="implementations with max_seq_len",
        test=_table_of_rows,
    ),
    Claim(
        name="rope-is-relative-everywhere",
        words="RoPE's scores depend on the distance alone, wherever the sequence begins.",
        source="Su et al. 2021, arXiv:2104.09864, equation 16",
        test=_relative,
    ),
    Claim(
        name="keys-turn-the-other-way",
        words="Queries turn one way and keys the other, so that scores depend on the distance.",
        source="a tutorial",
        test=_opposite_turns,
    ),
    Claim(
        name="rope-is-added-to-embeddings",
        words="RoPE adds sines and cosines to the token embeddings.",
        source="tutorials",
        test=_added,
    ),
    Claim(
        name="linear-frequencies-do-as-well",
        words="Frequencies on a linear scale do as well as RoPE's geometric ones.",
        source="a circulated snippet, theta = arange(0, dim, 2) * pi / dim",
        test=_linear_theta,
    ),
)
