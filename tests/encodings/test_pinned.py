"""One distance for all pairs: ReRoPE against an oracle."""

import numpy as np
import pytest

from posjax import InputError, Pinned, Rope, near_far
from tests import content_oracles as content
from tests.encodings.rows import AT, WINDOW, rows, scores


@pytest.mark.holds(near_far, Pinned, to=content.rerope)
@pytest.mark.parametrize("window", [1, 6, 100])
def test_rerope_matches_the_oracle(window):
    q, k = rows(3, 8)
    got = scores(near_far(window, Rope(500.0), Pinned(Rope(500.0), distance=window)), q, k)
    seen = np.tril(np.ones((len(AT),) * 2, bool))
    np.testing.assert_allclose(got[:, seen], content.rerope(window, 500.0, q, k, AT, AT)[:, seen], atol=1e-5)


def test_it_is_relative():
    q, k = rows(3, 8)
    pinned = near_far(WINDOW, Rope(), Pinned(Rope(), 6))
    assert pinned.relative
    np.testing.assert_allclose(scores(pinned, q, k), scores(pinned, q, k, AT + 1001), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Pinned(Rope(), distance=-1), "distance=-1", "0 or more"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
