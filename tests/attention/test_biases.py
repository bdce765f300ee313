"""A bias described by distance or by position gives every tile of the same dense bias, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Alibi, Dims, Encoding, NoPE, Rope, T5Bias, chain
from posjax.attention import ByDistance, ByPosition, describe
from posjax.attention.biases import Slope, kind_of
from posjax.attention.diagonals import STRIP, by_skewing, collapse, expand

N, T, S = 3, 6, 8
ENCODING = chain(Alibi("symmetric"), T5Bias(8, 20, bidirectional=True))
PARAMS = ENCODING.join(ENCODING.init(jax.random.key(0), Dims(heads=N)), ENCODING.constants(Dims(heads=N)))


class Product(Encoding):
    """A bias of both positions, not of their distance."""

    def bias(self, params, q_positions, k_positions, head):
        product = q_positions[:, None] * k_positions[None, :] + head.index
        return params["weight"] * product.astype(jnp.float32)


def dense(encoding, params, q_at, k_at) -> np.ndarray:
    one = ByPosition(params, jnp.atleast_2d(q_at), jnp.atleast_2d(k_at), encoding, N)
    return np.asarray(one.tile(0, 0, one.q_positions.shape[1], one.k_positions.shape[1]))


def test_expand_lays_diagonals_out():
    segment = np.random.default_rng(0).normal(size=(2, 4 + 5 - 1)).astype(np.float32)
    expected = np.array([[[line[a - c + 4] for c in range(5)] for a in range(4)] for line in segment])
    np.testing.assert_array_equal(expand(jnp.asarray(segment), 4, 5), expected)


def test_the_kind_of_description_follows_the_encoding():
    at = jnp.arange(S)
    alibi = describe(Alibi(), {}, N, None, None, (T, S), 0)
    assert type(alibi) is Slope and alibi.slopes.shape == (N,)
    each = (describe(Rope(), {}, N, None, None, (T, S), 0), alibi, describe(Alibi(), {}, N, at[:T], at, (T, S), 0))
    assert [kind_of(bias) for bias in each] == ["none", "slope", "position"]
    assert describe(Rope(), {}, N, None, None, (T, S), 0) is None
    assert describe(NoPE(), {}, N, at, at, (S, S), 0) is None
    assert isinstance(describe(ENCODING, PARAMS, N, None, None, (T, S), 2), ByDistance)
    assert isinstance(describe(ENCODING, PARAMS, N, at[:T], at, (T, S), 2), ByPosition)
    assert isinstance(describe(Product(), {"weight": 1.0}, N, None, None, (T, S), 2), ByPosition)


@pytest.mark.parametrize("q_offset", [0, 2, 5])
@pytest.mark.parametrize("traced", [False, True])
def test_by_distance_is_the_dense_bias_in_every_tile(q_offset, traced):
    make = lambda q_offset: describe(ENCODING, PARAMS, N, None, None, (T, S), q_offset)  # noqa: E731
    bias = jax.jit(make)(q_offset) if traced else make(q_offset)
    whole = dense(ENCODING, PARAMS, q_offset + jnp.arange(T), jnp.arange(S))
    assert bias.vector.shape == (N, T + S - 1) and bias.vector.dtype == jnp.float32
    for i, j, rows, columns in ((0, 0, T, S), (2, 3, 3, 4), (5, 0, 1, 8), (0, 7, 6, 1)):
        expected = whole[:, :, i : i + rows, j : j + columns]
        np.testing.assert_allclose(bias.tile(i, j, rows, columns), expected, rtol=1e-6)
        np.testing.assert_array_equal(bias.tile_and_pull(i, j, rows, columns)[0], bias.tile(i, j, rows, columns))


@pytest.mark.parametrize("given", ["both", "queries", "keys", "none"])
def test_by_position_fills_in_what_is_not_given(given):
    q_at = jnp.array([3, 1, 4, 1, 5, 9]) if given in ("both", "queries") else None
    k_at = jnp.array([2, 7, 1, 8, 2, 8, 1, 8]) if given in ("both", "keys") else None
    params = {"weight": 0.5}
    bias = describe(Product(), params, N, q_at, k_at, (T, S), 2)
    q_used, k_used = 2 + np.arange(T) if q_at is None else q_at, np.arange(S) if k_at is None else k_at
    expected = 0.5 * (np.outer(q_used, k_used) + np.arange(N)[:, None, None])
    np.testing.assert_array_equal(bias.tile(0, 0, T, S)[0], expected)
    np.testing.assert_array_equal(bias.tile(1, 2, 3, 4)[0], expected[:, 1:4, 2:6])


def test_a_line_of_positions_for_each_row_meets_one_for_all():
    q_at = jnp.array([[0, 1, 2], [5, 6, 7]])
    tile = describe(Product(), {"weight": 1.0}, N, q_at, jnp.arange(4), (3, 4), 1).tile(0, 0, 3, 4)
    for b in range(2):
        np.testing.assert_array_equal(tile[b, 0], np.outer(q_at[b], np.arange(4)))


@pytest.mark.parametrize("kind", ["distance", "position"])
def test_padding_leaves_the_real_tiles_as_they_are(kind):
    at = (None, None) if kind == "distance" else (jnp.arange(2, 2 + T), jnp.arange(S))
    bias = describe(ENCODING, PARAMS, N, *at, (T, S), 2)
    padded = bias.padded(T + 3, S + 4)
    np.testing.assert_array_equal(padded.tile(0, 0, T, S), bias.tile(0, 0, T, S))
    assert np.isfinite(padded.tile(0, 0, T + 3, S + 4)).all()
    np.testing.assert_array_equal(padded.tile(4, 6, 2, 2), bias.tile(4, 6, 2, 2))


@pytest.mark.parametrize("traced", [False, True])
def test_some_heads_are_those_of_the_whole(traced):
    bias = describe(ENCODING, PARAMS, N, jnp.arange(2, 2 + T), jnp.arange(S), (T, S), 2)
    tile_of = lambda first: bias.of_heads(first, 2).tile(0, 0, T, S)  # noqa: E731
    some = jax.jit(tile_of)(1) if traced else tile_of(1)
    np.testing.assert_array_equal(some, bias.tile(0, 0, T, S)[:, 1:])


def test_a_slope_is_the_same_bias_without_its_slopes():
    slope = describe(Alibi("symmetric"), {}, N, None, None, (T, S), 2)
    for other in (slope.by_vector(), slope.padded(T, S), slope.part(0, 1, 0, N)):
        assert type(other) is ByDistance
        np.testing.assert_array_equal(other.tile(1, 2, 3, 4), slope.tile(1, 2, 3, 4))


class OfLogarithms(Encoding):
    """A bias that is finite at real positions alone."""

    def bias(self, params, q_positions, k_positions, head):
        q_at, k_at = (jnp.log1p(p.astype(jnp.float32)) for p in (q_positions, k_positions))
        return params["weight"] * (q_at[:, None] - k_at[None, :])


def test_padding_asks_for_no_position_that_no_token_has():
    padded = describe(OfLogarithms(), {"weight": 1.0}, N, None, None, (T, S), 2).padded(T + 3, S + 4)
    assert np.isfinite(padded.tile(0, 0, T + 3, S + 4)).all()


@pytest.mark.parametrize(
    "rows, columns",
    [(1, 1), (5, 3), (1, 40), (STRIP, STRIP), (3 * STRIP, STRIP + 3), (3 * STRIP + 1, 2 * STRIP), (4 * STRIP - 1, 5)],
)
def test_collapse_sums_each_diagonal(rows, columns):
    block = np.random.default_rng(0).integers(-9, 9, (2, rows, columns)).astype(np.float32)
    sums = [[head.trace(-d) for d in range(1 - columns, rows)] for head in block]
    np.testing.assert_array_equal(collapse(jnp.asarray(block)), np.array(sums))
    np.testing.assert_array_equal(by_skewing(jnp.asarray(block)), np.array(sums))  # As on other devices.


@pytest.mark.parametrize("kind", ["distance", "position"])
def test_gradients_of_tiles_add_up_to_that_of_the_whole(kind):
    at = (None, None) if kind == "distance" else (jnp.arange(2, 2 + T), jnp.arange(S))
    cotangent = jax.random.normal(jax.random.key(1), (1, N, T, S))

    def whole(params):
        return jnp.vdot(describe(ENCODING, params, N, *at, (T, S), 2).tile(0, 0, T, S), cotangent)

    def by_tiles(params):
        bias, pull = jax.vjp(lambda p: describe(ENCODING, p, N, *at, (T, S), 2), params)
        total = bias.gradient()
        for i in (0, 3):
            for j in (0, 4):
                total = bias.tile_and_pull(i, j, 3, 4)[1](total, cotangent[..., i : i + 3, j : j + 4])
        return bias, total, pull

    def with_table(table):
        return {"0": PARAMS["0"], "1": {**PARAMS["1"], "table": table}}

    table = jax.grad(lambda t: whole(with_table(t)))(PARAMS["1"]["table"])
    bias, total, _ = by_tiles(PARAMS)
    if kind == "position":  # Alibi's numbers are floats too, and come first.
        np.testing.assert_allclose(total[-1], table, atol=1e-5)
        assert bias.cotangent(total).params["1"]["edges"] is None
    else:
        pull = jax.vjp(lambda t: describe(ENCODING, with_table(t), N, None, None, (T, S), 2), PARAMS["1"]["table"])[1]
        np.testing.assert_allclose(pull(bias.cotangent(total))[0], table, atol=1e-5)
