"""Retrieval: what a perfect, a guessing and a silent reader score."""

from __future__ import annotations

import json

import numpy as np
import pytest

from posjax.data import Needles
from posjax.encodings import Learned, Rope
from posjax.errors import InputError
from posjax.evaluation import Retrieval, TrainedModel, measure
from posjax.models import build
from tests.evaluation.toys import measured
from tests.small import small

TASK = Needles(keys=8, values=4, fillers=3, needles=4)
L = 16


def reader(encoding=None):
    config = small(encoding or Rope(), width=8, heads=1, feed_forward=8)
    return TrainedModel(build(config, TASK.vocabulary, 0), L)


def perfect(inputs):
    answers = np.full_like(inputs, -1)
    for row, out in zip(inputs, answers, strict=True):
        needles = row[row > TASK.marker] - TASK.marker - 1
        value = {n // TASK.values: TASK.keys + n % TASK.values for n in needles}
        out[:] = [value.get(token, -1) for token in row]
    return answers


@pytest.fixture
def answers(monkeypatch):
    """`answers(function)`: whatever the model, these are its predictions."""

    def put(function):
        monkeypatch.setattr(measure, "predictions", lambda trained_model, variant, multiple, inputs: function(inputs))

    return put


def accuracies(found):
    return [a for v in found["variants"] for numbers in v["lengths"].values() for a in numbers["accuracy"]]


def test_a_perfect_reader_finds_all(answers):
    answers(perfect)
    found = measured(Retrieval(multiples=(1, 2, 4), sequences=20), reader(), TASK, seed=0)
    assert accuracies(found) == [1.0] * (3 * 3 * 3)
    assert all(e == 0 for v in found["variants"] for n in v["lengths"].values() for e in n["error"])
    assert found["chance"] == 0.25 and found["queries"] == 80 and found["lengths"] == [1, 2, 4]
    assert found["depths"] == [0.0, 0.45, 0.9]


def test_a_silent_reader_finds_none_and_a_blind_one_guesses(answers):
    plan = Retrieval(multiples=(1, 2), sequences=200, extensions=(), control=False)
    answers(lambda inputs: np.full_like(inputs, -1))
    assert accuracies(measured(plan, reader(), TASK, seed=0)) == [0.0] * 6
    random = np.random.default_rng(0)
    answers(lambda inputs: TASK.keys + random.integers(TASK.values, size=inputs.shape))
    found = measured(plan, reader(), TASK, seed=0)
    standard = np.sqrt(0.25 * 0.75 / 800)
    assert all(abs(a - 0.25) < 4 * standard for a in accuracies(found))
    for numbers in found["variants"][0]["lengths"].values():
        np.testing.assert_allclose(numbers["error"], standard, rtol=0.2)


def test_the_depths_stay_in_their_order(answers):
    """A reader that sees only the last tokens finds the near needles alone."""

    def short(inputs):
        return perfect(np.where(np.arange(inputs.shape[1]) < inputs.shape[1] // 2, 0, inputs))

    answers(short)
    found = measured(Retrieval(multiples=(4,), sequences=30), reader(), TASK, seed=0)
    assert [found["variants"][0]["lengths"]["4"]["accuracy"][i] for i in (0, 2)] == [0.0, 1.0]


def test_a_real_model_goes_through_and_a_table_ends():
    found = measured(Retrieval(multiples=(1, 2, 4), sequences=2), reader(Learned(length=2 * L)), TASK, seed=0)
    assert [v["name"] for v in found["variants"]] == ["raw", "windowed"]
    assert all(v["ended_at"] == 2 and list(v["lengths"]) == ["1", "2"] for v in found["variants"])
    assert json.loads(json.dumps(found)) == found
    assert [v["name"] for v in measured(Retrieval(multiples=(1,), sequences=1), reader(), TASK, 0)["variants"]] == [
        "raw",
        "yarn",
        "windowed",
    ]


@pytest.mark.parametrize(
    "fields", [{"multiples": ()}, {"multiples": (0,)}, {"sequences": 0}, {"depths": (1.0,)}, {"depths": (-0.1, 0.5)}]
)
def test_a_plan_that_cannot_work_is_refused(fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        Retrieval(**fields)
