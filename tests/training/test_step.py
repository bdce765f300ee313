"""One step: its loss, its devices, and that everything that should move does."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax.encodings import Learned, T5Bias
from posjax.errors import InputError
from posjax.models import Compute, cross_entropy
from posjax.training import CausalLM, Devices, mesh as meshes
from posjax.training.speed import Tracing
from tests.training.tiny import Warm, batches, corpus, decoder, optax_promotes, train  # noqa: F401

STEPS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return batches(corpus(tmp_path_factory.mktemp("text")))


@pytest.fixture(scope="module")
def trainer():
    return Warm(train(), decoder(Learned(length=8)))


def steps(trainer, data, seed=0, count=STEPS):
    """The metrics of a few steps, and the state after them."""
    state, advance = trainer.start(seed), trainer.compiled(seed)
    seen = []
    for n in range(count):
        state, numbers = advance(state, meshes.place(data.batch(n), trainer.mesh))
        seen.append(jax.device_get(numbers))
    return seen, state


def test_two_devices_give_the_losses_of_one(data):
    losses = {}
    for devices in (1, 2):
        trainer = train(devices=Devices(data=devices)).trainer(decoder(T5Bias(buckets=8, max_distance=8)), 257)
        assert trainer.mesh.shape == {"data": devices, "fsdp": 1, "tensor": 1, "context": 1}
        seen, state = steps(trainer, data)
        losses[devices] = [s["loss"] for s in seen]
        assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)} == {devices}
    np.testing.assert_allclose(losses[1], losses[2], rtol=0, atol=1e-5)
    assert losses[1][-1] < losses[1][0]


def test_a_batch_lies_split_by_rows():
    mesh = Devices(data=2).mesh(4)
    placed = meshes.place({"inputs": np.arange(8, dtype=np.int32).reshape(4, 2)}, mesh)["inputs"]
    shards = sorted((shard.index[0].start or 0, shard.data.tolist()) for shard in placed.addressable_shards)
    assert shards == [(0, [[0, 1], [2, 3]]), (2, [[4, 5], [6, 7]])]


def test_all_devices_are_taken_unless_told():
    assert Devices().mesh(4).shape["data"] == 2
    assert Devices(fsdp=2).mesh(4).shape == {"data": 1, "fsdp": 2, "tensor": 1, "context": 1}


@pytest.mark.parametrize(
    ("devices", "batch", "said"),
    [
        (2, 3, "3 rows does not divide among 2"),
        (3, 6, "asks for 3 devices .* 2 are there"),
        (0, 4, "1 .. 2"),
        (-1, 4, "1 .. 2"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(devices, batch, said):
    with pytest.raises(InputError, match=said):
        Devices(data=devices).mesh(batch)


def test_the_first_loss_is_the_models_own_on_weighted_targets(data, trainer):
    batch = data.batch(0)
    batch["weights"][:, ::3] = 0.0
    graph, state = trainer.graph(), trainer.start(3)
    model = nnx.merge(graph, state.params)
    each = np.asarray(cross_entropy(model(jnp.asarray(batch["inputs"])), jnp.asarray(batch["targets"])))
    want = float((each * batch["weights"]).sum() / batch["weights"].sum())
    _, numbers = trainer.compiled(3)(state, meshes.place(batch, trainer.mesh))
    assert float(numbers["loss"]) == pytest.approx(want, abs=1e-5)


def test_the_seed_is_the_start(trainer):
    one, same, other = (jax.device_get(trainer.start(seed).params) for seed in (1, 1, 2))
    assert jax.tree.all(jax.tree.map(np.array_equal, one, same))
    assert not jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_every_parameter_moves_the_encodings_too(data, trainer):
    before = jax.device_get(trainer.start(0).params)
    _, state = steps(trainer, data)
    after = jax.device_get(state.params)
    still = [
        jax.tree_util.keystr(path)
        for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
        if np.array_equal(a, b)
    ]
    assert still == []
    assert int(state.step) == STEPS


def test_the_abstract_state_is_the_state_without_numbers():
    trainer = train(devices=Devices(data=2)).trainer(decoder(), 257)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), trainer.start(0))
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), trainer.abstract())


def test_many_steps_are_one_compilation(data):
    trainer, compiled = train().trainer(decoder(Learned(length=8)), 257), []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if name.endswith("backend_compile_duration") else None
    )
    advance, state = trainer.compiled(0), trainer.start(0)
    counts = []
    for n in range(4):
        state, _ = advance(state, meshes.place(data.batch(n), trainer.mesh))
        counts.append(len(compiled))
    assert counts[0] >= 1 and set(counts) == {counts[0]}


@pytest.mark.exhaustive
def test_layers_that_are_stacked_train_as_they_do_one_by_one(data):
    model = decoder(T5Bias(buckets=8, max_distance=8), layers=3)
    each = train().trainer(model, 257)
    together = train(compute=Compute(scan=True)).trainer(model, 257)
    wanted, one_by_one = steps(each, data, count=2)
    got, state = steps(together, data, count=2)
    np.testing.assert_allclose([s["loss"] for s in got], [s["loss"] for s in wanted], atol=1e-6)
    kernel = state.params["blocks"]["decoder"][0]["attention"]["query"]["kernel"]
    assert kernel.get_value().shape == (3, 16, 2, 8) and kernel.letters == "LDNH"
    params = nnx.state(together.trained(state.params))
    assert jax.tree.structure(params) == jax.tree.structure(one_by_one.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), params, one_by_one.params)


@pytest.mark.exhaustive
def test_a_model_that_was_trained_around_a_ring_is_used_without_one():
    trainer = train(compute=Compute(backend="ring")).trainer(decoder(), 257)
    model = trainer.trained(trainer.start(0).params)
    assert model(jnp.zeros((1, 4), jnp.int32)).shape == (1, 4, 257)


@pytest.mark.exhaustive
def test_remat_and_bfloat16_train_too(data, trainer):
    learned = Learned(length=8)
    plain, _ = steps(trainer, data, count=2)
    remat, _ = steps(train(compute=Compute(remat="all")).trainer(decoder(learned), 257), data, count=2)
    narrow = Compute(dtype="bfloat16")
    short, _ = steps(train(compute=narrow).trainer(decoder(learned), 257), data, count=2)
    np.testing.assert_allclose([s["loss"] for s in plain], [s["loss"] for s in remat], atol=1e-5)
    np.testing.assert_allclose([s["loss"] for s in plain], [s["loss"] for s in short], atol=0.05)


@pytest.fixture
def profiler(monkeypatch):
    """jax's own, as far as it refuses: two traces at once, and to end one that was not begun."""
    began = []

    def start(folder):
        assert not began, "Profile has already been started"
        began.append(folder)

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: began.remove(str(Path("profile"))))
    return began


@pytest.mark.parametrize(
    ("profile", "steps", "traced"),
    [("2:3", range(1, 5), 2), ("2:3", range(3, 5), 1), ("3:9", range(1, 5), 2), ("2:3", range(4, 5), 0)],
)
def test_a_trace_ends_wherever_a_training_begins_and_ends(profiler, profile, steps, traced):
    # Of two runs in one process, too.
    for _ in range(2):
        seen = 0
        with Tracing(profile, Path("profile")) as tracing:
            for step in steps:
                tracing.before(step)
                seen += len(profiler)
                tracing.after(step, jnp.zeros(()))
        assert seen == traced and not profiler


def test_a_trace_ends_where_a_training_is_interrupted(profiler):
    with pytest.raises(KeyboardInterrupt), Tracing("1:9", Path("profile")) as tracing:
        tracing.before(1)
        raise KeyboardInterrupt
    assert not profiler


def test_what_does_not_count_may_be_nan():
    logits = jnp.zeros((1, 3, 5)).at[0, 2].set(jnp.nan)
    batch = {"inputs": jnp.zeros((1, 3), jnp.int32), "targets": jnp.zeros((1, 3), jnp.int32)}
    weights = jnp.array([[1.0, 1.0, 0.0]])
    total = CausalLM().total(lambda *given, **more: logits, {**batch, "weights": weights}, jax.random.key(0))
    np.testing.assert_allclose(total, 2 * np.log(5), rtol=1e-6)
