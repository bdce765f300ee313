"""Sliding windows, against one window at a time."""

from __future__ import annotations

import numpy as np
import pytest

from posjax.data import Needles
from posjax.encodings import Rope
from posjax.errors import InputError
from posjax.evaluation import RAW, SlidingWindow, measure
from posjax.evaluation.sliding import windows_of
from posjax.evaluation.texts import Excerpts
from posjax.results import Measurements
from tests.evaluation.toys import L, documents, trained_model


def measured(evaluation, model):
    return Measurements.of(evaluation.run(model, documents((200, 300, 300)), 0))


@pytest.mark.parametrize(("length", "stride"), [(4, 4), (4, 2), (8, 1), (8, 8), (4, 3), (8, 7)])
def test_each_token_of_the_stretch_is_foretold_once(length, stride):
    text = np.arange(17)[None]
    (rows,) = windows_of(text, length, stride, stretch=8)
    assert rows.shape == (-(-8 // stride), length + 1) and np.all(np.diff(rows, axis=1) == 1)
    assert rows[:, -stride:].ravel().tolist()[-8:] == list(range(9, 17))


def test_losses_are_those_of_single_windows():
    model = trained_model(Rope())
    evaluation = SlidingWindow(multiples=(1, 2), strides=("window", 4, 3), stretches=2, control=False)
    found = measured(evaluation, model)
    text = Excerpts.draw(documents((200, 300, 300)), 4 * L, 2, 0).tokens
    for multiple, stride in ((1, L), (1, 4), (1, 3), (2, 2 * L), (2, 4), (2, 3)):
        length, each = multiple * L, []
        for end in sorted(range(4 * L + 1, 2 * L + 1, -stride)):
            of_window, _ = measure.losses_and_mass(model, RAW, multiple, text[:, end - length - 1 : end])
            each.append(of_window[:, -stride:])
        losses = np.concatenate(each, axis=1)[:, -2 * L :]
        row = found.one("sliding_loss", length=length, stride=stride)
        assert row.value == pytest.approx(np.mean(losses), rel=1e-5) and row.low <= row.value <= row.high
    assert found.one("sliding_ratio", length=L, stride=L).value == 1
    first, last = (found.one("sliding_loss", length=n, stride=4).value for n in (L, 2 * L))
    base = found.one("sliding_loss", length=L, stride=L).value
    assert found.one("sliding_ratio", length=L, stride=4).value == pytest.approx(np.exp(first - base), rel=1e-6)
    assert first != last


def test_longer_windows_lower_the_loss_by_early_tokens_alone(monkeypatch):
    """A model that fails at the first 4 tokens of a window and nowhere else: no context helps it, and yet."""

    def losses_and_mass(model, variant, multiple, windows):
        losses = np.zeros((len(windows), windows.shape[1] - 1))
        losses[:, :4] = 1
        return losses, None

    monkeypatch.setattr(measure, "losses_and_mass", losses_and_mass)
    evaluation = SlidingWindow(multiples=(1, 2, 4), strides=("window", 4), stretches=3, control=False)
    found = measured(evaluation, trained_model(Rope(), layers=1))
    apart = [found.one("sliding_loss", multiple=m, stride=m * L).value for m in (1, 2, 4)]
    assert apart == [0.5, 0.25, 0.125]
    assert [found.one("sliding_loss", multiple=m, stride=4).value for m in (1, 2, 4)] == [0, 0, 0]


def test_what_cannot_be_measured_is_refused():
    for wrong in ({"multiples": (2, 4)}, {"multiples": (1, 3, 4)}, {"strides": ()}, {"strides": (0,)}):
        with pytest.raises(InputError, match="SlidingWindow got"):
            SlidingWindow(**wrong)
    with pytest.raises(InputError, match="stride of 9 and the model is trained at length 8"):
        SlidingWindow(strides=(9,)).rehearse(trained_model(Rope()).architecture, 257, L)
    with pytest.raises(InputError, match="SlidingWindow measures the loss on text"):
        SlidingWindow().require(Needles())
    SlidingWindow(multiples=(1, 2), strides=(4,)).rehearse(trained_model(Rope()).architecture, 257, L)
