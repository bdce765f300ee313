"""Optimisers as values: each is optax's own, what is clipped and what decays, which state it keeps, what it refuses."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optax.contrib import muon

from posjax import Learned, identity
from posjax.errors import InputError
from posjax.models import Compute, build
from posjax.models.folding import fold, unfold
from posjax.training import Adafactor, AdamW, Constant, Cosine, Lion, Muon
from tests.cases import first_of
from tests.training.tiny import batches, corpus, decoder, optax_promotes, train  # noqa: F401

EVERY = (AdamW(), Adafactor(), Lion(), Muon())
AT_ONCE = Constant(warmup=0.0)
WIDE = 1e9
"""A norm that clips nothing."""

D, N, H, F = 6, 2, 4, 10


def parameters():
    """What a layer has, by the names and axes of our models."""
    shapes = {
        "embedding": {"embedding": (7, D)},
        "head": {"table": {"kernel": (D, 7)}},
        "blocks": {
            "query": {"kernel": (D, N, H), "bias": (N, H)},
            "out": {"kernel": (N, H, D)},
            "up": {"kernel": (D, F)},
            "norm": {"scale": (D,)},
        },
        "encodings": {"table": (N, 5)},
    }
    return drawn(shapes, 0)


def drawn(shapes, seed):
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda shape: isinstance(shape, tuple))
    random = np.random.default_rng(seed)
    arrays = [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in leaves]
    return structure.unflatten(arrays)


def flat(tree):
    """The same, its kernels the matrices that they multiply by."""
    blocks = {name: dict(part) for name, part in tree["blocks"].items()}
    blocks["query"]["kernel"] = blocks["query"]["kernel"].reshape(D, N * H)
    blocks["out"]["kernel"] = blocks["out"]["kernel"].reshape(N * H, D)
    return {**tree, "blocks": blocks}


def three_steps(transform, params, see=lambda tree: tree):
    params, state = see(params), transform.init(see(params))
    for step in range(3):
        gradient = see(drawn(jax.tree.map(jnp.shape, parameters()), 1 + step))
        with jax.numpy_dtype_promotion("standard"):
            updates, state = transform.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def decays(params):
    """Written out by hand: maps and tables."""
    one = jax.tree.map(lambda _: True, params)
    blocks = one["blocks"]
    return {**one, "blocks": {**blocks, "query": {"kernel": True, "bias": False}, "norm": {"scale": False}}}


def muon_by_hand(rms, adam_rate):
    """Over matrices of two axes; the rest by AdamW."""
    hidden = {"query": {"kernel": True, "bias": False}, "out": {"kernel": True}, "up": {"kernel": True}}
    labels = jax.tree.map(lambda _: "rest", parameters())
    labels["blocks"] = jax.tree.map(lambda takes: "hidden" if takes else "rest", {**hidden, "norm": {"scale": False}})
    both = {
        "hidden": muon(0.02, ns_steps=5, beta=0.95, weight_decay=0.1, consistent_rms=rms),
        "rest": optax.adamw(adam_rate, b1=0.9, b2=0.95, weight_decay=0.1, mask=decays),
    }
    return optax.partition(both, labels)


PAIRS = {
    "AdamW": (
        AdamW(1e-2, AT_ONCE, WIDE),
        lambda: optax.adamw(1e-2, b1=0.9, b2=0.95, weight_decay=0.1, mask=decays),
    ),
    "Lion": (Lion(1e-2, AT_ONCE, WIDE), lambda: optax.lion(1e-2, b1=0.9, b2=0.99, weight_decay=1.0, mask=decays)),
    "Adafactor": (Adafactor(1e-2, AT_ONCE, WIDE), lambda: optax.adafactor(1e-2)),
    "Adafactor, factored": (
        Adafactor(1e-2, AT_ONCE, WIDE, factor_from=6),
        lambda: optax.adafactor(1e-2, min_dim_size_to_factor=6),
    ),
    "Muon": (Muon(0.02, AT_ONCE, WIDE), lambda: muon_by_hand(0.2, 0.02)),
    "Muon, as first published": (
        Muon(0.02, AT_ONCE, WIDE, rms=None, adam_learning_rate=3e-4),
        lambda: muon_by_hand(None, 3e-4),
    ),
}


@first_of("name", PAIRS, keep=1)
def test_three_steps_are_those_of_optax_on_matrices(name):
    ours, theirs = PAIRS[name]
    here = three_steps(ours.build(5), parameters())
    there = three_steps(theirs(), parameters(), flat)
    for mine, plain in zip(jax.tree.leaves(flat(here)), jax.tree.leaves(there), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=2e-5, atol=1e-6)


@first_of("optimizer", EVERY, ids=lambda one: type(one).__name__, keep=2)
def test_the_rate_of_each_step_is_the_schedule_s(optimizer):
    # A decay alone moves by the rate; and without one, a gradient of one sign by as much as it can.
    low, high = type(optimizer)(1e-3, AT_ONCE), type(optimizer)(2e-3, AT_ONCE)
    params = parameters()
    gradient = jax.tree.map(jnp.ones_like, params)
    moved = []
    for one in (low, high, type(optimizer)(2e-3, Constant(warmup=1.0))):
        updates, _ = one.build(2).update(gradient, one.build(2).init(params), params)
        moved.append(float(optax.tree.norm(updates)))
    assert moved[1] == pytest.approx(2 * moved[0], rel=1e-4)
    # Half of the peak at the first of two steps that warm up.
    assert moved[2] == pytest.approx(moved[0], rel=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 1.0])
def test_the_first_step_moves(steps, warmup):
    params = {"a": jnp.ones((2, 2))}
    transform = AdamW(learning_rate=0.1, schedule=Cosine(warmup), weight_decay=0.0).build(steps)
    updates, _ = transform.update({"a": jnp.ones((2, 2))}, transform.init(params), params)
    # Adam's first step is as long as the rate: 1/w of the peak.
    np.testing.assert_allclose(updates["a"], -0.1 / max(1, round(warmup * steps)), rtol=1e-5)


@pytest.mark.parametrize("kind", [AdamW, Lion, Muon])
def test_scales_and_biases_do_not_decay(kind):
    params = parameters()
    zero = jax.tree.map(jnp.zeros_like, params)
    transform = kind(0.1, AT_ONCE, weight_decay=0.5).build(10)
    updates, _ = transform.update(zero, transform.init(params), params)
    pulled = jax.tree.map(lambda parameter, decay: -0.1 * 0.5 * np.asarray(parameter) * decay, params, decays(params))
    jax.tree.map(lambda update, wanted: np.testing.assert_allclose(update, wanted, rtol=1e-6), updates, pulled)


def test_adam_is_blind_to_the_size_of_a_gradient_but_the_clip_bounds_what_it_remembers():
    params, gradient = {"a": jnp.zeros(4)}, {"a": jnp.full(4, 100.0)}
    transform = AdamW(clip=0.5).build(10)
    _, state = transform.update(gradient, transform.init(params), params)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (4,)]
    clipped = 0.5 / 2  # Four equal numbers of norm 0.5.
    np.testing.assert_allclose(moments[0], (1 - 0.9) * clipped, rtol=1e-5)
    np.testing.assert_allclose(moments[1], (1 - 0.95) * clipped**2, rtol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "moments"), [(AdamW(), 2), (Lion(), 1), (Muon(), None), (Adafactor(), 1)], ids=repr
)
def test_state_of_a_parameter_s_shape_has_its_path(optimizer, moments):
    model = build(decoder(Learned(8)), 11, 0, Compute())
    params = nnx.state(model)
    found = {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(optimizer.build(5).init(params))
    }
    for path, parameter in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        shapes = [leaf.shape for where, leaf in found.items() if where.endswith(name)]
        held = shapes.count(parameter.shape)
        wanted = moments
        if wanted is None:
            # One moment of a matrix between hidden layers, Adam's two of the rest.
            wanted = 1 if "'blocks'" in name and "'kernel'" in name else 2
        # Beside it Adafactor has two places for the sums that it does not keep here.
        assert held == wanted and all(math.prod(shape) == 1 for shape in shapes if shape != parameter.shape), name


@pytest.mark.exhaustive
@first_of("optimizer", [*EVERY, Adafactor(factor_from=8)], ids=repr, keep=1)
def test_layers_that_are_held_as_one_move_as_they_do_apart(optimizer):
    looped = Compute(scan=True)
    apart, held = (build(decoder(Learned(8), layers=3), 11, 0, looped) for _ in range(2))
    moved = []
    for params in (nnx.state(apart), nnx.state(fold(held))):
        # Of each number by itself, and so the same however the layers lie; each layer's is of another size.
        gradient = jax.tree.map(lambda x: jnp.sin(7 * x) * (x + 0.1), params)
        transform = optimizer.build(5)
        state = transform.init(params)
        for _ in range(2):
            with jax.numpy_dtype_promotion("standard"):
                updates, state = transform.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        moved.append(params)
    nnx.update(held, moved[1])
    one_by_one = nnx.state(unfold(held))
    for mine, plain in zip(jax.tree.leaves(one_by_one), jax.tree.leaves(moved[0]), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=1e-5, atol=1e-6)


def test_a_factored_kernel_keeps_a_row_and_a_column():
    state = Adafactor(factor_from=6).build(5).init(parameters())
    shapes = {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(state)}
    for name, rows, columns in (("query", D, N * H), ("out", N * H, D)):
        # Which of the two optax calls the row is its own affair.
        kept = [shape for where, shape in shapes.items() if f"'{name}'" in where and "kernel" in where]
        assert sorted(kept) == sorted([(rows,), (columns,), (1,)])


@pytest.mark.exhaustive
@first_of("optimizer", [Adafactor(3e-2), Lion(1e-3), Muon(1e-2)], ids=lambda one: type(one).__name__, keep=1)
def test_the_loss_falls(tmp_path, optimizer):
    plan = train(optimizer=optimizer, steps=12)
    trainer, rows = plan.trainer(decoder(), 257), batches(corpus(tmp_path))
    state, advance = trainer.start(0), trainer.compiled(0)
    losses = []
    for step in range(plan.steps):
        state, metrics = advance(state, jax.tree.map(jnp.asarray, rows.batch(step)))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.3, losses


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *(
            (kind, {"learning_rate": value})
            for kind in (AdamW, Lion, Adafactor, Muon)
            for value in (0.0, -1.0, math.nan)
        ),
        (AdamW, {"clip": 0.0}),
        (AdamW, {"b1": 1.0}),
        (AdamW, {"weight_decay": -0.1}),
        (Lion, {"b2": -0.1}),
        (Lion, {"weight_decay": -1.0}),
        (Adafactor, {"decay": 0.0}),
        (Adafactor, {"threshold": 0.5}),
        (Adafactor, {"factor_from": 1}),
        (Muon, {"beta": 1.0}),
        (Muon, {"iterations": 0}),
        (Muon, {"rms": 0.0}),
        (Muon, {"adam_learning_rate": -1.0}),
    ],
)
def test_what_cannot_work_is_refused_by_name(kind, changes):
    ((name, value),) = changes.items()
    with pytest.raises(InputError, match=f"{kind.__name__} got {name}={value}"):
        kind(**changes)


@pytest.mark.parametrize(("name", "now"), [("warmup", "Cosine"), ("final", "Cosine")])
def test_a_field_that_moved_says_where_it_is(name, now):
    with pytest.raises(InputError, match=rf"AdamW got {name}=0.1: .* write AdamW\(schedule={now}\({name}=") as told:
        AdamW(**dict.fromkeys([name], 0.1))  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_an_optimiser_is_a_value(optimizer):
    assert eval(repr(optimizer)) == optimizer and hash(optimizer) == hash(type(optimizer)())
    # What belongs to a folder is told by the class too: all of them have learning rates.
    assert len({identity.fingerprint(one) for one in EVERY}) == len(EVERY)
