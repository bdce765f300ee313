"""What encodings that are made of others by side share."""

import pytest

import posjax
from posjax import NoPE
from posjax.encodings.traits import advice


@pytest.mark.parametrize("make", [posjax.by_head, posjax.by_layer])
def test_parts_that_it_cannot_honour_are_refused_and_the_rest_is_forwarded(make):
    moving = posjax.chain(posjax.Randomized(100), posjax.Rope())
    for part in (moving, posjax.Shaw(), posjax.by_layer(posjax.Rope(), NoPE())):
        with pytest.raises(posjax.InputError, match="chain such a one beside it"):
            make(part, NoPE())
    assert make(posjax.AxialRope(), NoPE()).coordinates == 2
    assert advice(make(posjax.T5Bias(max_distance=128), NoPE()), 64)
