"""Scalable softmax: the oracle, what it leaves alone, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, InputError, ScalableSoftmax
from tests import content_oracles as content

AT = np.array([[0, 1, 2, 510, 511], [512, 513, 5000, 10**6, 2**31 - 1]])


def rows(heads: int, size: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(size).normal(size=(2, 5, heads, size)), np.float32)


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


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: ScalableSoftmax(0.0), "scale=0.0", "positive"),
        (lambda: ScalableSoftmax(float("nan")), "scale=nan", "a finite number"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
