"""Scores by distance against closed forms."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encodings import Alibi, AxialRope, Kerple, Learned, NoPE, Rope, Sinusoidal, T5Bias, chain
from posjax.errors import InputError
from posjax.evaluation import TrainedModel
from posjax.evaluation.decay import Decay, rising_share, roformer_bound
from posjax.evaluation.in_model import encodings_in
from posjax.models import build
from posjax.results import Measurements
from tests.evaluation.toys import trained_model
from tests.small import learned, small

DISTANCES = (0, 1, 5, 40)
RATES = 10_000.0 ** (-np.arange(0, 16, 2) / 16)
"""The frequencies of a head of 16."""


def untrained(*encodings, **sizes) -> TrainedModel:
    return TrainedModel(build(small(*encodings, **{"width": 32, "layers": len(encodings)} | sizes), 11, seed=0), 8)


def measured(*encodings, distances=DISTANCES, draws=4, **sizes) -> Measurements:
    return Measurements.of(Decay(distances, draws).run(untrained(*encodings, **sizes), None, 0))


def values(found: Measurements, metric: str, **coordinates) -> np.ndarray:
    return np.array([row.value for row in found.select(metric, **coordinates)])


def test_scores_of_ones_under_rope_are_the_sum_of_cosines():
    (one,) = encodings_in(untrained(Rope()), 41)
    at = jnp.arange(41)
    ones = jnp.ones((41, 32))
    scores = one.scores(ones[:1], ones, at[-1:], at)
    want = np.sqrt(16) * np.cos(np.outer(np.arange(41), RATES)).mean(1)
    np.testing.assert_allclose(scores[:, 0, ::-1], np.stack([want, want]), atol=2e-5)


def test_the_mean_of_equal_vectors_is_the_kernel_and_of_independent_ones_nothing():
    found = measured(Rope(), draws=256)
    kernel = np.sqrt(16) * np.cos(np.outer(DISTANCES, RATES)).mean(1)
    for row, want in zip(found.select("score", of="equal"), kernel, strict=True):
        # Twice as wide as the interval that holds it 19 times of 20.
        assert abs(row.value - want) < row.high - row.low
        assert row.count == 256
    assert np.abs(values(found, "score", of="independent")).max() < 0.15
    np.testing.assert_allclose(values(found, "score_deviation", of="independent"), 1, atol=0.1)
    np.testing.assert_allclose(values(found, "score_size", of="independent"), np.sqrt(2 / np.pi), atol=0.1)


def test_the_bound_is_roformers_and_one_at_distance_zero():
    (one,) = encodings_in(untrained(Rope()), 65)
    bound = roformer_bound(one, 64)
    sums = np.cumsum(np.exp(1j * np.outer(np.arange(65), RATES)), axis=1)
    want = np.abs(sums).mean(1) / 4.5  # (1 + ... + 8) / 8
    np.testing.assert_allclose(bound, want, atol=1e-6)
    assert bound[0] == 1
    found = measured(Rope())
    assert values(found, "bound").tolist() == pytest.approx(want[list(DISTANCES)].tolist(), abs=1e-6)
    # It falls at first, and is not monotone.
    assert 0.2 < found.one("rising_share", of="bound").value < 0.7


def test_a_chain_has_the_bound_of_its_rotary_part_and_the_bias_of_the_other():
    found = measured(chain(Rope(), Alibi()))
    assert values(found, "bound").tolist() == values(measured(Rope()), "bound").tolist()
    assert values(found, "bias").tolist() == values(measured(Alibi()), "bias").tolist()
    assert not measured(Alibi()).select("bound") and not measured(chain(Rope(), Rope())).select("bound")


def test_alibi_falls_by_its_slopes_on_every_step():
    found = measured(Alibi())
    for head, slope in enumerate((1 / 16, 1 / 256)):
        assert values(found, "bias", head=head).tolist() == [-slope * d for d in DISTANCES]
    mean = (1 / 16 + 1 / 256) / 2
    for of in ("equal", "independent"):
        scores = values(found, "score", of=of)
        np.testing.assert_allclose(scores - scores[0], -mean * np.array(DISTANCES), atol=1e-5)
    assert {row.value for row in found if row.metric.startswith("rising_share")} == {0.0}


def test_nothing_moves_without_positions():
    found = measured(NoPE())
    assert {row.value for row in found if row.metric.startswith("rising_share")} == {0.0}
    for of in ("equal", "independent"):
        assert np.ptp(values(found, "score", of=of)) < 1e-5
    assert not found.select("bias")


def test_what_is_embedded_meets_itself():
    found = measured(Sinusoidal())
    # sin a sin b + cos a cos b = cos(a - b), over all 16 pairs, halved by two heads, each over sqrt(16).
    rates = 10_000.0 ** (-np.arange(0, 32, 2) / 32)
    want = np.cos(np.outer(DISTANCES, rates)).sum(1) / 2 / 4
    np.testing.assert_allclose(values(found, "score", of="positions"), want, atol=1e-5)
    # Nothing is drawn, so nothing has a spread.
    assert not found.select("score_deviation", of="positions")
    assert found.distinct("of") == ("equal", "independent", "positions")


def test_parameters_are_those_of_the_model():
    one = trained_model(T5Bias(buckets=4, max_distance=3))
    found = Measurements.of(Decay((0, 1, 2, 9), draws=2).run(one, None, 0))
    table = np.asarray(learned(one.model).get_value()["table"])
    for head in range(2):
        assert values(found, "bias", head=head).tolist() == pytest.approx(table[head, [0, 1, 2, 3]].tolist())


def test_a_table_ends_the_distances():
    found = measured(Learned(length=6))
    assert found.distinct("distance") == (0, 1, 5)


def test_layers_of_several_encodings_are_told_apart():
    found = measured(NoPE(), Alibi(), draws=2)
    assert found.distinct("layer") == (0, 1)
    assert {row.at("layer") for row in found.select("bias")} == {1}
    assert "layer" not in measured(Alibi(), draws=2).names


def test_it_is_a_function_of_the_seed():
    decay, one = Decay((0, 3), draws=3), untrained(Kerple())
    assert list(decay.run(one, None, 1)) == list(decay.run(one, None, 1))
    assert list(decay.run(one, None, 1)) != list(decay.run(one, None, 2))


def test_rising_steps_are_counted_and_rounding_is_none():
    assert rising_share(np.array([1.0, 2.0, 1.0])) == 0.5
    assert rising_share(np.array([1.0, 1.0 + 1e-9, 1.0])) == 0
    assert rising_share(np.array([1.0])) == 0


@pytest.mark.parametrize("distances", [(), (1, 2), (0, 2, 2), (0, 3, 1), (0, -1)])
def test_distances_begin_with_zero_and_rise(distances):
    with pytest.raises(InputError, match="begin with 0"):
        Decay(distances)


def test_positions_of_several_coordinates_have_no_distance():
    with pytest.raises(InputError, match="2 coordinates"):
        Decay().rehearse(small(AxialRope()), 11, 8)
    Decay().rehearse(small(Rope()), 11, 8)
