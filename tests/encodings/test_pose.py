"""Positional skip-wise training: order, skips between chunks alone, and cuts at every place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import InputError, PoSE

AT = jnp.arange(12)
ROWS = jnp.broadcast_to(AT, (8, 12))
KEYS = [jax.random.key(seed) for seed in range(20)]


@pytest.mark.holds(PoSE, to=None)
@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_pose_keeps_order_begins_at_zero_and_skips_between_chunks_alone(chunks):
    most = 0
    for key in KEYS:
        placed = np.asarray(PoSE(100, chunks).move({}, ROWS, key))
        steps = np.diff(placed)
        assert (placed[:, 0] == 0).all() and (steps >= 1).all() and placed.max() < 100
        assert ((steps != 1).sum(1) <= chunks - 1).all()
        most = max(most, placed.max())
    assert most > 80 or chunks == 1
    np.testing.assert_array_equal(PoSE(12).move({}, ROWS, KEYS[0]), ROWS)


@pytest.mark.holds(PoSE, to=None)
def test_pose_cuts_at_every_place():
    cuts = {int(np.argmax(np.diff(row) > 1)) for key in KEYS for row in np.asarray(PoSE(1000).move({}, ROWS, key))}
    assert cuts == set(range(11))


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: PoSE(0), "window=0", "1 or more"),
        (lambda: PoSE(8, chunks=0), "chunks=0", "1 or more"),
        (lambda: PoSE(11).move({}, ROWS, KEYS[0]), "window of 11 and got 12 tokens", "raise its window"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
