"""ALiBi's slopes and biases against golden vectors and the paper, in all three directions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from posjax import Alibi, Causal, Dims, Full, Head, InputError, attend
from posjax.encodings.alibi import slopes
from posjax.encodings.examples import examples
from tests import golden, oracles

few = settings(deadline=None, derandomize=True, max_examples=6)
HEADS = pytest.mark.parametrize("heads", [12, 20, 71])


def bias(encoding: Alibi, heads: int, q_at: np.ndarray, k_at: np.ndarray) -> np.ndarray:
    """All heads' biases `[N, T, S]`."""
    q, k = jnp.asarray(q_at, jnp.int32), jnp.asarray(k_at, jnp.int32)
    params = encoding.constants(Dims(heads=heads))
    return np.asarray(_all_heads(encoding, heads, params, q, k))


@partial(jax.jit, static_argnums=(0, 1))
def _all_heads(encoding, heads, params, q, k):
    return jax.vmap(lambda n: encoding.bias(params, q, k, Head(n, heads)))(jnp.arange(heads))


@pytest.mark.holds(Alibi, to="alibi_slopes.json")
@pytest.mark.parametrize("entry", golden.cases("alibi_slopes.json", "slopes"))
def test_slopes_match_golden(entry):
    heads, expected = int(entry[0]), np.array(entry[1])
    if heads in (1, 2, 4, 8):
        np.testing.assert_array_equal(slopes(heads), expected)
    # The reference raises a float32 base to the power h, so its rounding grows with h: 4 units at 32 heads.
    np.testing.assert_allclose(slopes(heads), expected, rtol=5 * 2.0**-23, atol=0)
    np.testing.assert_allclose(Alibi().constants(Dims(heads=heads))["slopes"], expected, rtol=5 * 2.0**-23, atol=0)


@pytest.mark.holds(Alibi, to=oracles.alibi_slopes)
@pytest.mark.parametrize("heads", [*range(1, 34), 48, 64, 71, 96, 127, 128])
def test_slopes_match_the_paper(heads):
    np.testing.assert_allclose(slopes(heads), oracles.alibi_slopes(heads), rtol=1e-15)


at = st.lists(st.integers(0, 2**31 - 1), min_size=3, max_size=3)


@pytest.mark.holds(Alibi, to=oracles.alibi_bias)
@HEADS
@few
@given(at, at)
def test_causal_and_symmetric_biases_match_the_paper(heads, q_at, k_at):
    for direction in ("causal", "symmetric"):
        expected = oracles.alibi_bias(heads, q_at, k_at, direction)
        np.testing.assert_allclose(bias(Alibi(direction), heads, q_at, k_at), expected, rtol=2.0**-22)


@pytest.mark.holds(Alibi, to=oracles.alibi_slopes)
@HEADS
@few
@given(at, at)
def test_asymmetric_gives_each_direction_its_own_slopes(heads, q_at, k_at):
    d = oracles.distances(q_at, k_at)
    # Every second of twice as many slopes, the steepest first, looks back; the others ahead.
    falling = np.sort(oracles.alibi_slopes(2 * heads))[::-1, None, None]
    expected = -np.where(d > 0, falling[0::2], falling[1::2]) * np.abs(d)
    np.testing.assert_allclose(bias(Alibi("asymmetric"), heads, q_at, k_at), expected, rtol=2.0**-22)


@pytest.mark.holds(Alibi, to=oracles.alibi_slopes)
@HEADS
@few
@given(at, at)
def test_halves_look_one_way_each(heads, q_at, k_at):
    d = oracles.distances(q_at, k_at)
    # The head of each pair that looks back, then the one that looks ahead, with the slopes of half as many heads.
    slope = np.repeat(oracles.alibi_slopes((heads + 1) // 2), 2)[:heads]
    back = np.arange(heads)[:, None, None] % 2 == 0
    seen = np.where(back, d >= 0, d <= 0)
    got = bias(Alibi("halves"), heads, q_at, k_at)
    expected = -slope[:, None, None] * np.abs(d)
    np.testing.assert_allclose(got[seen], expected[seen], rtol=2.0**-22)
    assert (got[~seen] <= -1e9).all() and np.isfinite(got).all()


@HEADS
def test_interpolation_divides_the_penalty(heads):
    q_at, k_at = np.array([0, 9, 1000]), np.array([3, 8, 20])
    for direction in ("causal", "symmetric", "asymmetric"):
        narrow, wide = (bias(Alibi(direction, factor=f), heads, q_at, k_at) for f in (1.0, 8.0))
        np.testing.assert_allclose(8 * wide, narrow, rtol=1e-6)


@pytest.mark.parametrize("direction", ["causal", "symmetric", "asymmetric", "halves"])
def test_learned_slopes_start_as_published_and_stay_positive(direction):
    encoding, q_at, k_at = Alibi(direction, learned=True), np.array([0, 9, 1000]), np.array([3, 8, 20])
    params = encoding.init(jax.random.key(0), Dims(heads=12))
    learned = [encoding.bias(params, jnp.asarray(q_at), jnp.asarray(k_at), Head(n, 12)) for n in range(12)]
    np.testing.assert_allclose(learned, bias(Alibi(direction), 12, q_at, k_at), rtol=1e-5)
    shape = (12, 2) if direction == "asymmetric" else (12,)
    assert params["log_slopes"].shape == shape and "slopes" not in encoding.constants(Dims(heads=12))


@pytest.mark.holds(Alibi, to=oracles.alibi_bias)
def test_near_biases_are_exact_where_slopes_are():
    expected = oracles.alibi_bias(8, np.arange(9), np.arange(9), "symmetric")
    np.testing.assert_array_equal(bias(Alibi("symmetric"), 8, np.arange(9), np.arange(9)), expected)


@pytest.mark.exhaustive
def test_halves_get_no_weight_from_the_blind_side():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 7, 5, 4))
    one_way = attend(q, k, v, encoding=Alibi("halves"), mask=Full(), backend="reference")
    params = {"slopes": Alibi("halves").constants(Dims(heads=5))["slopes"]}
    for heads, flip in ((slice(0, None, 2), False), (slice(1, None, 2), True)):
        qkv = [x[:, ::-1] if flip else x for x in (q, k, v)]
        causal = attend(*qkv, encoding=Alibi(), params=params, mask=Causal(), backend="reference")
        expected = causal[:, ::-1] if flip else causal
        np.testing.assert_allclose(one_way[:, :, heads], expected[:, :, heads], atol=1e-6)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("direction", ["causal", "symmetric", "halves"])
def test_slopes_of_ones_own_take_the_place_of_the_published(direction, learned):
    own = (0.7, 0.01, 3.0)
    encoding = Alibi(direction, learned, factor=2.0, given_slopes=own)
    q_at, k_at = np.array([0, 9, 1000]), np.array([3, 8, 20])
    d = oracles.distances(q_at, k_at)
    params = encoding.join(encoding.init(jax.random.key(0), Dims(heads=3)), encoding.constants(Dims(heads=3)))
    made = _all_heads(encoding, 3, params, jnp.asarray(q_at), jnp.asarray(k_at))
    expected = -np.array(own)[:, None, None] * np.abs(d) / 2
    back = np.arange(3)[:, None, None] % 2 == 0
    seen = {"causal": d >= 0, "symmetric": d == d, "halves": np.where(back, d >= 0, d <= 0)}[direction]
    seen = np.broadcast_to(seen, expected.shape)
    np.testing.assert_allclose(made[seen], expected[seen], rtol=1e-6)


def test_one_slope_serves_all_heads():
    one, all_heads = Alibi(given_slopes=(0.5,)), Alibi(given_slopes=(0.5,) * 4)
    for a, b in zip(one.constants(Dims(heads=4)).values(), all_heads.constants(Dims(heads=4)).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.slopes({}, 4).tolist() == [0.5] * 4
    published = Alibi(given_slopes=tuple(slopes(12).tolist()))
    np.testing.assert_array_equal(published.slopes({}, 12), Alibi().slopes({}, 12))


def test_given_slopes_are_as_many_as_the_heads():
    for direction, own, need in (
        ("causal", (), "4"),
        ("causal", (0.5, 0.25), "4"),
        ("asymmetric", (0.5,) * 4, "8"),
        ("asymmetric", (0.5,), "8"),
    ):
        with pytest.raises(InputError, match=f"{len(own)} given_slopes for 4 heads.*needed are {need}"):
            Alibi(direction, given_slopes=own).constants(Dims(heads=4))


def test_both_directions_are_given_in_turn():
    at = np.arange(3)
    got = bias(Alibi("asymmetric", given_slopes=(1.0, 2.0, 3.0, 4.0)), 2, at, at)
    assert got[:, 2, 0].tolist() == [-2.0, -6.0] and got[:, 0, 2].tolist() == [-4.0, -8.0]


def test_what_each_direction_declares():
    assert [Alibi(d).causal for d in ("causal", "symmetric", "asymmetric", "halves")] == [True, False, False, False]
    assert all(e.relative and e.bias_kind == "relative" and e.max_length is None for e in examples(Alibi))


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Alibi("both"), "direction='both'", "needed is 'causal', 'symmetric', 'asymmetric' or 'halves'"),
        (lambda: Alibi(factor=0.5), "factor=0.5", "1 or more, the extended length divided by the trained one"),
        (lambda: Alibi(factor=float("nan")), "factor=nan", "a finite number"),
        (lambda: Alibi(given_slopes=(0.5, 0.0)), "given_slopes=(0.5, 0.0)", "positive numbers"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
