"""Relative vectors on the key side against a float64 oracle, and beside a bias."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, InputError, Shaw, T5Bias, attend, chain
from tests import content_oracles as content, oracles
from tests.cases import first_of
from tests.encodings.content import SIZES, assert_attention, assert_later_scores, assert_refused, assert_scores

KINDS = (Shaw(clip=4),)


def expected(encoding, params, q, k, q_at, k_at) -> np.ndarray:
    return content.shaw(params["keys"], encoding.clip, q, k, q_at, k_at)


@pytest.mark.holds(Shaw, to=content.shaw)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
@pytest.mark.parametrize("offset", [0, 2**30])
def test_scores_match_the_oracle(encoding, sizes, offset):
    assert_scores(encoding, partial(expected, encoding), sizes, offset)


@pytest.mark.holds(Shaw, to=content.shaw)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_later_queries_score_as_in_the_whole(encoding):
    assert_later_scores(encoding, partial(expected, encoding))


@pytest.mark.holds(Shaw, to=content.shaw)
@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_attend_is_the_softmax_of_the_scores(encoding, backend):
    assert_attention(encoding, partial(expected, encoding), backend)


@pytest.mark.exhaustive
@pytest.mark.holds(Shaw, to=content.shaw)
@pytest.mark.parametrize("backend", ["reference", "chunked"])
@first_of("at", [None, jnp.array([0, 3, 4, 9, 9, 12, 20])], ids=["contiguous", "explicit"], keep=1)
def test_a_bias_adds_to_the_scores(at, backend):
    both, dims = chain(Shaw(clip=4), T5Bias(8, 20)), Dims(3, 8)
    params = both.join(both.init(jax.random.key(0), dims), both.constants(dims))
    q, k, v = jax.random.normal(jax.random.key(1), (3, 1, 7, 3, 8))
    places = np.arange(7) if at is None else np.asarray(at)
    logits = expected(Shaw(clip=4), params["0"], q[0], k[0], places, places)
    logits = logits + oracles.t5_bias(params["1"]["table"], places, places, False, 20)
    weights = np.exp(logits - logits.max(-1, keepdims=True)) * np.tril(np.ones((7, 7)))
    wanted = np.einsum("nts,snh->tnh", weights / weights.sum(-1, keepdims=True), np.float64(v[0]))
    got = attend(q, k, v, q_positions=at, k_positions=at, encoding=both, params=params, backend=backend)
    np.testing.assert_allclose(got[0], wanted, atol=2e-6)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize(
    ("shape", "need"),
    [
        ((1, 7, 8), "1, 9, 8"),
        ((1, 11, 8), "1, 9, 8"),
        ((3, 9, 8), "1, 9, 8"),  # Only the first head's vectors would be read.
    ],
)
def test_tables_of_other_sizes_are_refused(shape, need, backend):
    assert_refused(Shaw(clip=4), "keys", shape, need, backend)


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Shaw(clip=0), "clip=0", "1 or more"),
        (lambda: Shaw(deviation=-0.1), "deviation=-0.1", "0 or more"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_the_oracle_of_distances_by_hand():
    assert oracles.distances([3], [1])[0, 0] == 2
