"""What the benchmarks share: peers that compute the same, times taken in turns, results in their folders."""

import json

import jax
import numpy as np
import pytest

import posjax
from experiments.benchmarks.common import cases, pages, peers, timing
from experiments.benchmarks.common.cases import ENCODINGS, Case
from experiments.benchmarks.common.goals import Goal
from experiments.benchmarks.common.peers import PEERS
from tests.cases import first_of

# Where torch is installed, importing it is noisy.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@first_of("name", ENCODINGS, keep=3)
def test_the_whole_bias_agrees_with_ours_in_output_and_every_gradient(name):
    case = Case(name, ENCODINGS[name], 24, True, 2, 8)
    ours, theirs = (peer.prepare(case, 1.0) for peer in PEERS[:2])
    want, got = (ready.numbers(ready.call.finished()) for ready in (ours, theirs))
    assert set(want) == set(got) == {"out", "dq", "dk", "dv", *(f"d {p}" for p in case.params)}
    assert cases.error(got, want) < 2e-4
    wrong = {key: x + 1e-2 * np.abs(x).max() for key, x in got.items()}
    assert all(cases.error({key: wrong[key]}, want) > 1e-3 for key in ("out", "dq", "dk", "dv"))


@pytest.mark.exhaustive
def test_what_is_timed_is_the_whole_derivative():
    case = Case("T5Bias", ENCODINGS["T5Bias"], 24, True, 2, 8)
    params, q, k, v, d_out = peers.arguments(case)
    out, pull = jax.vjp(lambda p, q, k, v: posjax.attend(q, k, v, encoding=case.encoding, params=p), params, q, k, v)
    (d_params, dq, dk, dv) = pull(d_out)
    want = {"out": out, "dq": dq, "dk": dk, "dv": dv, "d table": d_params["table"]}
    ready = peers.ours(case, 1.0)
    got = ready.numbers(ready.call.finished())
    assert cases.error(got, {name: np.asarray(x) for name, x in want.items()}) < 1e-5 and set(got) == set(want)


def test_a_ratio_is_taken_within_each_round():
    """The second and third rounds ran on a machine three times as slow; their ratios say nothing of it."""
    assert timing.ratio([1.0, 3.0, 3.0], [2.0, 6.0, 6.0, 2.0, 2.0]) == 0.5
    assert timing.ratio([1.0], [2.0, 6.0, 6.0]) == pytest.approx(1 / 6)


def test_samples_are_taken_in_turns_until_a_row_has_had_its_time():
    order = []

    def call(name):
        return timing.Timed(lambda: order.append(name), lambda _: None)

    times = timing.interleave({"a": call("a"), "b": call("b")}, 3, {"a": 1.0, "b": 1.0})
    assert order == ["a", "b"] * 3 and len(times["a"].cpu) == len(times["b"].wall) == 3
    order.clear()
    assert len(timing.interleave({"a": call("a")}, 3, {"a": 1.0}, most=0.0)["a"].cpu) == 1 and order == ["a"]
    order.clear()
    timing.interleave({"a": call("a")}, 1, {"a": timing.AT_LEAST / 10})
    assert 10 <= len(order) <= 11  # One of them is not timed.


def test_results_go_to_the_repositorys_folders_or_to_one_of_the_callers(tmp_path):
    assert pages.folders(None).numbers != pages.folders(None).pages
    pages.write(pages.folders(tmp_path / "mine"), "some", {"rows": [1.5]}, "# Some\n")
    assert json.loads((tmp_path / "mine/some.json").read_text()) == {"rows": [1.5]}
    assert (tmp_path / "mine/some.md").read_text() == "# Some\n"


@pytest.mark.parametrize("module", ["attention", "memory.__main__", "rope.__main__", "numerics.__main__"])
def test_every_command_has_its_name_and_its_help(shell, module):
    answer = shell(f"benchmarks.{module}", "--help")
    name = module.partition(".")[0]
    assert answer.code == 0 and f"python -m experiments.benchmarks.{name}" in answer.out and "--out" in answer.out


def test_a_goal_that_is_just_reached_is_met_on_either_side():
    most, least = Goal("time", 1.5), Goal("speed", 1.5, at_most=False)
    measured = [(1.0, "here"), (1.5, "there"), (2.0, "nowhere")]
    assert most.verdict == least.verdict == "not measured"
    assert [goal.judged(measured[1:2]).verdict for goal in (most, least)] == ["met", "met"]
    assert [goal.judged(measured).where for goal in (most, least)] == ["nowhere", "here"]
    assert [goal.judged(measured).verdict for goal in (most, least)] == ["NOT met", "NOT met"]
