"""Llama 4's temperature: the oracle, where its steps are, and its errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, InputError, StepTemperature
from tests import oracles

AT = np.array([[0, 1, 6, 7, 8], [8190, 8191, 8192, 10**6, 2**31 - 1]])


def turned(encoding: StepTemperature, x: np.ndarray, role: str) -> np.ndarray:
    params = encoding.join(None, encoding.constants(Dims(*x.shape[2:])))
    return np.asarray(encoding.rotate(params, jnp.asarray(x), jnp.asarray(AT), role))


@pytest.mark.holds(StepTemperature, to=oracles.step_temperature)
@pytest.mark.parametrize("fields", [(0.1, 8192, 0), (0.1, 8192, 1), (2.5, 8, 3), (0.3, 1, 0), (0.1, 8, 2**31 - 1)])
def test_the_temperature_matches_the_oracle(fields):
    x = np.asarray(np.random.default_rng(0).normal(size=(2, 5, 3, 8)), np.float32)
    np.testing.assert_allclose(
        turned(StepTemperature(*fields), x, "query"), oracles.step_temperature(x, AT, *fields), rtol=1e-6
    )
    np.testing.assert_array_equal(turned(StepTemperature(*fields), x, "key"), x)


def test_it_steps_where_a_window_ends_and_nowhere_else():
    x = np.ones((2, 5, 1, 1), np.float32)
    step = np.float32(1 + 0.1 * np.log(2))
    np.testing.assert_allclose(turned(StepTemperature(0.1, 8), x, "query")[0].ravel(), [1, 1, 1, 1, step])
    np.testing.assert_allclose(turned(StepTemperature(0.1, 8, 1), x, "query")[0].ravel(), [1, 1, 1, step, step])
    np.testing.assert_allclose(turned(StepTemperature(0.1, 8192), x, "query")[1, :3].ravel(), [1, 1, step])


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: StepTemperature(0.0), "scale=0.0", "positive number"),
        (lambda: StepTemperature(window=0), "window=0", "1 or more"),
        (lambda: StepTemperature(shift=-1), "shift=-1", "0 or more"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
