"""Two encodings by distance: any two against both scores and a choice."""

import jax
import numpy as np
import pytest

import posjax
from posjax import (
    Alibi,
    AxialRope,
    InputError,
    NoPE,
    Pinned,
    Rope,
    Shaw,
    attend,
    near_far,
)
from posjax.encodings import NearFar
from posjax.encodings.traits import scores_content
from tests import content_oracles as content
from tests.cases import first_of
from tests.encodings.rows import AT, WINDOW, rows, scores


@pytest.mark.exhaustive
@pytest.mark.holds(near_far, to=content.near_far)
def test_it_chooses_between_both_scores_by_distance_in_positions():
    q, k = rows(3, 8)
    for near, far in ((Rope(), NoPE()), (NoPE(), Rope(100.0)), (Rope(layout="interleaved"), Rope(50.0, fraction=0.5))):
        expected = content.near_far(scores(near, q, k), scores(far, q, k), WINDOW, AT, AT)
        np.testing.assert_allclose(scores(near_far(WINDOW, near, far), q, k), expected, atol=2e-6)


@pytest.mark.exhaustive
@first_of("backend", ["reference", "chunked"], keep=1)
def test_attend_within_the_window_is_the_near_one(backend):
    x = jax.random.normal(jax.random.key(0), (3, 2, 8, 6, 8))
    expected = attend(*x, encoding=Rope(), backend=backend)
    got = attend(*x, encoding=near_far(8, Rope(), Pinned(Rope(), 3)), backend=backend)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(attend(*x, encoding=near_far(3, Rope(), Pinned(Rope(), 3)), backend=backend) - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: near_far(0, Rope(), NoPE()), "window=0", "1 or more"),
        (lambda: near_far(4, Alibi(), Rope()), "Alibi(", "encodings that rotate"),
        (lambda: near_far(4, Rope(), Shaw()), "Shaw(", "encodings that rotate"),
        (lambda: near_far(4, Rope(), "far"), "'far'", "a value of Encoding"),  # type: ignore[arg-type]
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_it_is_a_value():
    encoding = near_far(8, Rope(), Pinned(Rope(), 8))
    assert encoding == NearFar(8, Rope(), Pinned(Rope(), 8)) and scores_content(encoding)
    assert AxialRope().coordinates == 2 and encoding.coordinates == 1


@pytest.mark.parametrize(
    "part",
    [
        posjax.Sinusoidal(),
        posjax.Learned(),
        posjax.Alibi(),
        posjax.AxialRope(),
        posjax.chain(posjax.PoSE(64), posjax.Rope()),
    ],
)
def test_parts_that_do_more_than_rotate_are_refused(part):
    with pytest.raises(posjax.InputError, match="do no more"):
        posjax.near_far(4, posjax.Rope(), part)


@pytest.mark.parametrize(
    "part", [posjax.Alibi(), posjax.T5Bias(), posjax.Learned(8), posjax.Forgetting(), posjax.AxialRope()], ids=repr
)
@pytest.mark.parametrize("moved", [posjax.Pinned, posjax.Regrouped, posjax.Wrapped])
def test_what_moves_a_rotation_moves_nothing_else(moved, part):
    with pytest.raises(posjax.InputError, match=f"{moved.__name__} got .*rotates by one position"):
        moved(part, 4)


def test_what_moves_a_rotation_keeps_its_dependence_on_the_length():
    turning = posjax.Rope(schedule=posjax.DynamicNTK(4.0, 2))
    same = posjax.Regrouped(turning, 1)
    assert same.length_dependent and not posjax.Regrouped(posjax.Rope(), 1).length_dependent
    x = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, 8))
    np.testing.assert_array_equal(posjax.attend(*x, encoding=same), posjax.attend(*x, encoding=turning))
    assert np.abs(posjax.attend(*x, encoding=same) - posjax.attend(*x, encoding=posjax.Rope())).max() > 1e-3


def test_what_the_parts_declare_holds_for_the_pair():
    pair = posjax.near_far(4, posjax.XPos(), posjax.Rope())
    assert pair.causal and pair.max_length == posjax.XPos().max_length
