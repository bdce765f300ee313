"""A causal linear bias as channels: exact where kernels round, at the lengths and head counts where others fail."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import Alibi, Causal, Dims, Full, NoPE, Segments, Window, chain
from posjax.attention import channels, cudnn, describe, reference, splash
from posjax.encodings.alibi import slopes as published
from tests.cases import first_of, wide

LOGITS_OFF = 0.008
"""The largest error of a logit that matters, measured for this scheme at 131,072 tokens."""


def worst_logit(slopes: np.ndarray, S: int, H: int, dtype: str, kernel: str = "cudnn") -> float:
    """The largest error, over keys whose weight can matter, of q k + bias in a float32 accumulator."""
    rng = np.random.default_rng(0)
    rows = np.unique([S - 1, S - 2, S - 129, S // 2 + 3, S // 3, *rng.integers(min(300, S // 2), S, 20)])
    N, worst, scale = len(slopes), 0.0, np.float32(H**0.5)
    q = jnp.asarray(rng.normal(size=(1, len(rows), N, H)), dtype)
    k = jnp.asarray(rng.normal(size=(1, S, 1, H)), dtype)
    held = jnp.asarray(slopes, jnp.float32)
    if kernel == "cudnn":
        wide_q, wide_k = channels.widen(q, k, held * scale)
    else:
        q = (q.astype(jnp.float32) / scale).astype(dtype)
        (wide_q, wide_k), scale = channels.widen(q, k, held), np.float32(1.0)
    exact_q, exact_k = (np.float64(x[0].astype(jnp.float32)) for x in (q, k))
    for i, m in enumerate(rows):
        at = np.unique(np.concatenate([np.arange(max(0, m - 255), m + 1), rng.integers(0, m + 1, 64)]))
        at = np.pad(at, (0, 320 - len(at)), mode="edge")  # Of one length, so that no row compiles anew.
        got = jnp.einsum("nh,sh->ns", wide_q[0, i], wide_k[0, at, 0], preferred_element_type=jnp.float32) / scale
        true = exact_q[i] @ exact_k[at, 0].T / float(scale)
        true -= slopes[:, None] * (m - at)[None]
        off = np.float64(got) - true
        off -= off[:, -1:]  # That of m itself: what is constant along a row does not matter.
        worst = max(worst, float(np.abs(off[true > true.max(axis=1, keepdims=True) - 20]).max()))
    return worst


@pytest.mark.parametrize("kernel", ["cudnn", "splash"])
@pytest.mark.parametrize(
    "sizes", wide([(8, 64, 2048), (12, 64, 32_768), (12, 128, 131_072), (20, 96, 4096)], [(12, 64, 32_768)]), ids=str
)
def test_logits_are_right_in_bfloat16(sizes, kernel):
    heads, H, S = sizes
    assert worst_logit(published(heads), S, H, "bfloat16", kernel) < LOGITS_OFF


def one_piece(slopes: jax.Array, count: int, dtype: str) -> jax.Array:
    """A slope rounded once: the fault that splitting is there to avoid."""
    return jnp.stack([slopes] + [0 * slopes] * (count - 1), -1).astype(dtype)


@pytest.mark.parametrize("keys", [1, 2, 255, 511, 512, 65_537, 131_072, 131_073, 262_144])
def test_digits_are_exact_in_bfloat16_and_add_up(keys):
    digits = channels.digits(keys)
    np.testing.assert_array_equal(digits, jnp.asarray(digits, jnp.bfloat16).astype(jnp.float32))
    np.testing.assert_array_equal(digits.sum(-1), np.arange(keys) - keys // 2)
    assert channels.WIDTH // digits.shape[1] >= 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_pieces_add_up_to_the_slope(dtype):
    slopes = jnp.asarray(np.concatenate([published(12), 11.3 * published(12)]), jnp.float32)
    for run in (channels.pieces, jax.jit(channels.pieces, static_argnums=(1, 2))):
        parts = run(slopes, 3, dtype)
        assert parts.dtype == dtype
        np.testing.assert_allclose(np.float64(parts.astype(jnp.float32)).sum(-1), slopes, rtol=2.0**-23)


def call(kernel, q, k, v, bias, mask):
    if kernel == "cudnn":
        return cudnn.call(q, k, v, bias, mask, "xla")
    return splash.call(q, k, v, bias, mask, 0, interpret=True)


def qkv(T: int, N: int, K: int, H: int, dtype="float32") -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, (2, T, n, H), dtype) for key, n in zip(keys, (N, K, K), strict=True)]


SEGMENTS = jnp.asarray([[1] * 50 + [2] * 70 + [0] * 8, [0] * 3 + [5] * 125], jnp.int32)


@first_of("encoding", [NoPE(), Alibi(learned=True)], ids=repr, keep=1)
@pytest.mark.parametrize(
    ("kernel", "mask"),
    [
        ("cudnn", Causal()),
        ("cudnn", Causal() & Window(20)),
        ("cudnn", Full()),
        ("splash", Causal()),
        ("splash", Causal() & Window(20)),
        ("splash", Causal() & Window(2**31 - 1)),
        ("splash", Causal() & Segments(SEGMENTS)),
        ("splash", Full()),
    ],
    ids=lambda x: "segments" if "Segments" in repr(x) else str(x),
)
def test_kernels_without_a_bias_equal_the_reference(kernel, mask, encoding):
    """What is asked of cuDNN, computed by XLA, and splash as interpreted: outputs, and gradients down to the slopes."""
    if not mask.causal and encoding != NoPE():
        return
    q, k, v = qkv(128, 6, 3, 32)
    params = encoding.init(jax.random.key(0), Dims(6, 32))
    cotangent = jax.random.normal(jax.random.key(1), q.shape)

    def run(way, params, q, k, v):
        bias = describe(encoding, encoding.join(params, encoding.constants(Dims(6, 32))), 6, None, None, (128, 128), 0)
        return reference.attention(q, k, v, bias, mask)[0] if way is None else call(way, q, k, v, bias, mask)

    @partial(jax.jit, static_argnums=0)
    def pulled(way, *arrays):
        out, pull = jax.vjp(partial(run, way), *arrays)
        return out, pull(cotangent)

    (want, want_back), (got, got_back) = (pulled(way, params, q, k, v) for way in (None, kernel))
    np.testing.assert_allclose(got, want, atol=1e-5)
    for a, b in zip(jax.tree.leaves(got_back), jax.tree.leaves(want_back), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5, rtol=1e-3)


@pytest.mark.exhaustive
@first_of("kernel", ["cudnn", "splash"], keep=1)
def test_bfloat16_through_the_kernels(kernel):
    narrow = qkv(128, 12, 4, 64, "bfloat16")
    encoding = chain(posjax.Rope(), Alibi())
    bias = describe(encoding, encoding.join(None, encoding.constants(Dims(12, 64))), 12, None, None, (128, 128), 0)
    want, _ = reference.attention(*(x.astype(jnp.float32) for x in narrow), bias, Causal())
    with jax.numpy_dtype_promotion("standard"):  # jax.nn mixes dtypes.
        got = call(kernel, *narrow, bias, Causal())
    assert got.dtype == jnp.bfloat16 and got.shape == want.shape
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.03)


def lowers(platform: str, call, *shapes) -> str:
    traced = jax.jit(jax.grad(lambda *x: jnp.sum(call(*x).astype(jnp.float32)), (0, 1, 2))).trace(*shapes)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("encoding", [NoPE(), Alibi()], ids=repr)
def test_splash_lowers_for_tpu_without_one(encoding):
    shapes = [jax.ShapeDtypeStruct((2, 2048, n, 128), jnp.bfloat16) for n in (8, 2, 2)]
    bias = describe(encoding, encoding.constants(Dims(8, 128)), 8, None, None, (2048, 2048), 0)
    text = lowers("tpu", lambda q, k, v: splash.attention(q, k, v, bias, Causal() & Window(512))[0], *shapes)
    assert text.count("tpu_custom_call") >= 3
    assert "2048x2048" not in text
