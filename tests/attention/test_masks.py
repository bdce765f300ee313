"""Masks are rules: what they allow, as dense tables, and that a backend may trust what they let it skip."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Causal, Full, InputError, Mask, Segments, Window

SIZE = 7
INDEX = np.arange(SIZE)
SEGMENTS = np.array([[0, 0, 1, 1, 2, 2, 2], [3, 3, 3, 1, 1, 0, 0]])
D = INDEX[:, None] - INDEX[None, :]

RULES = [
    (Full(), np.ones((1, SIZE, SIZE), bool)),
    (Causal(), (D >= 0)[None]),
    *((Window(n), (np.abs(D) < n)[None]) for n in (1, 2, 3, SIZE)),
    *((Causal() & Window(n), ((D >= 0) & (n > D))[None]) for n in (1, 2, 4)),
    (Segments(jnp.asarray(SEGMENTS)), (SEGMENTS[:, :, None] == SEGMENTS[:, None]) & (SEGMENTS[:, None] != 0)),
]


def dense(mask: Mask, q: np.ndarray = INDEX, k: np.ndarray = INDEX) -> np.ndarray:
    allowed = mask.allowed(jnp.asarray(q), jnp.asarray(k))
    return np.ones((1, len(q), len(k)), bool) if allowed is None else np.asarray(allowed)


@pytest.mark.parametrize(("mask", "expected"), RULES, ids=lambda x: repr(x) if isinstance(x, Mask) else "")
def test_a_rule_is_its_table_and_that_of_every_tile(mask, expected):
    np.testing.assert_array_equal(dense(mask), expected)
    rows, columns = slice(2, 6), slice(1, 4)
    np.testing.assert_array_equal(dense(mask, INDEX[rows], INDEX[columns]), expected[:, rows, columns])


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(RULES)), 2)))
def test_and_intersects(first, second):
    (a, expected_a), (b, expected_b) = RULES[first], RULES[second]
    for both in (a & b, b & a):
        np.testing.assert_array_equal(dense(both), np.broadcast_to(expected_a & expected_b, dense(both).shape))
        assert both.causal == (a.causal or b.causal)


def blocks() -> list[tuple[int, int]]:
    return [(first, last) for first in range(SIZE) for last in range(first, SIZE)]


@pytest.mark.parametrize(("mask", "expected"), RULES, ids=lambda x: repr(x) if isinstance(x, Mask) else "")
def test_a_block_with_an_allowed_pair_is_never_skipped_and_others_are(mask, expected):
    exact = isinstance(mask, Full | Causal | Window)
    for (a, b), (c, d) in itertools.product(blocks(), blocks()):
        holds = bool(expected[:, a : b + 1, c : d + 1].any())
        skipped = not mask.may_see(a, b, c, d)
        assert not (holds and skipped), (a, b, c, d)
        assert holds or skipped or not exact, (a, b, c, d)


def test_a_window_of_unknown_size_skips_nothing():
    assert Window(jnp.int32(1)).may_see(0, 1, 90, 99) and not Window(1).may_see(0, 1, 90, 99)


def test_segments_may_differ_between_queries_and_keys():
    mask = Segments(jnp.array([[1, 2]]), jnp.array([[1, 0, 2, 2]]))
    np.testing.assert_array_equal(dense(mask, np.arange(2), np.arange(4)), [[[1, 0, 0, 0], [0, 0, 1, 1]]])


def test_both_without_a_rule_is_none():
    assert (Full() & Full()).allowed(jnp.arange(2), jnp.arange(2)) is None


def test_numbers_and_arrays_in_a_mask_are_data():
    assert jax.tree.leaves(Causal() & Window(3)) == [3]
    traces = []

    @jax.jit
    def count(mask):
        traces.append(mask)
        return mask.allowed(jnp.arange(4), jnp.arange(4)).sum()

    assert [int(count(Causal() & Window(n))) for n in (1, 2, 4)] == [4, 7, 10] and len(traces) == 1


@pytest.mark.parametrize("size", [0, -2])
def test_a_window_without_the_query_is_refused(size):
    with pytest.raises(InputError, match=f"Window got size={size}: needed is a whole number of tokens, 1 or more"):
        Window(size)


def test_and_takes_masks_alone():
    for other in (3, None, Causal):
        with pytest.raises(InputError, match="needed is a mask such as"):
            Causal() & other
        with pytest.raises(InputError, match="needed is a mask such as"):
            other & Causal()


def test_a_mask_that_defines_no_rule_says_so():
    with pytest.raises(NotImplementedError, match="Mask defines no rule"):
        Mask().allowed(jnp.arange(1), jnp.arange(1))
    assert Mask().may_see(0, 1, 5, 6) and not Mask().causal
