"""T5's buckets and biases against golden vectors and integer arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from posjax import Dims, Head, InputError, T5Bias, attend
from tests import golden, oracles

few = settings(deadline=None, derandomize=True, max_examples=10)


@pytest.mark.holds(T5Bias, to="t5_buckets.json")
@pytest.mark.parametrize("case", golden.cases("t5_buckets.json"))
def test_buckets_match_golden_exactly(case):
    first, last = case["relative_position"]
    encoding = T5Bias(case["num_buckets"], case["max_distance"], case["bidirectional"])
    got = encoding.bucket({}, -jnp.arange(first, last + 1))  # The reference counts key minus query.
    np.testing.assert_array_equal(got, case["bucket"])


@pytest.mark.holds(T5Bias, to=oracles.t5_bucket)
@pytest.mark.parametrize("bidirectional", [False, True])
@few
@given(st.integers(1, 16), st.integers(1, 3000))
def test_buckets_match_integer_arithmetic(bidirectional, quarter, more):
    encoding = T5Bias(4 * quarter, 4 * quarter + more, bidirectional)
    edges = encoding.edges().astype(np.int64)
    near = np.concatenate([edges - 1, edges, edges + 1, [0, 2**31 - 1]])
    distance = np.concatenate([near, -near[near > 0]])
    got = np.asarray(_bucket(encoding, jnp.asarray(distance, jnp.int32)))
    expected = oracles.t5_bucket(-distance, bidirectional, encoding.buckets, encoding.max_distance)
    np.testing.assert_array_equal(got, expected)


def _bucket(encoding: T5Bias, distance: jax.Array) -> jax.Array:
    return encoding.bucket({}, distance)


@pytest.mark.holds(T5Bias, to=oracles.t5_bias)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("heads", [1, 6])
def test_biases_are_read_from_the_table(bidirectional, heads):
    encoding = T5Bias(16, 50, bidirectional)
    params = encoding.init(jax.random.key(1), Dims(heads=heads))
    q_at, k_at = np.array([0, 5, 70, 2**31 - 1]), np.array([0, 3, 6, 41, 2**31 - 9])
    expected = oracles.t5_bias(params["table"], q_at, k_at, bidirectional, 50)
    q, k = jnp.asarray(q_at, jnp.int32), jnp.asarray(k_at, jnp.int32)
    for n in range(heads):
        got = encoding.bias(params, q, k, Head(n, heads))
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(got, expected[n].astype(np.float32))


def test_the_table_has_a_row_for_each_head_and_the_given_deviation():
    table = T5Bias(deviation=0.5).init(jax.random.key(0), Dims(heads=64))["table"]
    assert table.shape == (64, 32) and table.dtype == jnp.float32
    assert abs(float(table.std()) - 0.5) < 0.03


def test_a_table_for_other_heads_is_refused():
    with pytest.raises(InputError, match=r"shape \(3, 32\).*must be 1 or the number of heads, 4"):
        T5Bias().bias({"table": jnp.zeros((3, 32))}, jnp.arange(2), jnp.arange(2), Head(0, 4))


@pytest.mark.parametrize(("buckets", "columns"), [(64, 32), (16, 32)])
def test_a_table_of_other_buckets_is_refused(buckets, columns):
    with pytest.raises(InputError, match=rf"buckets={buckets}.*'table'.*\(4, {columns}\).*\[..., {buckets}\]"):
        T5Bias(buckets).bias({"table": jnp.zeros((4, columns))}, jnp.arange(2), jnp.arange(2), Head(0, 4))


def test_attend_refuses_the_parameters_of_other_buckets():
    x = jnp.ones((1, 3, 4, 8))
    params = T5Bias().init(jax.random.key(0), Dims(heads=4))
    for backend in ("reference", "chunked"):
        with pytest.raises(InputError, match=r"buckets=64.*\(4, 32\)"):
            attend(x, x, x, encoding=T5Bias(buckets=64), params=params, backend=backend)


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: T5Bias(buckets=0), "buckets=0", "positive multiple of 2"),
        (lambda: T5Bias(buckets=7), "buckets=7", "positive multiple of 2"),
        (lambda: T5Bias(buckets=6, bidirectional=True), "buckets=6 and bidirectional=True", "positive multiple of 4"),
        (lambda: T5Bias(buckets=2, bidirectional=True), "buckets=2", "positive multiple of 4"),
        (lambda: T5Bias(max_distance=16), "max_distance=16", "more than the 16 exact buckets"),
        (lambda: T5Bias(max_distance=8, bidirectional=True), "max_distance=8", "more than the 8 exact buckets"),
        (lambda: T5Bias(deviation=-0.1), "deviation=-0.1", "0 or more"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_the_smallest_and_the_tightest_are_allowed():
    assert T5Bias(2, 2).edges().tolist() == [1]
    assert T5Bias(buckets=4, max_distance=2, bidirectional=True).edges().tolist() == [1]
    assert T5Bias(max_distance=17, deviation=0.0).edges().max() == 17
