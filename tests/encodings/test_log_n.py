"""log-n scaling: the oracle, what it leaves alone, and its errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, InputError, LogN
from tests import oracles

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


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: LogN(1), "original_length=1", "2 or more"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
