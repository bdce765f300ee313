"""The optimiser as a value: its schedule, its clipping, what decays, and what it refuses."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posjax.errors import InputError
from posjax.training import AdamW
from tests.training.tiny import optax_promotes  # noqa: F401


def test_the_rate_rises_linearly_and_falls_along_a_cosine():
    schedule = AdamW(learning_rate=2e-3, warmup=0.1, final=0.25).schedule(200)
    rate = np.array([float(schedule(step)) for step in range(200)])
    np.testing.assert_allclose(rate[:20], 2e-3 * np.arange(1, 21) / 20, rtol=1e-6)
    cosine = [5e-4 + 1.5e-3 * (1 + math.cos(math.pi * n / 180)) / 2 for n in range(181)]
    np.testing.assert_allclose(rate[19:], cosine, rtol=1e-5)
    assert rate[199] == pytest.approx(5e-4, rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 1.0])
def test_the_first_step_moves(steps, warmup):
    params = {"a": jnp.ones((2, 2))}
    transform = AdamW(learning_rate=0.1, warmup=warmup, weight_decay=0.0).build(steps)
    updates, _ = transform.update({"a": jnp.ones((2, 2))}, transform.init(params), params)
    # Adam's first step is as long as the rate: 1/w of the peak.
    np.testing.assert_allclose(updates["a"], -0.1 / max(1, round(warmup * steps)), rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 1.0])
def test_the_shortest_runs_have_finite_rates(steps, warmup):
    schedule = AdamW(warmup=warmup).schedule(steps)
    assert all(math.isfinite(float(schedule(step))) for step in range(steps + 1))


def test_only_matrices_decay():
    params = {"matrix": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    transform = AdamW(learning_rate=0.1, warmup=0.0, weight_decay=0.5).build(10)
    state = transform.init(params)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, state = transform.update(zero, state, params)
    np.testing.assert_allclose(updates["matrix"], -0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(updates["scale"], 0.0)


def test_adam_is_blind_to_the_size_of_a_gradient_but_the_clip_bounds_what_it_remembers():
    params, gradient = {"a": jnp.zeros(4)}, {"a": jnp.full(4, 100.0)}
    transform = AdamW(clip=0.5).build(10)
    _, state = transform.update(gradient, transform.init(params), params)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (4,)]
    clipped = 0.5 / 2  # Four equal numbers of norm 0.5.
    np.testing.assert_allclose(moments[0], (1 - 0.9) * clipped, rtol=1e-5)
    np.testing.assert_allclose(moments[1], (1 - 0.95) * clipped**2, rtol=1e-5)


def test_it_is_optax_adamw_where_nothing_is_clipped():
    params = {"a": jnp.array([[1.0, -2.0]])}
    ours, theirs = AdamW(clip=1e9), AdamW(clip=1e9)
    plain = optax.adamw(theirs.schedule(5), b1=0.9, b2=0.95, weight_decay=0.1)
    state, plain_state = ours.build(5).init(params), plain.init(params)
    here, there = params, params
    for step in range(3):
        gradient = {"a": jnp.array([[0.3, -0.1]]) * (step + 1)}
        updates, state = ours.build(5).update(gradient, state, here)
        here = optax.apply_updates(here, updates)
        updates, plain_state = plain.update(gradient, plain_state, there)
        there = optax.apply_updates(there, updates)
    np.testing.assert_allclose(here["a"], there["a"], rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.0},
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"warmup": 1.5},
        {"warmup": -0.1},
        {"final": 2.0},
        {"clip": 0.0},
    ],
)
def test_what_cannot_work_is_refused_by_name(changes):
    ((name, value),) = changes.items()
    with pytest.raises(InputError, match=f"{name}={value}"):
        AdamW(**changes)
