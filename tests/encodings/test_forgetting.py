"""A bias that fades by content against a float64 oracle."""

from functools import partial

import jax
import numpy as np
import pytest

from posjax import Dims, Forgetting, InputError
from tests import content_oracles as content
from tests.encodings.content import SIZES, assert_attention, assert_causal_alone, assert_later_scores, assert_scores

KINDS = (Forgetting(),)


def expected(encoding, params, q, k, q_at, k_at) -> np.ndarray:
    return content.forgetting(params["w"], params["b"], q, k)


@pytest.mark.holds(Forgetting, to=content.forgetting)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
@pytest.mark.parametrize("offset", [0, 2**30])
def test_scores_match_the_oracle(encoding, sizes, offset):
    assert_scores(encoding, partial(expected, encoding), sizes, offset)


@pytest.mark.holds(Forgetting, to=content.forgetting)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_later_queries_score_as_in_the_whole(encoding):
    assert_later_scores(encoding, partial(expected, encoding))


@pytest.mark.holds(Forgetting, to=content.forgetting)
@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_attend_is_the_softmax_of_the_scores(encoding, backend):
    assert_attention(encoding, partial(expected, encoding), backend)


def test_the_initial_gate_keeps_its_share():
    dims = Dims(2, 4)
    params = Forgetting(keep=0.9).init(jax.random.key(0), dims)
    np.testing.assert_allclose(jax.nn.sigmoid(params["b"]), 0.9, rtol=1e-6)


def test_it_needs_a_causal_mask():
    assert_causal_alone(Forgetting())


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Forgetting(keep=0.0), "keep=0.0", "(0, 1)"),
        (lambda: Forgetting(keep=1.0), "keep=1.0", "(0, 1)"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_the_oracle_by_hand():
    """A fading of 1/2 per token is -ln 2 per step."""
    q = k = np.zeros((3, 1, 2))
    np.testing.assert_allclose(
        content.forgetting(np.zeros((1, 2)), np.zeros(1), q, k)[0, 2], [-2 * np.log(2), -np.log(2), 0]
    )
