"""Where tokens are, against loops over rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from posjax import InputError, positions

few = settings(deadline=None, derandomize=True, max_examples=25)
packed, left_padded = jax.jit(positions.packed), jax.jit(positions.left_padded)


def test_contiguous_counts_from_its_start_which_may_be_traced():
    assert positions.contiguous(4).tolist() == [0, 1, 2, 3] and positions.contiguous(4).dtype == jnp.int32
    assert jax.jit(lambda start: positions.contiguous(2, start))(2**31 - 2).tolist() == [2**31 - 2, 2**31 - 1]
    assert np.iinfo(np.int32).max == positions.LARGEST


@few
@given(st.lists(st.lists(st.integers(0, 2), min_size=9, max_size=9), min_size=2, max_size=2))
def test_packed_documents_count_anew(rows):
    expected = []
    for row in rows:
        count = []
        for i, segment in enumerate(row):
            count.append(count[-1] + 1 if i and row[i - 1] == segment else 0)
        expected.append(count)
    got = packed(jnp.array(rows))
    assert got.tolist() == expected and got.dtype == jnp.int32


def test_ids_that_int32_would_join_are_refused():
    with pytest.raises(InputError, match="packed got segments from 1 to 4294967297"):
        positions.packed(np.array([[1, 1, 1 + 2**32]]))


def test_one_row_without_a_batch_is_packed_too():
    assert positions.packed(jnp.array([7, 7, 3, 7])).tolist() == [0, 1, 0, 0]
    assert positions.packed(jnp.array([[7]])).tolist() == [[0]]


@pytest.mark.parametrize("padding", range(6))
def test_left_padding_is_at_0_and_so_is_the_first_token(padding):
    real = np.arange(6)[None] >= np.array([[padding], [0]])
    got = left_padded(jnp.asarray(real))
    assert got.dtype == jnp.int32
    assert got.tolist() == [[max(i - padding, 0) for i in range(6)], list(range(6))]


def test_a_row_of_padding_alone_is_at_0():
    assert positions.left_padded(jnp.zeros((1, 3), bool)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("given", [[0, 5], np.array([[1, 2]], np.int64), jnp.array([3], jnp.uint8)])
def test_integers_of_rank_one_or_two_become_int32(given):
    got = positions.check(jnp.asarray(given))
    assert got.dtype == jnp.int32 and got.tolist() == np.asarray(given).tolist()


@pytest.mark.parametrize(
    ("given", "value", "need"),
    [
        (jnp.zeros(3), "places are float32", "give int32, for example from posjax.positions.contiguous"),
        (jnp.zeros(3, bool), "places are bool", "positions are exact integers"),
        (jnp.int32(3), "places have shape ()", "needed is [T], the same for all rows, or [B, T]"),
        (jnp.zeros((1, 2, 3), int), "places have shape (1, 2, 3)", "[B, T]"),
    ],
)
def test_errors_name_the_value_and_the_need(given, value, need):
    with pytest.raises(InputError) as caught:
        positions.check(given, "places")
    assert value in str(caught.value) and need in str(caught.value)
