"""The loss at given lengths is that of the same targets, whatever length a model was trained at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from posjax import InputError, Rope
from posjax.data import validation_windows
from posjax.evaluation import RAW, measure
from posjax.evaluation.fixed_lengths import FixedLengths
from posjax.results import Measurements
from tests.evaluation.toys import L, documents, trained_model

EVALUATION = FixedLengths(lengths=(L, 4 * L), targets=4, windows=3)


@pytest.mark.exhaustive
def test_the_loss_is_that_of_the_last_targets():
    model = trained_model(Rope())
    taken = Measurements.of(EVALUATION.run(model, documents(), 0))
    windows = validation_windows(documents(), 4 * L, 3, 0)
    for multiple in (1, 4):
        losses, _ = measure.losses_and_mass(model, RAW, multiple, windows[:, -multiple * L - 1 :])
        expected = losses[:, -4:].mean()
        np.testing.assert_allclose(taken.one("loss", length=multiple * L).value, expected, rtol=1e-5)
    assert taken.one("loss_ratio", length=L).value == 1.0
    assert EVALUATION.longest(1) == 4 * L


def test_the_trained_length_changes_nothing():
    model = trained_model(Rope())
    longer = replace(model, trained_length=4 * L)
    assert list(EVALUATION.run(model, documents(), 0)) == list(EVALUATION.run(longer, documents(), 0))


@pytest.mark.parametrize("lengths", [(), (4, 2), (2, 8)])
def test_lengths_that_do_not_hold_the_targets_are_refused(lengths):
    with pytest.raises(InputError, match="rising lengths"):
        FixedLengths(lengths, targets=4)
