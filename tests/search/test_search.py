"""The search finds an optimum that is known, and what it says of a schedule is what a config with it would do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Alibi, InputError, LongRope, Proportional, Rope, T5Bias, Yarn, chain
from posjax.data import Task
from posjax.evaluation import RAW, TrainedModel, Variant, measure
from posjax.evaluation.answers import answers
from posjax.models import build, constants_of
from posjax.search import Comparison, GradientSearch, Searched
from posjax.search.aim import Aim
from posjax.search.model import differentiable, loss_and_gradient, rope_of, with_schedule
from posjax.search.rows import rows, seed_for
from tests.evaluation.toys import VOCABULARY, L, documents, trained_model
from tests.small import small
from tests.training.tiny import optax_promotes  # noqa: F401

PLAIN = (1.0, 1.0, 1.0, 1.0)
TEACHER = LongRope(2.0, L, PLAIN, (1.0, 1.3, 2.0, 3.0), attention_factor=1.2)
ROPE = Rope(base=10.0)  # All of its pairs turn within the few tokens of a toy.


@dataclass(frozen=True, eq=False)
class Taught(Task):
    """Random tokens, and what a model with another schedule draws behind each: only that schedule foretells it best."""

    model: TrainedModel

    def questions(self, length, count, seed):
        random = np.random.default_rng(seed)
        inputs = random.integers(0, 256, (count, length)).astype(np.int32)
        logits = self._logits(inputs, length)
        targets = np.argmax(logits + random.gumbel(size=logits.shape), -1).astype(np.int32)
        return {"inputs": inputs, "targets": targets, "weights": np.ones(inputs.shape, np.float32)}

    def _logits(self, inputs, length):
        constants = constants_of(self.model.architecture, lambda e: with_schedule(TEACHER)(e).at_length(length))
        return np.asarray(self.model.model(jnp.asarray(inputs), constants=constants))


@pytest.mark.exhaustive
def test_it_finds_the_schedule_that_a_text_was_made_with():
    model = trained_model(ROPE)
    task = Taught(model)
    found = GradientSearch(steps=40, tokens=1024, checks=8, check_every=40, starts=("yarn",)).find(model, task, 2, 0)
    assert found.schedule.short_factor == PLAIN and found.schedule.attention_factor == 1.0
    np.testing.assert_allclose(found.schedule.long_factor, TEACHER.long_factor, rtol=0.1)
    np.testing.assert_allclose(found.schedule.long_attention_factor, 1.2, rtol=0.05)


@pytest.mark.exhaustive
def test_it_is_never_worse_than_where_it_began():
    model = trained_model(ROPE)
    wild = GradientSearch(steps=4, learning_rate=20.0, tokens=64, checks=4, check_every=2)
    found = wild.find(model, documents(), 4, 0)
    steps = {step.number: step.loss for step in found.checked}
    assert list(steps) == [0, 2, 4]
    assert found.best.loss == min(steps.values()) <= steps[0]
    for name in wild.starts:
        assert GradientSearch(steps=0, checks=4, starts=(name,)).find(model, documents(), 4, 0).best.loss >= steps[0]


def test_the_gradient_is_that_of_the_loss():
    # Of smaller weights than the others, whose loss bends within any step that float32 resolves.
    model = TrainedModel(build(small(ROPE, layers=2, deviation=1.0), VOCABULARY, 1), L)
    aim = Aim.of(model.architecture, L, 4)
    start = Yarn(4.0, L)
    graph, constants, state = differentiable(model, start)
    batch = {name: jnp.asarray(array) for name, array in rows(documents(), 4 * L, L, 4, 0).items()}
    point = aim.point(start)
    value, gradient = loss_and_gradient(graph, state, constants, point, batch)
    # The differentiable path begins where the exact one stands.
    exact, _ = answers(model, with_schedule(start), rows(documents(), 4 * L, L, 4, 0))
    np.testing.assert_allclose(value, exact.mean(), rtol=1e-5)
    step = 3e-3
    for name, number in point.items():
        for index in np.ndindex(number.shape):
            moved = [
                loss_and_gradient(graph, state, constants, {**point, name: number.at[index].add(s)}, batch)[0]
                for s in (step, -step)
            ]
            np.testing.assert_allclose(gradient[name][index], (moved[0] - moved[1]) / (2 * step), rtol=0.03, atol=5e-4)


def test_a_point_is_its_schedule_and_back():
    aim = Aim.of(small(ROPE), L, 4)
    schedule = aim.schedule(aim.point(Yarn(4.0, L)))
    assert schedule == eval(repr(schedule))
    assert replace(ROPE, schedule=schedule).at_length(L).schedule.frequencies(8, 10.0)[1] == 1.0
    past = schedule.at_length(4 * L).frequencies(8, 10.0)
    given = Yarn(4.0, L).frequencies(8, 10.0)
    np.testing.assert_allclose(past[0], given[0], rtol=1e-4)
    np.testing.assert_allclose(past[1], given[1], rtol=1e-4)


@pytest.mark.exhaustive
def test_what_is_measured_is_what_the_other_evaluations_measure():
    model = trained_model(chain(ROPE, T5Bias(buckets=8, max_distance=L)))
    compared = Comparison.draw(model, documents(), 4, 3, 0)
    found = {row.at("variant"): row for row in compared.of(4, {"yarn": Yarn(4.0, L)}) if row.metric == "loss"}
    for variant in (RAW, Variant("yarn", "extension")):
        losses, _ = measure.losses_and_mass(model, variant, 4, compared.windows)
        np.testing.assert_allclose(found[variant.name].value, losses[:, -L // 2 :].mean(), rtol=1e-5)


@pytest.mark.exhaustive
def test_the_evaluation_tells_every_schedule_and_what_was_found():
    model = trained_model(ROPE)
    search = GradientSearch(steps=2, tokens=64, checks=2)
    evaluation = Searched(multiples=(2, 4), windows=3, search=search)
    evaluation.rehearse(model.architecture, VOCABULARY, L)
    taken = list(evaluation.run(model, documents(), 0))
    assert evaluation.longest(L) == 4 * L
    at = {(row.metric, row.at("variant"), row.at("multiple")) for row in taken}
    for variant in ("raw", "linear", "ntk", "yarn", "found"):
        for multiple in (2, 4):
            assert {("loss", variant, multiple), ("loss_ratio", variant, multiple)} <= at
    yarns = [row.value for row in taken if row.metric == "ratio_to_yarn" and row.at("variant") == "yarn"]
    assert yarns == [1.0, 1.0]
    assert sum(row.metric == "divisor" for row in taken) == 2 * len(PLAIN)
    assert all(row.at("on") == "text" for row in taken)


def test_needles_of_a_text_repeat_what_is_out_of_reach():
    found = rows(documents(), 8 * L, L, 5, 0, "needles")
    piece = L // 4
    for inputs, targets, weights in zip(found["inputs"], found["targets"], found["weights"], strict=True):
        whole = np.append(inputs, targets[-1])
        end = whole[-piece:]
        places = [at for at in range(len(whole) - L - piece + 1) if np.array_equal(whole[at : at + piece], end)]
        assert places and weights[: -piece // 2].sum() == 0 and weights[-1] == 1
        assert np.array_equal(whole[1:], targets)


@pytest.mark.parametrize(
    ("encoding", "multiple", "named"),
    [
        (Alibi(), 4, "0 rotary encodings"),
        (Rope(schedule=Proportional(0.5)), 4, "never turn"),
        (ROPE, 1, "needed is 2 or more"),
        (ROPE, 2**14, "float32"),
    ],
)
def test_what_cannot_be_searched_for_is_one_line(encoding, multiple, named):
    with pytest.raises(InputError, match=named) as said:
        GradientSearch().check(small(encoding), L, multiple)
    assert "\n" not in str(said.value)


def test_two_rotations_are_refused_and_one_is_found():
    with pytest.raises(InputError, match="2 rotary encodings"):
        rope_of(small(Rope(), ROPE, layers=2))
    assert rope_of(small(chain(ROPE, Alibi()), Alibi(), layers=2)) == ROPE


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: GradientSearch(steps=-1), "steps=-1"),
        (lambda: GradientSearch(starts=("cubic",)), "starts="),
        (lambda: Searched(multiples=(1, 2)), "2 or more"),
        (lambda: Searched(schedules=("ntk",)), "needed are yarn"),
        (lambda: Searched(search=GradientSearch(on="text")).require(Taught(None)), "is a task"),
    ],
)
def test_values_out_of_range_are_refused(make, named):
    with pytest.raises(InputError, match=named):
        make()


def test_the_rows_of_steps_and_checks_are_others():
    assert len({seed_for(0, "steps"), seed_for(0, "checks"), seed_for(1, "steps")}) == 3
    assert jax.tree.all(jax.tree.map(np.array_equal, rows(documents(), 16, L, 3, 1), rows(documents(), 16, L, 3, 1)))
