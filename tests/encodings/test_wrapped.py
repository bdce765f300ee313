"""Positions that start anew: dual chunk attention against an oracle."""

import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Chunks,
    InputError,
    Rope,
    Wrapped,
    near_far,
)
from tests import content_oracles as content
from tests.encodings.rows import AT, rows, scores


@pytest.mark.holds(near_far, Wrapped, to=content.dual_chunk)
@pytest.mark.parametrize(("chunk", "trained"), [(4, 6), (4, 5), (7, 14), (16, 20), (64, 128)])
def test_dual_chunk_attention_is_a_composition(chunk, trained):
    q, k = rows(3, 8)
    beyond = near_far(
        Chunks(chunk, 2),
        Wrapped(Rope(), chunk, shift=chunk, most=trained - 1),
        Wrapped(Rope(), chunk, shift=trained - 1, most=trained - 1),
    )
    got = scores(near_far(Chunks(chunk), Rope(), beyond), q, k)
    seen = np.tril(np.ones((len(AT),) * 2, bool))
    expected = content.dual_chunk(chunk, trained, 10_000.0, q, k, AT, AT)
    np.testing.assert_allclose(got[:, seen], expected[:, seen], atol=1e-5)


def test_wrapped_positions_start_anew_and_queries_stand_ahead():
    at = jnp.arange(7)
    assert Wrapped(Rope(), 3, shift=2).moved(at, "query").tolist() == [2, 3, 4, 2, 3, 4, 2]
    assert Wrapped(Rope(), 3, shift=2).moved(at, "key").tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert Wrapped(Rope(), 3, shift=2, most=3).moved(at, "query").tolist() == [2, 3, 3, 2, 3, 3, 2]


@pytest.mark.parametrize("fields", [dict(size=0), dict(size=4, shift=-1), dict(size=4, most=2)])
def test_wrapped_refuses_what_cannot_be(fields):
    with pytest.raises(InputError, match="needed are a size"):
        Wrapped(Rope(), **fields)
