"""KERPLE against its oracle, and what its parameters cannot become."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import Dims, Head, InputError, Kerple
from tests import oracles

ORACLE = {"log": (oracles.kerple_log, np.exp), "power": (oracles.kerple_power, lambda x: 2 / (1 + np.exp(-x)))}


def biases(encoding, params, q_at, k_at) -> np.ndarray:
    heads = len(params["r1"])
    return np.stack([encoding.bias(params, jnp.asarray(q_at), jnp.asarray(k_at), Head(h, heads)) for h in range(heads)])


@pytest.mark.holds(Kerple, to=(oracles.kerple_log, oracles.kerple_power))
@pytest.mark.parametrize("heads", [3, 6])
@pytest.mark.parametrize("kind", ["log", "power"])
def test_it_matches_the_oracle(kind, heads):
    rng = np.random.default_rng(heads)
    raw = {name: np.float32(rng.normal(size=heads)) for name in ("r1", "r2")}
    q_at, k_at = np.array([0, 3, 900, 5]), np.array([0, 1, 2, 899, 900, 70_000])
    oracle, of_r2 = ORACLE[kind]
    expected = oracle(np.exp(raw["r1"].astype(float)), of_r2(raw["r2"].astype(float)), q_at, k_at)
    got = biases(Kerple(kind), {name: jnp.asarray(x) for name, x in raw.items()}, q_at, k_at)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=0)


@pytest.mark.parametrize("kind", ["log", "power"])
def test_it_begins_as_it_says(kind):
    params = Kerple(kind).init(jax.random.key(0), Dims(heads=6))
    r1, r2 = np.exp(params["r1"]), ORACLE[kind][1](np.asarray(params["r2"]))
    np.testing.assert_allclose([r1.min(), r1.max()], [np.exp(-1), np.exp(1)], rtol=1e-5)
    np.testing.assert_allclose(
        [r2.min(), r2.max()], {"log": [np.exp(-4), np.exp(1)], "power": [0.5379, 1.4621]}[kind], rtol=1e-4
    )


@pytest.mark.parametrize("kind", ["log", "power"])
@pytest.mark.parametrize("raw", [-80.0, -30.0, 0.0, 30.0])
def test_whatever_is_learned_it_falls_with_the_distance(kind, raw):
    """No r1 or r2 is ever negative, and no power above 2: the kernel stays conditionally positive definite."""
    for other in (-5.0, 0.0, 5.0):
        for r1, r2 in ((raw, other), (other, raw)):
            params = {"r1": jnp.full(1, r1, jnp.float32), "r2": jnp.full(1, r2, jnp.float32)}
            bias = biases(Kerple(kind), params, np.array([4000]), np.array([4000, 3999, 3990, 3000, 0]))[0, 0]
            assert bias[0] == 0 and np.isfinite(bias).all() and (np.diff(bias) <= 0).all(), (r1, r2, bias)
            if kind == "power":
                assert bias[-1] >= bias[1] * 4000.0**2 * (1 + 1e-5)


@pytest.mark.parametrize("kind", ["log", "power"])
def test_gradients_at_distance_zero_are_finite(kind):
    params = Kerple(kind).init(jax.random.key(0), Dims(heads=2))
    slope = jax.grad(lambda p: Kerple(kind).bias(p, jnp.arange(3), jnp.arange(3), Head(1, 2)).sum())(params)
    assert all(np.isfinite(x).all() and x[1] != 0 for x in slope.values())


def test_another_kind_is_an_error():
    with pytest.raises(InputError, match="kind='linear': needed is 'log' or 'power'"):
        Kerple("linear")  # type: ignore[arg-type]


@pytest.mark.parametrize("raw", [-300.0, 300.0])
@pytest.mark.parametrize("kind", ["log", "power"])
def test_no_raw_value_leaves_the_numbers(kind, raw):
    params = {"r1": jnp.array([raw]), "r2": jnp.array([raw])}
    bias = posjax.Kerple(kind).by_distance(params, jnp.array([0, 1, 4, 2**31 - 1]), posjax.Head(0, 1))
    assert bool(jnp.isfinite(bias).all()) and float(bias[0]) == 0.0
