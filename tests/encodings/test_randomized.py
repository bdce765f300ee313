"""Randomised positions: distinct, sorted, in range, and everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import InputError, Randomized

AT = jnp.arange(12)
ROWS = jnp.broadcast_to(AT, (8, 12))
KEYS = [jax.random.key(seed) for seed in range(20)]


@pytest.mark.holds(Randomized, to=None)
@pytest.mark.parametrize("length", [12, 13, 100])
def test_randomised_positions_are_distinct_sorted_and_in_range(length):
    for key in KEYS:
        placed = np.asarray(Randomized(length).move({}, ROWS, key))
        assert placed.dtype == np.int32 and (np.diff(placed) > 0).all()
        assert placed.min() >= 0 and placed.max() < length


@pytest.mark.holds(Randomized, to=None)
def test_randomised_positions_reach_everywhere():
    drawn = np.concatenate([Randomized(30).move({}, ROWS, key) for key in KEYS]).ravel()
    counts = np.bincount(drawn, minlength=30)
    assert counts.min() > 0.5 * len(drawn) / 30 and counts.max() < 1.5 * len(drawn) / 30


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Randomized(0), "length=0", "1 or more"),
        (lambda: Randomized(11).move({}, ROWS, KEYS[0]), "11 positions and got 12 tokens", "raise its length"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
