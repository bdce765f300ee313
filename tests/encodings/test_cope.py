"""Positions counted by content against a float64 oracle."""

from functools import partial

import numpy as np
import pytest

from posjax import CoPE, InputError
from tests import content_oracles as content
from tests.encodings.content import (
    SIZES,
    assert_attention,
    assert_causal_alone,
    assert_later_scores,
    assert_refused,
    assert_scores,
)

KINDS = (CoPE(length=6), CoPE(length=40))


def expected(encoding, params, q, k, q_at, k_at) -> np.ndarray:
    return content.cope(params["rows"], q, k)


@pytest.mark.holds(CoPE, to=content.cope)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
@pytest.mark.parametrize("offset", [0, 2**30])
def test_scores_match_the_oracle(encoding, sizes, offset):
    assert_scores(encoding, partial(expected, encoding), sizes, offset)


@pytest.mark.holds(CoPE, to=content.cope)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_later_queries_score_as_in_the_whole(encoding):
    assert_later_scores(encoding, partial(expected, encoding))


@pytest.mark.holds(CoPE, to=content.cope)
@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_attend_is_the_softmax_of_the_scores(encoding, backend):
    assert_attention(encoding, partial(expected, encoding), backend)


def test_it_needs_a_causal_mask():
    assert_causal_alone(CoPE())


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize(
    ("shape", "need"),
    [
        ((1, 5, 8), "1, 6, 8"),
        ((1, 40, 8), "1, 6, 8"),
    ],
)
def test_tables_of_other_sizes_are_refused(shape, need, backend):
    assert_refused(CoPE(length=6), "rows", shape, need, backend)


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: CoPE(length=1), "length=1", "2 or more"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_the_oracle_by_hand():
    """Gates of 1/2 count half a token each."""
    k = np.zeros((3, 1, 2))
    rows = np.array([[[0.0, 0], [1, 0], [2, 0]]])
    q = np.array([[[1.0, 0]]] * 3)
    np.testing.assert_allclose(content.cope(rows, q, k)[0, 2], [1.5, 1.0, 0.5])
