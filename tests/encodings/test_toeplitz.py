"""A trained number for each distance: the table, and where it ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, Full, Head, InputError, Toeplitz, attend
from tests.cases import params_of


@pytest.mark.holds(Toeplitz, to=None)
@pytest.mark.parametrize("heads", [3, 6])
def test_the_bias_is_the_tables_entry(heads):
    encoding = Toeplitz(length=6, deviation=1.0)
    params = encoding.init(jax.random.key(0), Dims(heads=heads))
    q_at, k_at = jnp.array([0, 5, 3]), jnp.array([0, 1, 4, 5])
    for h in range(heads):
        expected = [[params["table"][h, int(m - n) + 5] for n in k_at] for m in q_at]
        np.testing.assert_array_equal(encoding.bias(params, q_at, k_at, Head(h, heads)), expected)


@pytest.mark.holds(Toeplitz, to=None)
@pytest.mark.parametrize("jitted", [False, True])
def test_past_the_table_is_nan_on_both_sides(jitted):
    encoding = Toeplitz(length=4)
    params = encoding.init(jax.random.key(0), Dims(heads=3))
    by = jax.jit(encoding.by_distance, static_argnums=2) if jitted else encoding.by_distance
    got = by(params, jnp.array([-(2**31), -5, -4, -3, 0, 3, 4, 2**31 - 1]), Head(1, 3))
    np.testing.assert_array_equal(np.isnan(got), [True, True, True, False, False, False, True, True])


@pytest.mark.holds(Toeplitz, to=None)
def test_the_initial_table_has_the_given_deviation():
    table = Toeplitz(512, 0.3).init(jax.random.key(0), Dims(heads=8))["table"]
    assert table.shape == (8, 1023) and abs(float(table.std()) - 0.3) < 0.01
    assert Toeplitz(7).max_length == 7 and Toeplitz().relative


@pytest.mark.parametrize("columns", [7, 13])
def test_a_table_of_another_length_is_refused(columns):
    with pytest.raises(InputError, match=rf"Toeplitz\(length=6.*'table'.*\(3, {columns}\).*needed is \[..., 11\]"):
        Toeplitz(length=6).bias({"table": jnp.zeros((3, columns))}, jnp.arange(2), jnp.arange(2), Head(0, 3))


@pytest.mark.exhaustive
@pytest.mark.holds(Toeplitz, to=None)
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_a_context_as_long_as_the_table_is_finite(backend):
    x = jax.random.normal(jax.random.key(0), (3, 1, 6, 3, 8))
    encoding = Toeplitz(length=6)
    assert np.isfinite(attend(*x, encoding=encoding, params=params_of(encoding, Dims(3, 8)), backend=backend)).all()
    assert np.isfinite(attend(*x, encoding=encoding, params=params_of(encoding, Dims(3, 8)), mask=Full())).all()


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Toeplitz(0), "length=0", "1 or more"),
        (lambda: Toeplitz(4, -1.0), "deviation=-1.0", "0 or more"),
        (lambda: Toeplitz(4, float("nan")), "deviation=nan", "a finite number"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
