"""Accuracy: what a perfect, a silent and a half-right reader score, and with what intervals."""

from __future__ import annotations

import numpy as np
import pytest

from posjax.data import Copy, FlipFlop, StandardLibrary
from posjax.encodings import Learned, Rope
from posjax.errors import InputError
from posjax.evaluation import Accuracy, TrainedModel, measure
from posjax.evaluation.statistics import wilson
from posjax.models import build
from posjax.results import Measurements
from tests.small import small

TASK = Copy(symbols=4)
L = 16


def reader(encoding=None, task=TASK):
    config = small(encoding or Rope(), width=8, heads=1, feed_forward=8)
    return TrainedModel(build(config, task.vocabulary, 0), L)


def copied(inputs, right=1.0):
    """Answers of a reader who is right in the first part of each answer, and says a token that is none after it."""
    half = inputs.shape[1] // 2
    answers = np.full_like(inputs, -1)
    said = int(right * half)
    answers[:, half : half + said] = inputs[:, :said]
    return answers


@pytest.fixture
def answers(monkeypatch):
    """`answers(function)`: whatever the model, these are its predictions."""

    def put(function):
        monkeypatch.setattr(measure, "predictions", lambda trained_model, variant, multiple, inputs: function(inputs))

    return put


def measured(plan, model=None, task=TASK, seed=0):
    return Measurements.of(plan.run(model or reader(), task, seed))


def test_a_perfect_reader_is_right_everywhere(answers):
    answers(copied)
    found = measured(Accuracy(sequences=20))
    assert [row.value for row in found.select("accuracy")] == [1.0] * 3
    assert [row.value for row in found.select("exact")] == [1.0] * 3
    assert found.one("chance").value == 0.25
    assert found.distinct("length") == (16, 32, 64) and found.distinct("multiple") == (1, 2, 4)
    assert found.distinct("task") == ("Copy",) and found.distinct("variant") == ("raw",)
    low = found.one("exact", multiple=1).low
    assert 0.8 < low < 0.9, "twenty that are right do not say that all are"


def test_a_reader_who_is_half_right_is_never_exact(answers):
    answers(lambda inputs: copied(inputs, right=0.5))
    found = measured(Accuracy(multiples=(1,), sequences=20))
    assert found.one("accuracy").value == 0.5
    assert found.one("exact").value == 0.0 == found.one("exact").low
    assert found.one("accuracy").count == 20


def test_a_sequence_counts_once_however_much_it_asks(answers):
    """Reads of a flip-flop are of any number: one sequence with many must not outvote the others."""
    task = FlipFlop(ignore=0.5)
    asked = task.questions(L, 50, 0)
    few = asked["weights"].sum(axis=1) <= 2
    answers(lambda inputs: np.where(few[:, None], asked["targets"], -1))
    found = measured(Accuracy(multiples=(1,), sequences=50), reader(task=task), task)
    assert found.one("accuracy").value == found.one("exact").value == few.mean()


def test_a_real_model_goes_through_in_every_variant_and_a_table_ends():
    plan = Accuracy(multiples=(1, 2, 4), sequences=2, extensions=("yarn", "linear"), control=True)
    assert measured(plan).distinct("variant") == ("raw", "yarn", "linear", "windowed")
    table = measured(plan, reader(Learned(length=2 * L)))
    assert table.distinct("multiple") == (1, 2)
    assert [row.value for row in table.select("last_multiple")] == [2, 2]
    assert table.distinct("kind") == ("raw", "windowed")
    assert (plan.longest(L), plan.held(L)) == (64, 128)
    assert plan.smaller() == Accuracy(multiples=(1, 2), sequences=2, extensions=("yarn", "linear"), control=True)
    plan.rehearse(small(Rope(), width=8, heads=1, feed_forward=8), TASK.vocabulary, L)


def test_the_same_is_asked_again():
    plan = Accuracy(multiples=(1, 2), sequences=30)
    model = reader()
    assert measured(plan, model) == measured(plan, model)
    assert measured(plan, model) != measured(plan, model, seed=1)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match=r"Accuracy got StandardLibrary.*Extrapolation"):
        Accuracy().require(StandardLibrary())
    Accuracy().require(TASK)
    for fields in ({"multiples": ()}, {"multiples": (0,)}, {"sequences": 0}, {"extensions": ("other",)}):
        with pytest.raises(InputError, match=next(iter(fields))):
            Accuracy(**fields)


@pytest.mark.parametrize("share, count", [(0.0, 5), (0.3, 40), (1.0, 128)])
def test_wilsons_interval_is_where_the_score_test_turns(share, count):
    """At each bound p the share lies 1.96 standard deviations of p away; at 0 and 1 one bound is the share itself."""
    for bound in wilson(share, count):
        if bound == share:
            continue
        deviation = np.sqrt(bound * (1 - bound) / count)
        assert abs(share - bound) == pytest.approx(1.959964 * deviation, rel=1e-6)
