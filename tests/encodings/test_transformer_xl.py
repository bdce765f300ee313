"""The decomposition of Transformer-XL against a float64 oracle."""

from functools import partial

import jax
import numpy as np
import pytest

from posjax import Dims, InputError, TransformerXL
from tests import content_oracles as content
from tests.encodings.content import SIZES, assert_attention, assert_later_scores, assert_scores

KINDS = (TransformerXL(), TransformerXL(base=50.0))


def expected(encoding, params, q, k, q_at, k_at) -> np.ndarray:
    return content.transformer_xl(params, encoding.base, q, k, q_at, k_at)


@pytest.mark.holds(TransformerXL, to=content.transformer_xl)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
@pytest.mark.parametrize("offset", [0, 2**30])
def test_scores_match_the_oracle(encoding, sizes, offset):
    assert_scores(encoding, partial(expected, encoding), sizes, offset)


@pytest.mark.holds(TransformerXL, to=content.transformer_xl)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_later_queries_score_as_in_the_whole(encoding):
    assert_later_scores(encoding, partial(expected, encoding))


@pytest.mark.holds(TransformerXL, to=content.transformer_xl)
@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_attend_is_the_softmax_of_the_scores(encoding, backend):
    assert_attention(encoding, partial(expected, encoding), backend)


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: TransformerXL(base=1.0), "base=1.0", "above 1"),
        (lambda: TransformerXL().init(jax.random.key(0), Dims(2, 4, 7)), "model size of 7", "even"),
        (lambda: TransformerXL().init(jax.random.key(0), Dims(2, 4)), "model size of 0", "even"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
