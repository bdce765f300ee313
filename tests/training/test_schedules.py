"""Learning rates over a run: their shapes, the first step and the last, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from posjax.errors import InputError
from posjax.training import WSD, Constant, Cosine, Linear

SHAPES = (Constant(), Cosine(), Linear(), WSD(), WSD(shape="linear"), WSD(shape="cosine"))


def rates(schedule, peak, steps):
    return np.array([float(schedule.build(peak, steps)(step)) for step in range(steps)])


def test_the_rate_rises_linearly_and_falls_along_a_cosine():
    rate = rates(Cosine(warmup=0.1, final=0.25), 2e-3, 200)
    np.testing.assert_allclose(rate[:20], 2e-3 * np.arange(1, 21) / 20, rtol=1e-6)
    cosine = [5e-4 + 1.5e-3 * (1 + math.cos(math.pi * n / 180)) / 2 for n in range(181)]
    np.testing.assert_allclose(rate[19:], cosine, rtol=1e-5)
    assert rate[199] == pytest.approx(5e-4, rel=1e-6)


def test_a_line_falls_by_the_same_at_each_step():
    rate = rates(Linear(warmup=0.1, final=0.2), 1.0, 50)
    np.testing.assert_allclose(rate[:5], np.arange(1, 6) / 5, rtol=1e-6)
    np.testing.assert_allclose(rate[4:], np.linspace(1.0, 0.2, 46), rtol=1e-5)


def test_a_constant_stays():
    rate = rates(Constant(warmup=0.2), 3.0, 20)
    np.testing.assert_allclose(rate, np.minimum(np.arange(1, 21) * 0.75, 3.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "falls"),
    [
        ("linear", lambda t: 1 - t),
        ("cosine", lambda t: (1 + np.cos(np.pi * t)) / 2),
        ("sqrt", lambda t: 1 - np.sqrt(t)),
    ],
)
def test_warm_up_stable_decay(shape, falls):
    rate = rates(WSD(warmup=0.1, decay=0.4, final=0.25, shape=shape), 2.0, 50)
    np.testing.assert_allclose(rate[:5], 2.0 * np.arange(1, 6) / 5, rtol=1e-6)
    np.testing.assert_allclose(rate[4:30], 2.0, rtol=1e-6)
    t = np.arange(1, 21) / 20
    np.testing.assert_allclose(rate[30:], 0.5 + 1.5 * falls(t), rtol=1e-5)


def test_a_decay_of_the_whole_run_is_the_line():
    whole = WSD(warmup=0.2, decay=0.8, final=0.1, shape="linear")
    np.testing.assert_allclose(rates(whole, 1.0, 30), rates(Linear(warmup=0.2, final=0.1), 1.0, 30), rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.8])
@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_the_shortest_runs_move_at_each_step(steps, warmup, shape):
    rate = rates(type(shape)(**{**vars(shape), "warmup": warmup}), 0.1, steps)
    assert np.all(rate > 0) and np.all(rate <= 0.1 * (1 + 1e-6)), rate
    assert rate.max() == pytest.approx(0.1)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_a_step_past_the_end_is_as_the_last(shape):
    # A stage that is made longer asks for it.
    build = shape.build(1.0, 10)
    assert float(build(10)) == pytest.approx(float(build(9)), rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (Cosine, {"warmup": 1.5}, "Cosine got warmup=1.5"),
        (Constant, {"warmup": -0.1}, "Constant got warmup=-0.1"),
        (Cosine, {"final": 2.0}, "Cosine got final=2.0"),
        (Linear, {"final": -1.0}, "Linear got final=-1.0"),
        (Linear, {"final": math.nan}, "Linear got final=nan"),
        (WSD, {"decay": 1.5}, "WSD got decay=1.5"),
        (WSD, {"warmup": 0.6, "decay": 0.5}, "WSD got warmup=0.6 and decay=0.5"),
        (WSD, {"shape": "root"}, "WSD got shape='root'"),
    ],
)
def test_what_cannot_work_is_refused_by_name(kind, changes, said):
    with pytest.raises(InputError, match=said):
        kind(**changes)
