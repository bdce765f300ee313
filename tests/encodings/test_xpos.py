"""xPos against its oracle over all of its length: each pair, and the scores, far from the start too."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Causal, Dims, Full, InputError, Rope, XPos, attend
from tests import oracles
from tests.cases import first_of


def rotated(encoding, x, at, role) -> np.ndarray:
    params = encoding.join(None, encoding.constants(Dims(x.shape[2], x.shape[3])))
    return np.asarray(encoding.rotate(params, jnp.asarray(x), jnp.asarray(at, jnp.int32), role), np.float64)


def sizes_of_pairs(x: np.ndarray) -> np.ndarray:
    half = x.shape[-1] // 2
    return np.hypot(x[..., :half], x[..., half:])


def rows(heads: int, size: int, count: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(size).normal(size=(2, 1, count, heads, size)), np.float32)


@pytest.mark.holds(XPos, to=oracles.xpos)
@pytest.mark.parametrize("sizes", [(3, 8), (6, 16)])
@pytest.mark.parametrize("unit", [512, 7])
def test_each_pair_matches_the_oracle_up_to_max_length(sizes, unit):
    """The worst error relative to the pair's own size, which spans 65 orders of magnitude."""
    encoding = XPos(unit=unit)
    end = encoding.max_length
    assert end is not None and end == 60 * unit
    at = np.array([0, 1, 2, unit - 1, unit, end // 3, end // 2 + 1, end - 2, end - 1])
    x, _ = rows(*sizes, len(at))
    for role in ("query", "key"):
        expected = oracles.xpos(x, at[None], role, unit=unit)
        got = rotated(encoding, x, at, role)
        error = sizes_of_pairs(got - expected) / sizes_of_pairs(expected)
        assert error.max() < 1e-5, (role, error.max())


@pytest.mark.holds(XPos, to=oracles.xpos)
@pytest.mark.parametrize("start", [0, 15_000, 30_000])
def test_scores_are_relative_and_the_oracles_up_to_max_length(start):
    """Relative to the sum of the pairs' sizes: a score itself may cancel to nothing."""
    distance = np.array([0, 1, 7, 300, 700])
    at = start + distance
    q, k = rows(3, 8, len(at))
    q[:], k[:] = q[:, :1], k[:, :1]
    query, key = rotated(XPos(), q, at, "query")[0], rotated(XPos(), k, at, "key")[0]
    true_q, true_k = (oracles.xpos(x, distance[None], role)[0] for x, role in ((q, "query"), (k, "key")))
    got, expected = (np.einsum("tnh,snh->nts", *pair) for pair in ((query, key), (true_q, true_k)))
    size = np.einsum("tnp,snp->nts", sizes_of_pairs(true_q), sizes_of_pairs(true_k))
    seen = np.tril(np.ones((len(at),) * 2, bool))
    assert (np.abs(got - expected) / size)[:, seen].max() < 1e-5


def test_past_max_length_is_nan():
    x = np.ones((1, 4, 1, 8), np.float32)
    got = rotated(XPos(), x, [30_719, 30_720, 2**31 - 1, -1], "key")[0, :, 0]
    assert np.isfinite(got[0]).all() and np.isnan(got[1:]).all()
    assert np.isnan(rotated(XPos(), x, [0, 30_720, 2**31 - 1, -1], "query")[0, 1:]).all()


@pytest.mark.holds(XPos, to=oracles.xpos)
def test_float16_is_right_up_to_its_own_end_and_nan_past_it():
    """Each pair within twice the rounding of float16, 2^-11: the small scales of queries cost no more than that."""
    at = np.array([0, 1, 511, 512, 1500, 2047, 2048, 6000, 30_719])
    x, _ = rows(3, 16, len(at))
    for role in ("query", "key"):
        narrow = rotated(XPos(), x.astype(np.float16), at, role)
        expected = oracles.xpos(x.astype(np.float16), at[None], role)
        error = sizes_of_pairs(narrow - expected)[:, :6] / sizes_of_pairs(expected)[:, :6]
        assert error.max() < 2.0**-10, (role, error.max())
        assert np.isnan(narrow[:, 6:]).all(), role
    wide = rotated(XPos(), jnp.asarray(x, jnp.bfloat16), at, "key")
    assert np.isfinite(wide).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("layout", ["split", "interleaved"])
def test_a_key_that_its_type_cannot_hold_is_nan_and_never_infinite(dtype, layout):
    x = jnp.full((1, 1, 1, 4), 0.9 * float(jnp.finfo(dtype).max), dtype)
    got = rotated(XPos(layout=layout), x, [700], "key")
    assert np.isnan(got).any() and not np.isinf(got).any()


@pytest.mark.exhaustive
@first_of("backend", ["reference", "chunked"], keep=1)
def test_attend_in_float16_says_nan_past_its_end(backend):
    q, k = (jnp.asarray(x, jnp.float16) for x in rows(6, 8, 5))
    run = partial(attend, encoding=XPos(), backend=backend)
    near, past = jnp.array([0, 1, 900, 1800, 2047]), jnp.array([0, 1, 900, 1800, 6000])
    got = run(q, k, k, q_positions=near, k_positions=near)
    wide = run(*(x.astype(jnp.float32) for x in (q, k, k)), q_positions=near, k_positions=near)
    np.testing.assert_allclose(np.float32(got), wide, atol=5e-3)
    assert np.isnan(run(q, k, k, q_positions=past, k_positions=past)[:, -1]).all()


@pytest.mark.holds(XPos, to=oracles.xpos)
def test_the_layout_pairs_other_channels():
    at = np.array([0, 5, 900])
    x, _ = rows(3, 8, 3)
    for role in ("query", "key"):
        got = rotated(XPos(layout="interleaved"), x, at, role)
        np.testing.assert_allclose(got, oracles.xpos(x, at[None], role, layout="interleaved"), rtol=1e-5, atol=1e-6)


@pytest.mark.holds(XPos, to=oracles.xpos)
@first_of("backend", ["reference", "chunked"], keep=1)
def test_attend_matches_the_oracle(backend):
    q, k = rows(6, 8, 20)
    at = np.arange(20) * 50
    expected = oracles.attention(
        oracles.xpos(q, at[None], "query"),
        oracles.xpos(k, at[None], "key"),
        k,
        allowed=np.tril(np.ones((1, 20, 20), bool)),
    )
    got = attend(
        *map(jnp.asarray, (q, k, k)),
        q_positions=jnp.asarray(at),
        k_positions=jnp.asarray(at),
        encoding=XPos(),
        backend=backend,
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)
    plain = attend(
        *map(jnp.asarray, (q, k, k)),
        q_positions=jnp.asarray(at),
        k_positions=jnp.asarray(at),
        encoding=Rope(),
        backend=backend,
    )
    assert np.abs(np.asarray(got) - np.asarray(plain)).max() > 1e-2


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: XPos(base=1.0), "base=1.0", "above 1"),
        (lambda: XPos(unit=0), "unit=0", "a unit in tokens, 1 or more"),
        (lambda: XPos(layout="half"), "layout='half'", "'split' or 'interleaved'"),  # type: ignore[arg-type]
        (lambda: XPos().constants(Dims(2, 7)), "head size of 7", "even"),
        (lambda: attend(*[jnp.ones((1, 3, 1, 4))] * 3, encoding=XPos(), mask=Full()), "XPos(", "Causal()"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
    assert XPos().causal and Causal().causal
