"""Claims about biases and absolute positions that arithmetic decides, without training."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.claims.angles import bound, power_above
from experiments.claims.base import Claim, Verdict
from experiments.claims.deciding import fact
from experiments.claims.seeds import digits
from posjax.attention import Causal, Full, Mask, attend
from posjax.encodings import Alibi, Dims, Encoding, Head, Kerple, NoPE, Params, Sinusoidal, T5Bias
from posjax.encodings.alibi import slopes
from posjax.results import Measurements

THOUSANDTH = math.log(1000.0)
"""The penalty by which a key keeps a thousandth of its weight."""


def _first_head(table: Measurements) -> Verdict:
    # Those that the encoding takes where nobody gives others.
    each = slopes(8)
    return fact(
        bool(each[0] == each.min()),
        f"Of 8 heads the slopes run from {digits(each[0])} at head 0 to {digits(each[-1])} at head 7.",
    )


def _more_heads(table: Measurements) -> Verdict:
    # The power of two in 12 heads is 8: the rest fall between, and none is flatter.
    reach = {heads: THOUSANDTH / slopes(heads).min() for heads in (4, 8, 12, 16, 32)}
    told = ", ".join(f"{far:,.0f} with {heads}" for heads, far in reach.items())
    return fact(
        max(reach.values()) > reach[4] + 1,
        f"The distance at which the widest head keeps a thousandth of a key's weight: {told} heads.",
    )


def _entropy(bias_S: np.ndarray) -> float:
    # As a softmax does it: the largest first, so that no power overflows.
    weights = np.exp(bias_S - bias_S.max())
    shares = weights / weights.sum()
    return float(-(shares * np.log(np.maximum(shares, 1e-300))).sum())


def _unlimited(table: Measurements) -> Verdict:
    grown = []
    # By its slopes alone: all keys are alike, so that the bias is all that there is.
    for slope in slopes(8):
        near = _entropy(-slope * np.arange(512))
        far = _entropy(-slope * np.arange(16_384))
        grown.append(far - near)
    uniform = math.log(16_384 / 512)
    return fact(
        min(grown) > uniform / 2,
        f"From 512 to 16,384 equal keys the entropy of ALiBi's 8 heads grows by {min(grown):.2f} to {max(grown):.2f} "
        f"nats, and that of a head without a bias by {uniform:.2f}.",
    )


def _symmetric(table: Measurements) -> Verdict:
    alibi = Alibi("symmetric")
    at = np.arange(129, dtype=np.int32)
    # A query in the middle, with as many keys on either side.
    row = _bias(alibi, alibi.constants(Dims(8, 64, 512)), at[64:65], at)[0]
    apart = float(np.abs(row - row[::-1]).max())
    return fact(apart > 0, f"The bias of 64 keys ahead differs from that of 64 keys behind by {apart:g} at most.")


def _bias(encoding: Encoding, params: Params, q_positions: np.ndarray, k_positions: np.ndarray) -> np.ndarray:
    # Compiled whole, which is sooner done than its operations one by one.
    return np.asarray(
        jax.jit(lambda params, q, k: encoding.bias(params, q, k, Head(3, 8)))(params, q_positions, k_positions)
    )


def _row_of_cache(table: Measurements) -> Verdict:
    dims = Dims(8, 64, 512)
    worst = 0.0
    for encoding in (T5Bias(), Alibi(), Kerple()):
        params = encoding.join(encoding.init(jax.random.key(0), dims), encoding.constants(dims))
        at = np.arange(256, dtype=np.int32)
        whole = _bias(encoding, params, at, at)
        row = _bias(encoding, params, at[-1:], at)
        worst = max(worst, float(np.abs(whole[-1:] - row).max()))
    return fact(
        worst > 0,
        f"A new query's row, computed alone over 256 cached keys, differs from that of the whole bias by {worst:g} "
        "(T5, ALiBi and KERPLE).",
    )


def _t5_far(table: Measurements) -> Verdict:
    t5 = T5Bias()
    # Far past where its buckets end.
    buckets = np.asarray(t5.bucket({}, jnp.arange(100_000)))
    last = int(np.argmax(buckets == buckets[-1]))
    exact = len(set(buckets[: t5.one_way // 2].tolist()))
    return fact(
        last < len(buckets) - 1,
        f"With its defaults T5 tells {exact} distances apart one by one, and puts all from {last} on into one bucket.",
    )


def _alibi_is_a_kerple(table: Measurements) -> Verdict:
    kerple = Kerple("power")
    dims = Dims(8, 64, 512)
    # r1 as its logarithm, and an exponent of 2 sigmoid(0) = 1.
    params = {"r1": np.log(slopes(8)).astype(np.float32), "r2": np.zeros(8, np.float32)}
    at = np.arange(4096, dtype=np.int32)
    alibi = _bias(Alibi(), Alibi().constants(dims), at[-1:], at)
    # In the kernel's own parameters, no approximation: what is left is the rounding of a logarithm.
    ours = _bias(kerple, params, at[-1:], at)
    worst = float(np.abs(ours - alibi).max() / np.abs(alibi).max())
    return fact(
        worst < 1e-5,
        f"KERPLE's power form with exponent 1 and ALiBi's slopes differs from ALiBi's bias by less than "
        f"{power_above(max(worst, 1e-6)):.0e} of it, to distance 4,095 (head 3 of 8).",
    )


def _bfloat16_positions(table: Measurements) -> Verdict:
    # The slope of head 3 of 8, a power of two: it is the positions alone that are rounded.
    keys = jnp.arange(4088, 4096)
    rounded = jnp.asarray(-(2.0**-4), jnp.bfloat16) * keys.astype(jnp.bfloat16)
    ours = _bias(Alibi(), Alibi().constants(Dims(8, 64, 512)), np.array([4095]), np.asarray(keys))
    kept = len(set(np.asarray(rounded, np.float32).tolist()))
    exact = len(set(np.asarray(ours).ravel().tolist()))
    return fact(
        kept == len(keys),
        f"Slope times key position in bfloat16 leaves {kept} of 8 biases apart for the keys from 4,088 to 4,095; "
        f"distances subtracted as integers leave {exact}.",
    )


def _waves(positions: np.ndarray, size: int = 512) -> np.ndarray:
    x = np.zeros((1, len(positions), size), np.float32)
    embed = jax.jit(lambda x, positions: Sinusoidal().embed({}, x, positions))
    return np.asarray(embed(x, positions.astype(np.int32)))[0].astype(np.float64)


def _linear_offset(table: Measurements) -> Verdict:
    here_P2 = _waves(np.arange(1024)).reshape(1024, -1, 2)
    step = _waves(np.array([17])).reshape(-1, 2)
    # Each pair of a sine and a cosine turns by the angle of 17 tokens, which is one matrix whatever the position.
    sin, cos = np.moveaxis(here_P2, -1, 0)
    step_sin, step_cos = step.T
    sine = sin * step_cos + cos * step_sin
    cosine = cos * step_cos - sin * step_sin
    moved = np.stack([sine, cosine], -1).reshape(1024, -1)
    worst = np.abs(moved - _waves(np.arange(1024) + 17)).max()
    return fact(
        worst < 1e-5,
        f"One matrix, which turns each pair of channels, moves the codes of positions 0 to 1,023 by 17 tokens to "
        f"within {power_above(worst):.0e}.",
    )


def _direction(table: Measurements) -> Verdict:
    # Cosines of the offset, which have no sign.
    waves = _waves(np.array([100, 164, 36]))
    after, before = waves[0] @ waves[1], waves[0] @ waves[2]
    return fact(
        abs(after - before) > 1e-2,
        f"The dot product with the code of 64 tokens later is {after:.2f}, and of 64 tokens earlier {before:.2f}.",
    )


CIRCULATED = {
    "sinusoidal": (1, 0.9, 0.6, 0.4, 0.25, 0.15, 0.08, 0.03, 0.01),
    "RoPE": (1, 0.97, 0.93, 0.81, 0.6, 0.4, 0.25, 0.15, 0.07),
    "ALiBi": (1, 0.95, 0.85, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05),
}
"""A chart that circulates: how much of a score is left at distances 0, 64, ... 512."""


def _heat_map(table: Measurements) -> Verdict:
    far = np.arange(0, 513, 64)
    waves = _waves(far)
    similar = waves @ waves[0]
    weights = np.exp(-np.outer(far, slopes(8))).mean(1)
    computed = {"sinusoidal": similar / similar[0], "RoPE": bound(far, head_size=64), "ALiBi": weights}
    # The largest of all cells: a chart is right where each of its cells is.
    gaps = {name: np.abs(computed[name] - CIRCULATED[name]).max() for name in CIRCULATED}
    told = ", ".join(
        f"{name} {digits(computed[name][1])} at 64 and {digits(computed[name][-1])} at 512" for name in CIRCULATED
    )
    return fact(
        max(gaps.values()) < 0.1,
        f"Computed are {told} (dot product of codes; bound; mean weight of 8 heads): the chart is off by up to "
        f"{max(gaps.values()):.2f}.",
    )


def _order_seen(mask: Mask, layers: int) -> float:
    """How much the last token's output changes when the tokens before it change places, without any positions."""
    generator = np.random.default_rng(0)
    x_BTNH = generator.normal(size=(1, 16, 2, 8)).astype(np.float32)
    # The last token stays where it is: it is the one that reads the others.
    shuffled = np.concatenate([x_BTNH[:, 14::-1], x_BTNH[:, 15:]], axis=1)

    @jax.jit
    def last(x_BTNH: jax.Array) -> jax.Array:
        for _ in range(layers):
            seen = attend(x_BTNH, x_BTNH, x_BTNH, mask=mask, encoding=NoPE(), backend="reference")
            x_BTNH = x_BTNH + seen
        return x_BTNH[0, -1]

    return float(np.abs(np.asarray(last(x_BTNH)) - np.asarray(last(shuffled))).max())


def _causal_bag(table: Measurements) -> Verdict:
    one = _order_seen(Causal(), 1)
    two = _order_seen(Causal(), 2)
    return fact(
        two < 1e-4,
        f"The tokens before the last in another order change its output by {two:.1g} after two layers of causal "
        f"attention (after one: {_none(one)}).",
    )


def _full_bag(table: Measurements) -> Verdict:
    two = _order_seen(Full(), 2)
    return fact(
        two < 1e-4,
        f"The tokens before the last in another order change its output by {_none(two)} after two layers of attention "
        "in both directions.",
    )


def _none(change: float) -> str:
    # What is left is the order of a sum, which no model can read.
    if change < 1e-5:
        return "nothing"
    return f"{change:.1g}"


def _claim(name: str, words: str, source: str, test: Callable[[Measurements], Verdict]) -> Claim:
    return Claim(name=name, words=words, source=source, test=test)


PRESS = "Press et al. 2021, arXiv:2108.12409"
CLAIMS = (
    _claim("alibi-head-0-is-the-flattest", "ALiBi's head 0 has the smallest slope.", "a tutorial", _first_head),
    _claim("more-heads-look-further", "With more heads ALiBi looks further.", "tutorials", _more_heads),
    _claim("alibi-has-unlimited-memory", "With ALiBi memory is unlimited.", "a tutorial", _unlimited),
    _claim(
        "symmetric-alibi-tells-sides",
        "A penalty of the absolute distance tells what is before from what is after.",
        "encoders with the symmetric form",
        _symmetric,
    ),
    _claim(
        "relative-biases-break-the-cache",
        "A relative bias such as T5's breaks the key-value cache.",
        "a tutorial on RoFormer",
        _row_of_cache,
    ),
    _claim(
        "t5-merges-far-distances",
        "T5's bias treats all distances from some on alike.",
        "Raffel et al. 2019, arXiv:1910.10683, section 2.1",
        _t5_far,
    ),
    _claim(
        "alibi-is-a-kerple",
        "ALiBi is a special case of KERPLE.",
        "Chi et al. 2022, arXiv:2205.09921",
        _alibi_is_a_kerple,
    ),
    _claim(
        "bfloat16-positions-will-do",
        "A bias may be computed from key positions in the model's own bfloat16.",
        "implementations that do so",
        _bfloat16_positions,
    ),
    _claim(
        "sinusoidal-offsets-are-linear",
        "The sinusoidal code of a fixed offset ahead is a linear function of the code here.",
        "Vaswani et al. 2017, arXiv:1706.03762, section 3.5",
        _linear_offset,
    ),
    _claim(
        "sinusoidal-products-tell-direction",
        "The dot product of two sinusoidal codes tells which comes first.",
        "denied by Yan et al. 2019, arXiv:1911.04474",
        _direction,
    ),
    _claim(
        "the-circulated-heat-map",
        "A circulated chart of how sinusoidal, RoPE and ALiBi fade over 512 tokens is right.",
        "a tutorial",
        _heat_map,
    ),
    _claim(
        "no-positions-no-order-in-a-decoder",
        "Without positional encodings a causal decoder sees a bag of words.",
        "tutorials; denied by Haviv et al. 2022, arXiv:2203.16634",
        _causal_bag,
    ),
    _claim(
        "no-positions-no-order-in-an-encoder",
        "Without positional encodings an encoder sees a bag of words.",
        "Vaswani et al. 2017, arXiv:1706.03762, section 3.5",
        _full_bag,
    ),
)
