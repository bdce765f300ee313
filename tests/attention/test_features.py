"""Positive random features: the kernel that they estimate, and the attention that comes of it, at once and in steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import Causal, Favor, Full, Rope, Segments, attend, linear_attend
from tests.cases import first_of

B, T, N, K, H = 2, 9, 4, 2, 8
Q, KEYS, V = (
    0.5 * jax.random.normal(key, (B, T, heads, size))
    for key, heads, size in zip(jax.random.split(jax.random.key(0), 3), (N, K, K), (H, H, 6), strict=True)
)


@partial(jax.jit, static_argnames=("encoding", "feature"))
def linear(*arrays, **given):
    """Compiled whole: one operation after the other, each would be compiled by itself."""
    return linear_attend(*arrays, **given)


def test_directions_are_orthogonal_in_blocks_and_as_long_as_gaussian_ones():
    w = Favor(20, seed=3).directions(H)
    assert w.shape == (20, H) and w.dtype == np.float32
    for block in (w[:8], w[8:16], w[16:]):
        products = block @ block.T
        np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-5)
    assert abs(np.square(Favor(4096).directions(H)).sum(-1).mean() / H - 1) < 0.05
    assert not np.allclose(w, Favor(20, seed=4).directions(H))


def test_in_the_mean_over_seeds_products_are_the_exponential_of_softmax():
    q, k = Q[0, :, 0], KEYS[0, :, 0]
    exact = np.exp(np.asarray(q, np.float64) @ np.asarray(k, np.float64).T / np.sqrt(H))
    scaled = np.asarray(q, np.float64) / H**0.25

    def estimate(seed):
        feature = Favor(64, seed)
        # Undone here: what the map takes off of each query.
        exponents = scaled @ feature.directions(H).T - np.square(scaled).sum(-1, keepdims=True) / 2
        return np.asarray(feature.of_queries(q) @ feature.of_keys(k).T) * np.exp(exponents.max(-1, keepdims=True))

    estimates = np.stack([estimate(seed) for seed in range(300)])
    error = np.abs(estimates.mean(0) - exact) / (estimates.std(0) / np.sqrt(300))
    assert (error < 2).mean() > 0.85 and error.max() < 6


@pytest.mark.exhaustive
@pytest.mark.parametrize("mask", [Causal(), Full()], ids=repr)
def test_with_more_features_it_comes_to_softmax_attention(mask):
    exact = attend(Q, KEYS, V, encoding=Rope(50.0), mask=mask)

    def error(features):
        out, _ = linear(Q, KEYS, V, encoding=Rope(50.0), mask=mask, feature=Favor(features))
        return float(jnp.sqrt(jnp.mean(jnp.square(out - exact))))

    assert error(8192) < 0.03 and error(8192) < error(64) / 4


@pytest.mark.parametrize("features", [5, 16])
def test_steps_equal_one_call(features):
    mask = Causal() & Segments(jnp.array([[1, 1, 1, 2, 2, 2, 0, 2, 2], [3] * 9]))
    run = {"encoding": Rope(50.0), "feature": Favor(features)}
    whole, last = linear(Q, KEYS, V, mask=mask, **run)
    state, outs = None, []
    for n in range(T):
        part = slice(n, n + 1)
        own = Causal() & Segments(mask.second.queries[:, part])
        out, state = linear(Q[:, part], KEYS[:, part], V[:, part], mask=own, state=state, **run)
        outs.append(out)
    np.testing.assert_allclose(np.concatenate(outs, 1), whole, atol=1e-5)
    assert last.products.shape == (B, K, features, V.shape[-1])
    np.testing.assert_allclose(last.products, state.products, rtol=1e-5, atol=1e-5)
    with pytest.raises(posjax.InputError, match="needed is one that it returned"):
        linear_attend(Q, KEYS, V, state=state, encoding=Rope(50.0))


@first_of(("head_size", "size"), [(8, 1.0), (8, 4.0), (64, 1.0), (64, 2.0), (256, 1.0)], keep=2)
def test_nothing_overflows(head_size, size):
    q, k, v = size * jax.random.normal(jax.random.key(1), (3, 1, 7, 1, head_size))

    def loss(q, k, v):
        return jnp.sum(jnp.sin(linear_attend(q, k, v, feature=Favor(32))[0]))

    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(q, k, v)
    assert all(jnp.isfinite(x).all() for x in (value, *gradients))
    assert size > 1 or all(jnp.abs(x).max() > 0 for x in gradients)


def test_gradients_are_those_of_the_sums_written_out():
    feature = Favor(16)

    def pairs(q, k, v):
        k, v = (jnp.repeat(x, N // K, axis=2) for x in (k, v))
        weights = jnp.einsum("BTNM,BSNM->BNTS", feature.of_queries(q), feature.of_keys(k))
        weights = jnp.where(jnp.tril(jnp.ones((T, T), bool))[None, None], weights, 0.0)
        total = jnp.einsum("BNTS,BSNU->BTNU", weights, v)
        return jnp.sum(jnp.sin(total / weights.sum(-1).swapaxes(1, 2)[..., None]))

    def at_once(*qkv):
        return jnp.sum(jnp.sin(linear_attend(*qkv, feature=feature)[0]))

    got, wanted = (jax.jit(jax.grad(run, (0, 1, 2)))(Q, KEYS, V) for run in (at_once, pairs))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_it_is_a_value():
    assert eval(repr(Favor(64, seed=2)), vars(posjax)) == Favor(64, 2) and hash(Favor()) == hash(Favor(256, 0))
    for wrong in ({"features": 0}, {"features": 2.5}, {"seed": -1}):
        with pytest.raises(posjax.InputError, match=f"{next(iter(wrong))} is"):
            Favor(**wrong)
