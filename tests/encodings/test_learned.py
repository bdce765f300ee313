"""The learned table: its rows, what lies past them, and the recipes that fill them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from posjax import Dims, InputError, Learned

few = settings(deadline=None, derandomize=True, max_examples=12)
DIMS = Dims(model_size=4)


@pytest.fixture(scope="module")
def table() -> dict:
    return Learned(12).init(jax.random.key(0), DIMS)


@pytest.mark.holds(Learned, to=None)
def test_rows_are_added_where_positions_say(table):
    x = jax.random.normal(jax.random.key(1), (2, 3, 4))
    for at in ([11, 0, 5], [[11, 0, 5], [1, 1, 2]]):
        got = Learned(12).embed(table, x, jnp.array(at))
        expected = np.asarray(x) + np.asarray(table["table"])[np.array(at)]
        np.testing.assert_array_equal(got, expected)


@pytest.mark.holds(Learned, to=None)
@pytest.mark.parametrize("jitted", [False, True])
def test_outside_the_table_is_nan_and_the_rest_of_the_row_stays(table, jitted):
    embed = jax.jit(Learned.embed, static_argnums=0) if jitted else Learned.embed
    at = jnp.array([12, 11, -1, 2**31 - 1, -(2**31), 0])
    got = np.asarray(embed(Learned(12), table, jnp.zeros((1, 6, 4)), at))[0]
    assert np.isnan(got[[0, 2, 3, 4]]).all()
    np.testing.assert_array_equal(got[[1, 5]], np.asarray(table["table"])[[11, 0]])


@pytest.mark.holds(Learned, to=None)
def test_the_initial_table_has_the_given_deviation():
    params = Learned(512, deviation=0.3).init(jax.random.key(0), Dims(model_size=32))
    assert params["table"].shape == (512, 32) and abs(float(params["table"].std()) - 0.3) < 0.01
    assert not Learned(4, deviation=0.0).init(jax.random.key(0), DIMS)["table"].any()


def filled(table: np.ndarray, trained: int, length: int, how: str) -> np.ndarray:
    """The recipes, row by row."""
    rows = []
    for p in range(len(table)):
        if how == "clamp":
            rows.append(table[min(p, trained - 1)])
        elif how == "wrap":
            rows.append(table[p % trained])
        else:
            place = min(p * (trained - 1) / max(length - 1, 1), trained - 1)
            below, above = int(np.floor(place)), int(np.ceil(place))
            rows.append(table[below] + (place - below) * (table[above] - table[below]))
    return np.array(rows)


@pytest.mark.holds(Learned, to=None)
@pytest.mark.parametrize("how", ["clamp", "wrap", "interpolate"])
@few
@given(st.integers(1, 12), st.integers(0, 11))
def test_filling_matches_its_recipe(how, trained, more):
    length = min(trained + more, 12)
    rows = np.random.default_rng(trained).normal(size=(12, 4))
    got = Learned(12).fill({"table": jnp.asarray(rows, jnp.float32), "other": 1}, trained, length, how)
    np.testing.assert_allclose(got["table"], filled(rows, trained, length, how), atol=1e-5)
    assert got["other"] == 1


@pytest.mark.parametrize("shape", [(8, 4), (16, 4), (12, 1)])
def test_a_table_of_other_sizes_is_refused(shape):
    table = {"table": jnp.zeros(shape)}
    with pytest.raises(InputError, match=rf"Learned\(length=12.*'table'.*\({shape[0]}, {shape[1]}\).*\[..., 12, 4\]"):
        Learned(12).embed(table, jnp.zeros((1, 2, 4)), jnp.arange(2))
    if shape[0] != 12:
        with pytest.raises(InputError, match=r"needed is \[..., 12, 4\]"):
            Learned(12).fill(table, 3, 9, "wrap")


@pytest.mark.holds(Learned, to=None)
def test_interpolation_keeps_the_ends():
    rows = jnp.arange(12.0)[:, None]
    got = Learned(12).fill({"table": rows}, 3, 9, "interpolate")["table"][:, 0]
    np.testing.assert_allclose(got, [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2, 2, 2], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Learned(0), "length=0", "number of rows, 1 or more"),
        (lambda: Learned(-3), "length=-3", "number of rows, 1 or more"),
        (lambda: Learned(deviation=-1.0), "deviation=-1.0", "0 or more"),
        (lambda: Learned(deviation=float("nan")), "deviation=nan", "a finite number"),
        (lambda: Learned(12).fill({}, 0, 5, "clamp"), "trained=0 and length=5", "1 <= trained <= length <= 12"),
        (lambda: Learned(12).fill({}, 6, 5, "wrap"), "trained=6 and length=5", "1 <= trained <= length <= 12"),
        (lambda: Learned(12).fill({}, 6, 13, "wrap"), "trained=6 and length=13", "1 <= trained <= length <= 12"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


@pytest.mark.holds(Learned, to=None)
def test_it_declares_its_length():
    assert Learned(7).max_length == 7 and not Learned().relative


def test_rows_before_the_first_position_are_kept_and_not_read():
    plain, offset = Learned(12), Learned(10, offset=2)
    table = offset.init(jax.random.key(0), DIMS)
    at, x = jnp.arange(10), jnp.zeros((1, 10, 4))
    np.testing.assert_array_equal(table["table"], plain.init(jax.random.key(0), DIMS)["table"])
    np.testing.assert_array_equal(offset.embed(table, x, at), plain.embed(table, x, at + 2))
    assert offset.max_length == 10 and np.isnan(offset.embed(table, x[:, :1], jnp.array([10]))).all()
    filled = offset.fill(table, 3, 9, "clamp")["table"]
    np.testing.assert_array_equal(filled[:5], table["table"][:5])
    np.testing.assert_array_equal(filled[5:], jnp.broadcast_to(table["table"][4], (7, 4)))
