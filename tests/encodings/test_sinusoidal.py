"""The sinusoidal encoding against float64, and exactly at far positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from posjax import Dims, InputError, Sinusoidal
from posjax.encodings.schedules import inverse_frequencies
from tests import oracles

few = settings(deadline=None, derandomize=True, max_examples=8)
embed = jax.jit(Sinusoidal.embed, static_argnums=0)
layouts = pytest.mark.parametrize("layout", ["interleaved", "split"])


@pytest.mark.holds(Sinusoidal, to=oracles.sinusoidal)
@layouts
@few
@given(
    st.sampled_from([2, 6, 20]),
    st.sampled_from([50.0, 10_000.0]),
    st.integers(1, 3),
    st.lists(st.integers(0, 5000), min_size=4, max_size=4),
)
def test_near_positions_match_the_paper(layout, size, base, rows, at):
    x = np.random.default_rng(size).normal(size=(rows, 4, size)).astype(np.float32)
    got = embed(Sinusoidal(base, layout), {}, jnp.asarray(x), jnp.array(at, jnp.int32))
    np.testing.assert_allclose(got, x + oracles.sinusoidal(at, size, base, layout), atol=1e-6)


@pytest.mark.holds(Sinusoidal, to=oracles.exact_cos_sin)
@layouts
@few
@given(st.lists(st.integers(0, 2**31 - 1), min_size=6, max_size=6))
def test_far_positions_are_exact(layout, at):
    got = embed(Sinusoidal(layout=layout), {}, jnp.zeros((1, 6, 8)), jnp.array(at, jnp.int32))[0]
    cos, sin = oracles.exact_cos_sin(at, inverse_frequencies(8, 10_000.0))
    expected = np.concatenate([sin, cos], -1) if layout == "split" else np.stack([sin, cos], -1).reshape(6, 8)
    assert np.abs(np.asarray(got) - expected).max() < 5e-7


@pytest.mark.holds(Sinusoidal, to=oracles.sinusoidal)
@layouts
def test_a_line_of_positions_for_each_row(layout):
    at = np.array([[0, 1, 2], [9, 8, 7]])
    got = embed(Sinusoidal(layout=layout), {}, jnp.zeros((2, 3, 6)), jnp.asarray(at, jnp.int32))
    np.testing.assert_allclose(got, oracles.sinusoidal(at, 6, layout=layout), atol=1e-6)


def test_a_position_past_any_table_is_right_and_a_negative_one_is_nan():
    got = np.asarray(Sinusoidal().embed({}, jnp.zeros((1, 2, 4)), jnp.array([-3, 10**9])))
    assert np.isnan(got[0, 0]).all() and np.isfinite(got[0, 1]).all()


@pytest.mark.parametrize(
    ("make", "value", "need", "remedy"),
    [
        (lambda: Sinusoidal(base=0.5), "base=0.5", "above 1", "usually 10,000"),
        (lambda: Sinusoidal(base=1.0), "base=1.0", "above 1", "usually 10,000"),
        (lambda: Sinusoidal(layout="alternating"), "layout='alternating'", "needed is 'interleaved'", "'split'"),
        (lambda: Sinusoidal().constants(Dims(model_size=5)), "model size of 5", "an even one", "half of it sines"),
    ],
)
def test_errors_name_the_value_the_need_and_the_remedy(make, value, need, remedy):
    with pytest.raises(InputError) as caught:
        make()
    assert all(part in str(caught.value) for part in (value, need, remedy)), str(caught.value)
