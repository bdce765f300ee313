"""How far heads reach: by formula where there is one, and by a trained bias as it is."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encodings import Alibi, Fire, Kerple, NoPE, Rope, T5Bias, chain
from posjax.errors import InputError
from posjax.evaluation import Reach, TrainedModel
from posjax.evaluation.reach import distance_left
from posjax.models import build
from posjax.results import Measurements
from tests.evaluation.toys import VOCABULARY, L, trained_model
from tests.small import learned, small


def reached(encoding, **fields):
    return Measurements.of(Reach(**fields).run(trained_model(encoding), None, 0))


@pytest.mark.parametrize("encoding", [Alibi(), chain(Rope(), Alibi())], ids=repr)
def test_alibi_reaches_as_far_as_its_slopes_say(encoding):
    found = reached(encoding)
    for head, slope in enumerate((2**-4, 2**-8)):
        for left in (0.5, 0.001):
            row = found.one("reach", layer=1, head=head, left=left)
            assert row.value == pytest.approx(-math.log(left) / slope, rel=1e-5)
    assert len(found) == 2 * 2 * 2 and round(found.one("reach", layer=0, head=1, left=0.001).value) == 1768


def test_heads_that_never_let_go_have_no_reach():
    # The widest head's half is at 177, a thousandth of it past the furthest distance.
    found = reached(Alibi(), furthest=1000)
    assert {(row.at("head"), row.at("left")) for row in found} == {(0, 0.5), (0, 0.001), (1, 0.5)}


def test_a_trained_bias_counts_as_it_was_trained():
    model = trained_model(T5Bias(buckets=8, max_distance=8))
    table = np.zeros((2, 8), np.float32)
    # Head 0 falls behind distance 1, and head 1 at the last bucket, which all distances from 8 on share.
    table[0, 2:] = -3.0
    table[1, 7:] = -9.0
    learned(model.model).set_value({"table": jnp.asarray(table)})
    found = Measurements.of(Reach(furthest=100).run(model, None, 0))
    half = found.one("reach", layer=0, head=0, left=0.5).value
    assert half == pytest.approx(1 + math.log(2) / 3) and found.one("reach", layer=1, head=1, left=0.001).value < 8
    assert not found.select(head=0, left=0.001)
    assert reached(Kerple(), left=(0.9,)).distinct("head") == (0, 1)


def test_a_bias_that_rises_again_is_measured_where_it_falls_for_good():
    bias = np.array([0.0, -5.0, 0.0, -1.0, -2.0])
    assert distance_left(bias, math.exp(-1.5)) == pytest.approx(3.5)


def test_layers_without_a_bias_are_passed_over_and_models_without_one_refused():
    mixed = build(small(NoPE(), Alibi(), layers=4), VOCABULARY, 0)
    found = Measurements.of(Reach().run(TrainedModel(mixed, L), None, 0))
    assert found.distinct("layer") == (1, 3)
    for encoding in (Rope(), NoPE(), Fire()):
        with pytest.raises(InputError, match=r"Reach measures a bias by distance, and .* has none"):
            Reach().rehearse(small(encoding), VOCABULARY, L)
    with pytest.raises(InputError, match="Reach got left="):
        Reach(left=(0.0,))
