"""Temperatures by position, log-n and scalable softmax: oracles, what they leave alone, and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, InputError, LogN, Rope, ScalableSoftmax, attend, chain
from tests import content_oracles as content, oracles

AT = np.array([[0, 1, 2, 510, 511], [512, 513, 5000, 10**6, 2**31 - 1]])


def rows(heads: int, size: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(size).normal(size=(2, 5, heads, size)), np.float32)


@pytest.mark.holds(LogN, to=oracles.log_n)
@pytest.mark.parametrize("sizes", [(3, 8), (6, 16)])
@pytest.mark.parametrize("length", [2, 512, 4096])
def test_log_n_matches_the_oracle(sizes, length):
    encoding, x = LogN(length), rows(*sizes)
    params = encoding.join(None, encoding.constants(Dims(*sizes)))
    got = encoding.rotate(params, jnp.asarray(x), jnp.asarray(AT), "query")
    np.testing.assert_allclose(got, oracles.log_n(x, AT, length), rtol=1e-6)
    np.testing.assert_array_equal(encoding.rotate(params, jnp.asarray(x), jnp.asarray(AT), "key"), x)


def test_log_n_changes_nothing_within_the_trained_length():
    x = rows(3, 8)
    got = LogN(512).rotate(LogN(512).constants(Dims(3, 8)), jnp.asarray(x), jnp.asarray(AT[:1]), "query")
    np.testing.assert_array_equal(got, x)


@pytest.mark.holds(ScalableSoftmax, to=content.scalable_softmax)
@pytest.mark.parametrize("sizes", [(3, 8), (6, 16)])
def test_scalable_softmax_matches_the_oracle(sizes):
    encoding, x = ScalableSoftmax(), rows(*sizes)
    params = {"scale": jnp.linspace(0.1, 2.0, sizes[0])}
    got = encoding.rotate(params, jnp.asarray(x), jnp.asarray(AT), "query")
    np.testing.assert_allclose(got, content.scalable_softmax(params["scale"], x, AT), rtol=2e-6)
    np.testing.assert_array_equal(encoding.rotate(params, jnp.asarray(x), jnp.asarray(AT), "key"), x)


def test_scalable_softmax_begins_with_its_scale():
    params = ScalableSoftmax(0.7).init(jax.random.key(0), Dims(heads=3))
    np.testing.assert_allclose(params["scale"], [0.7] * 3, rtol=1e-6)


@pytest.mark.holds(LogN, to=oracles.log_n)
@pytest.mark.holds(ScalableSoftmax, to=content.scalable_softmax)
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_attend_sharpens_by_position(backend):
    """After RoPE, which a scale passes through."""
    q, k, v = np.asarray(np.random.default_rng(0).normal(size=(3, 1, 9, 6, 8)), np.float32)
    at = np.arange(9)[None]
    frequencies = oracles.plain(8, 10_000.0)[0]
    turned = oracles.rope(q, at, frequencies)
    for encoding, params, scaled in (
        (chain(Rope(), LogN(4)), {"0": {}, "1": {}}, oracles.log_n(turned, at, 4)),
        (
            chain(Rope(), ScalableSoftmax()),
            {"0": {}, "1": {"scale": jnp.full(6, 0.43)}},
            content.scalable_softmax(np.full(6, 0.43), turned, at),
        ),
    ):
        got = attend(*map(jnp.asarray, (q, k, v)), encoding=encoding, params=params, backend=backend)
        expected = oracles.attention(
            scaled, oracles.rope(k, at, frequencies), v, allowed=np.tril(np.ones((1, 9, 9), bool))
        )
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("encoding", [LogN(4), ScalableSoftmax()])
def test_a_negative_position_is_nan(encoding):
    params = encoding.join(encoding.init(jax.random.key(0), Dims(1, 2)), encoding.constants(Dims(1, 2)))
    got = encoding.rotate(params, jnp.ones((1, 2, 1, 2)), jnp.array([-1, 3]), "query")[0]
    assert np.isnan(got[0]).all() and np.isfinite(got[1]).all()


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: LogN(1), "original_length=1", "2 or more"),
        (lambda: ScalableSoftmax(0.0), "scale=0.0", "positive"),
        (lambda: ScalableSoftmax(float("nan")), "scale=nan", "a finite number"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
