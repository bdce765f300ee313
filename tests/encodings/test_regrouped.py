"""Positions in groups: Self-Extend against an oracle."""

import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, InputError, Regrouped, Rope, XPos, near_far
from tests import content_oracles as content
from tests.encodings.rows import AT, WINDOW, rows, scores


@pytest.mark.holds(near_far, Regrouped, to=content.self_extend)
@pytest.mark.parametrize("sizes", [(3, 8), (6, 16)])
@pytest.mark.parametrize(("group", "window"), [(2, 6), (4, 6), (3, 1), (1, 4)])
def test_self_extend_matches_the_oracle(sizes, group, window):
    q, k = rows(*sizes)
    encoding = near_far(window, Rope(), Regrouped(Rope(), group=group, shift=window - window // group))
    expected = content.self_extend(window, group, 10_000.0, q, k, AT, AT)
    seen = np.tril(np.ones((len(AT),) * 2, bool))
    np.testing.assert_allclose(scores(encoding, q, k)[:, seen], expected[:, seen], atol=1e-5)


def test_it_is_not_relative():
    q, k = rows(3, 8)
    regrouped = near_far(WINDOW, Rope(), Regrouped(Rope(), 4, 5))
    assert not regrouped.relative
    assert np.abs(scores(regrouped, q, k) - scores(regrouped, q, k, AT + 1001)).max() > 1e-2


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Regrouped(Rope(), group=0), "group=0", "1 or more"),
        (lambda: Regrouped(Rope(), group=2, shift=-1), "shift=-1", "0 or more"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_it_ends_where_its_groups_reach_the_end_of_what_is_inside():
    assert Regrouped(Rope(), group=4).max_length is None
    ends = Regrouped(XPos(unit=1), group=4, shift=2)
    most = ends.max_length
    assert most == 4 * (XPos(unit=1).max_length - 2)
    at = jnp.array([most - 1, most])
    turned = ends.rotate(ends.join({}, ends.constants(Dims(1, 8))), jnp.ones((1, 2, 1, 8)), at, "query")
    assert jnp.isfinite(turned[:, 0]).all() and jnp.isnan(turned[:, 1]).all()
