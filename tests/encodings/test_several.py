"""What encodings that are made of others for some heads each refuse and forward."""

import pytest

import posjax
from posjax import NoPE
from posjax.encodings.traits import advice


def test_parts_that_it_cannot_honour_are_refused_and_the_rest_is_forwarded():
    moving = posjax.chain(posjax.Randomized(100), posjax.Rope())
    for part in (moving, posjax.Shaw()):
        with pytest.raises(posjax.InputError, match="chain such a one beside it"):
            posjax.by_head(part, NoPE())
    assert posjax.by_head(posjax.AxialRope(), NoPE()).coordinates == 2
    assert advice(posjax.by_head(posjax.T5Bias(max_distance=128), NoPE()), 64)
