"""FIRE against its oracle; it is causal, and no function of the distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, Fire, Full, Head, InputError, attend
from tests import oracles

AT = np.array([0, 1, 5, 6, 40, 1000])


def params_of(encoding, heads: int) -> dict:
    params = encoding.init(jax.random.key(heads), Dims(heads=heads))
    return jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(1), p.shape), params)


def biases(encoding, params, q_at, k_at) -> np.ndarray:
    heads = len(params["shift"])
    return np.stack([encoding.bias(params, jnp.asarray(q_at), jnp.asarray(k_at), Head(h, heads)) for h in range(heads)])


@pytest.mark.holds(Fire, to=oracles.fire)
@pytest.mark.parametrize("heads", [3, 6])
@pytest.mark.parametrize("encoding", [Fire(hidden=8, threshold=5.0), Fire(hidden=5, c=2.0, threshold=600.0)])
def test_it_matches_the_oracle(encoding, heads):
    params = params_of(encoding, heads)
    scale, shift, out, last = (np.asarray(params[n], float) for n in ("in_scale", "in_shift", "out", "shift"))

    def network(x: np.ndarray) -> np.ndarray:
        return np.maximum(x[..., None] * scale[0] + shift[0], 0) @ out.T + last

    c, threshold = (float(np.exp(np.asarray(params[n], float)[0])) for n in ("c", "threshold"))
    expected = oracles.fire(network, c, threshold, AT, AT)
    np.testing.assert_allclose(biases(encoding, params, AT, AT), expected, atol=1e-5)


def test_it_begins_with_its_fields():
    params = Fire(hidden=7, c=0.2, threshold=90.0).init(jax.random.key(0), Dims(heads=3))
    shapes = {name: x.shape for name, x in params.items()}
    assert shapes == {
        "in_scale": (1, 7),
        "in_shift": (1, 7),
        "out": (3, 7),
        "shift": (3,),
        "c": (1,),
        "threshold": (1,),
    }
    np.testing.assert_allclose([float(jnp.exp(params[n])[0]) for n in ("c", "threshold")], [0.2, 90.0], rtol=1e-6)


def test_below_the_threshold_it_depends_on_distance_alone_and_above_it_does_not():
    encoding = Fire(hidden=8, threshold=64.0)
    params = encoding.init(jax.random.key(0), Dims(heads=3))
    near, far = (biases(encoding, params, np.array([m, m + 9]), np.array([m - 4, m + 5])) for m in (20, 500))
    np.testing.assert_allclose(near[:, 0, 0], near[:, 1, 1], atol=1e-6)
    assert np.abs(far[:, 0, 0] - biases(encoding, params, np.array([4]), np.array([0]))[:, 0, 0]).max() > 1e-3
    assert encoding.bias_kind == "pairwise" and not encoding.relative


def test_it_is_for_causal_attention():
    x = jnp.ones((1, 3, 2, 4))
    with pytest.raises(InputError, match="at or before the query"):
        attend(x, x, x, encoding=Fire(), params=Fire().init(jax.random.key(0), Dims(2, 4)), mask=Full())
    ahead = biases(Fire(), params_of(Fire(), 3), np.array([5]), np.array([5, 6, 700]))
    np.testing.assert_array_equal(ahead[:, :, 1:], ahead[:, :, :1].repeat(2, -1))


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: Fire(hidden=0), "hidden=0"),
        (lambda: Fire(c=0.0), "c=0.0"),
        (lambda: Fire(threshold=-1.0), "threshold=-1.0"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value):
    with pytest.raises(InputError, match=f"Fire got {value}: needed is a positive number"):
        make()
