"""The definition of attention against golden vectors and float64 numpy, through every backend."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from posjax import Alibi, Causal, Full, NoPE, Rope, Segments, attend, chain
from posjax.attention import ByPosition, Window, attention, describe, reference
from tests import golden, oracles
from tests.cases import BACKEND_NAMES, first_of

each_backend = pytest.mark.parametrize("backend", BACKEND_NAMES)
few = settings(deadline=None, derandomize=True, max_examples=8)


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
@pytest.mark.parametrize("name", ["none", "rope", "alibi", "rope_alibi"])
@each_backend
def test_attention_matches_golden(name, direction, backend):
    vectors = golden.load("attention.json")
    q, k, v = (jnp.array(vectors[x], jnp.float32) for x in "qkv")
    bias = Alibi("causal" if direction == "causal" else "symmetric")
    encoding = {"none": NoPE(), "rope": Rope(), "alibi": bias, "rope_alibi": chain(Rope(), bias)}[name]
    mask = Causal() if direction == "causal" else Full()
    out = jax.jit(partial(attend, encoding=encoding, mask=mask, backend=backend))(q, k, v)
    np.testing.assert_allclose(out, vectors["out"][f"{name}_{direction}"], rtol=0, atol=1e-6)


class Given:
    """A bias that is an array: a double for what `describe` returns."""

    def __init__(self, array: np.ndarray):
        self.array = jnp.asarray(array, jnp.float32)

    def tile(self, q_first, k_first, rows, columns):
        return self.array[..., q_first : q_first + rows, k_first : k_first + columns]


@jax.jit
def defined(q, k, v, bias, mask):
    return reference.attention(q, k, v, Given(bias), mask)


@few
@given(
    st.sampled_from([(1, 1, 7), (2, 6, 6), (2, 5, 3)]),
    st.sampled_from([(4, 1), (6, 6), (6, 3)]),
    st.sampled_from([1, 5]),
    st.integers(0, 99),
)
def test_the_definition_matches_float64(sizes, heads, H, seed):
    B, T, S = sizes
    N, K = heads
    rng = np.random.default_rng(seed)
    q, k, v = rng.normal(size=(B, T, N, H)), rng.normal(size=(B, S, K, H)), rng.normal(size=(B, S, K, H))
    bias, segments = rng.normal(size=(1, N, T, S)), (rng.integers(0, 3, (B, T)), rng.integers(0, 3, (B, S)))
    mask = Segments(*(jnp.asarray(s) for s in segments))
    out, lse = defined(*(jnp.asarray(x, jnp.float32) for x in (q, k, v, bias)), mask)
    allowed = (segments[0][:, :, None] == segments[1][:, None]) & (segments[1][:, None] != 0)
    np.testing.assert_allclose(out, oracles.attention(q, k, v, bias, allowed), atol=2e-6)
    np.testing.assert_allclose(np.where(allowed.any(-1)[:, None], lse, 0), log_sum_exp(q, k, bias, allowed), atol=5e-6)


def log_sum_exp(q, k, bias, allowed) -> np.ndarray:
    """`[B, N, T]` in float64, 0 where nothing is allowed."""
    k = np.repeat(k, q.shape[2] // k.shape[2], axis=2)
    logits = np.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(q.shape[-1]) + bias
    total = np.sum(np.exp(logits), axis=-1, where=np.broadcast_to(allowed[:, None], logits.shape))
    return np.log(np.where(total > 0, total, 1.0))


@each_backend
@first_of("mask", [Full(), Causal()], ids=str, keep=1)
def test_log_sum_exp_and_its_gradient(mask, backend):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, 5, n, 4)), jnp.float32) for n in (4, 2, 2))
    bias = describe(Alibi("symmetric"), Alibi("symmetric").init(jax.random.key(0), None), 4, None, None, (5, 5), 0)
    weight = rng.normal(size=(2, 4, 5)).astype(np.float32)

    def weighed(q, k, backend):
        return jnp.sum(attention(q, k, v, bias=bias, mask=mask, backend=backend)[1] * weight)

    allowed = np.tril(np.ones((1, 5, 5), bool)) if isinstance(mask, Causal) else np.ones((1, 5, 5), bool)
    dense = oracles.alibi_bias(4, range(5), range(5), "symmetric")[None]
    lse = attention(q, k, v, bias=bias, mask=mask, backend=backend)[1]
    expected = log_sum_exp(np.float64(q), np.float64(k), dense, np.broadcast_to(allowed, (2, 5, 5)))
    np.testing.assert_allclose(lse, expected, atol=2e-6)
    # d lse / d logits is the softmax, so d/dq is the weighted mean of keys over sqrt(H).
    p = oracles.attention_weights(q, k, dense, allowed) * weight[..., None]
    dq, dk = jax.jit(jax.grad(weighed, argnums=(0, 1)), static_argnums=2)(q, k, backend)
    wide = np.repeat(np.float64(k), 2, axis=2)
    np.testing.assert_allclose(dq, np.einsum("bnts,bsnh->btnh", p, wide) / 2, atol=2e-6)
    np.testing.assert_allclose(
        dk, np.einsum("bnts,btnh->bsnh", p, np.float64(q)).reshape(2, 5, 2, 2, 4).sum(3) / 2, atol=2e-6
    )


@each_backend
def test_logits_beyond_float32s_exponential_stay_finite(backend):
    q = jnp.full((1, 3, 1, 4), 100.0)
    out, lse = attention(q, q, q, mask=Full(), backend=backend)
    np.testing.assert_allclose(out, q, rtol=1e-6)
    np.testing.assert_allclose(lse, 20_000 + np.log(3), rtol=1e-6)


@each_backend
def test_a_query_that_sees_nothing_gives_zero_and_no_gradient(backend, monkeypatch):
    monkeypatch.setattr("posjax.attention.blocks.BLOCK", 3)
    segments = jnp.array([[0, 0, 0, 0, 1, 1, 2]])
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 7, 2, 4))

    def run(q, k, v):
        return attention(q, k, v, mask=Causal() & Segments(segments), backend=backend)[0]

    @jax.jit
    def both(*qkv):
        out, pull = jax.vjp(run, *qkv)
        return out, *pull(jnp.ones_like(out))

    out, dq, dk, dv = (np.asarray(x) for x in both(q, k, v))
    assert all(np.isfinite(x).all() for x in (out, dq, dk, dv))
    for x in (out, dq, dk, dv):
        assert not x[:, :4].any(), "padding takes no part"
    assert all(np.abs(x[:, 4:6]).max() > 0 for x in (out, dq, dk, dv))


@each_backend
def test_where_no_query_sees_anything_all_is_zero(backend):
    x = jax.random.normal(jax.random.key(0), (1, 4, 2, 4))
    mask = Segments(jnp.zeros((1, 4), jnp.int32))

    @jax.jit
    def both(*qkv):
        out, pull = jax.vjp(lambda q, k, v: attention(q, k, v, mask=mask, backend=backend)[0], *qkv)
        return out, *pull(jnp.ones_like(out))

    assert not any(np.asarray(g).any() for g in both(x, x, x))


@each_backend
def test_bfloat16_stays_close_to_float32(backend, monkeypatch):
    monkeypatch.setattr("posjax.attention.blocks.BLOCK", 16)
    narrow = jax.random.normal(jax.random.key(0), (3, 2, 40, 2, 16), jnp.bfloat16)
    bias = ByPosition({}, 10**6 + jnp.arange(40)[None], 10**6 + jnp.arange(40)[None], Alibi(), 2)

    def run(q, k, v):
        return attention(q, k, v, bias=bias, mask=Causal(), backend=backend)[0]

    @jax.jit
    def both(*qkv):
        out, pull = jax.vjp(run, *qkv)
        return out, *pull(jnp.ones_like(out))

    for got, want in zip(both(*narrow), both(*(x.astype(jnp.float32) for x in narrow)), strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.06)


def test_a_window_of_one_returns_the_values():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, 4))
    np.testing.assert_allclose(attention(q, k, v, mask=Window(1), backend="reference")[0], v, atol=1e-6)
