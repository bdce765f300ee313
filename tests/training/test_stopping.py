"""Early stopping: a decision from the losses so far, and from nothing else."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from posjax.errors import InputError
from posjax.training.stopping import EarlyStop, StopDecision


def history(*losses):
    return [(100 * (place + 1), loss) for place, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "stop", "best", "waited"),
    [
        ((), False, None, 0),
        ((3.0,), False, 100, 0),
        ((3.0, 2.0, 1.0, 0.5), False, 400, 0),
        ((3.0, 2.0, 2.5, 2.4), False, 200, 2),
        ((3.0, 2.0, 2.5, 2.4, 2.1), True, 200, 3),
        # Just as good is not better, and a better one begins the count anew.
        ((3.0, 2.0, 2.0, 2.0, 2.0), True, 200, 3),
        ((3.0, 2.0, 2.5, 2.4, 1.9, 2.0, 2.0), False, 500, 2),
        ((3.0, 3.1, 3.2, 3.3), True, 100, 3),
    ],
)
def test_it_stops_at_the_patience_th_that_is_not_better(losses, stop, best, waited):
    told = EarlyStop(patience=3).verdict(history(*losses))
    assert (told.stop, told.best_step, told.waited) == (stop, best, waited)
    assert told.best_loss == min(losses, default=math.inf)


def test_a_little_better_may_not_be_enough():
    slow = history(2.0, 1.99, 1.98, 1.97, 1.96)
    assert not EarlyStop(patience=2).verdict(slow).stop
    # Against the best that counted, so that a slow descent is better in the end.
    assert EarlyStop(patience=2, least=0.05).verdict(slow) == StopDecision(True, 100, 2.0, 2)
    assert EarlyStop(patience=4, least=0.035).verdict(slow) == StopDecision(False, 500, 1.96, 0)


def test_what_is_no_number_is_never_better():
    told = EarlyStop(patience=2).verdict(history(2.0, math.nan, math.inf))
    assert told == StopDecision(True, 100, 2.0, 2)
    assert EarlyStop(patience=2).verdict(history(math.nan)).best_step is None
    assert EarlyStop(patience=2).verdict(history(math.nan, 2.0)).best_step == 200


def test_each_prefix_decides_as_a_run_that_goes_on_does():
    losses = history(*np.random.default_rng(0).normal(size=60).cumsum().round(1).tolist())
    plan = EarlyStop(patience=4, least=0.1)
    told = [plan.verdict(losses[:end]) for end in range(61)]
    stopped = [verdict.stop for verdict in told].index(True)
    # The count rises by one or begins anew; what was measured behind the stop changes nothing.
    for before, after in itertools.pairwise(told[: stopped + 1]):
        assert after.waited in (0, before.waited + 1) and after.best_loss <= before.best_loss
    assert set(told[stopped:]) == {told[stopped]}


def test_it_measures_every_so_many_steps_and_at_the_end():
    plan = EarlyStop(every=4)
    assert [step for step in range(1, 11) if plan.measures(step, 10)] == [4, 8, 10]
    assert [step for step in range(1, 9) if plan.measures(step, 8)] == [4, 8]


@pytest.mark.parametrize(
    "changes", [{"every": 0}, {"patience": 0}, {"least": -0.1}, {"windows": 0}, {"least": math.nan}, {"every": 1.5}]
)
def test_what_cannot_work_is_refused_by_name(changes):
    ((name, value),) = changes.items()
    with pytest.raises(InputError, match=f"EarlyStop got {name}={value}"):
        EarlyStop(**changes)


def test_it_is_a_value():
    plan = EarlyStop(patience=2)
    assert eval(repr(plan)) == plan and hash(plan) == hash(EarlyStop(patience=2))
