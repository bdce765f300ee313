"""The relative property as a number: exact here, and lost by float32 angles."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encodings import Alibi, AxialRope, Learned, NoPE, Rope, Sinusoidal, Yarn, chain
from posjax.errors import InputError
from posjax.evaluation.in_model import encodings_in
from posjax.evaluation.invariance import Invariance, float32_turn
from posjax.results import Measurements
from tests.evaluation.test_decay import untrained
from tests.small import small

OFFSETS = (0, 1000, 2**24, 2**31 - 1 - 16)


def errors(encoding, angles="posjax") -> list[float]:
    found = Measurements.of(Invariance(OFFSETS, tokens=16).run(untrained(encoding), None, 0))
    return [row.value for row in found.select("shift_error", angles=angles)]


ROTARY = [Rope(), Rope(layout="interleaved", fraction=0.5), Rope(schedule=Yarn(4.0, 256)), chain(Rope(), Alibi())]


@pytest.mark.parametrize("encoding", ROTARY, ids=repr)
def test_float32_angles_lose_what_exact_ones_keep(encoding):
    exact = errors(encoding)
    rounded = errors(encoding, "float32")
    assert len(exact) == len(rounded) == 4
    assert max(exact) < 2e-6
    # A thousand positions on they are off already, and past 2^24 neighbours share an angle.
    assert rounded[0] == 0 and rounded[1] > 5 * max(exact)
    assert rounded[2] > 0.1 and rounded[3] > 0.1


def test_float32_angles_are_those_of_the_encoding_near_the_beginning():
    for encoding in ROTARY:
        (one,) = encodings_in(untrained(encoding), 16)
        x, at = jnp.ones((1, 16, 2, 16)), jnp.arange(16)
        turned = float32_turn(one)(x, at)
        np.testing.assert_allclose(turned, one.encoding.rotate(one.params, x, at, "query"), atol=1e-5)


def test_a_distance_of_integers_is_exact_and_a_sum_with_tokens_is_no_distance():
    assert errors(Alibi()) == [0.0] * 4
    assert errors(NoPE()) == [0.0] * 4
    assert errors(Alibi(), "float32") == []
    first, *moved = errors(Sinusoidal())
    assert first == 0 and min(moved) > 0.05


def test_a_table_ends_the_offsets():
    assert len(errors(Learned(length=1500))) == 2


@pytest.mark.parametrize("offset", [-1, 2**31 - 16])
def test_positions_stay_within_int32(offset):
    with pytest.raises(InputError, match="below 2\\^31"):
        Invariance((0, offset), tokens=16)


def test_positions_of_several_coordinates_are_refused():
    with pytest.raises(InputError, match="2 coordinates"):
        Invariance().rehearse(small(AxialRope()), 11, 8)
