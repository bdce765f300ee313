"""Checks while training: a sound model passes, and each planted fault ends the training at the first check."""

from __future__ import annotations

from dataclasses import dataclass, replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Alibi, DynamicNTK, Fire, Kerple, Learned, Rope, T5Bias, XPos, Yarn, chain, invariants
from posjax.attention import BACKENDS, Backend, per_device, reference
from posjax.encodings.base import Dims, complete
from posjax.errors import BrokenLaw, InputError
from posjax.models import Compute, assert_model, build
from posjax.models.law_scope import left_out
from posjax.models.presets import encoder, encoder_decoder
from posjax.training import Check, Devices, SeqToSeq, Train, fit, restored
from posjax.training.checks import Checks
from posjax.training.mesh import place
from tests.cases import first_of
from tests.small import small
from tests.training.tiny import batches, corpus, decoder, optax_promotes, train  # noqa: F401

DIMS = Dims(heads=2, head_size=8, model_size=16)
LENGTH = 8
ONE = Devices(data=1)


def told(model, devices=ONE, **changes) -> tuple[str | None, list[str]]:
    """What the first check of a training says, and what it leaves out."""
    plan = Train(length=LENGTH, batch=4, devices=devices, check=Check(every=1), **changes)
    trainer = plan.trainer(model, 32)
    state = trainer.start(0)
    tokens = np.random.default_rng(0).integers(0, 32, (4, LENGTH)).astype(np.int32)
    batch = place({"inputs": tokens}, trainer.mesh)
    said: list[str] = []
    return Checks(plan.check, trainer, said.append).broken(state.params, batch), said


# Sound models ---------------------------------------------------------------------------------------------------------
@pytest.mark.exhaustive
def test_a_sound_model_breaks_nothing():
    encoding = chain(Rope(schedule=DynamicNTK(2.0, 4)), Alibi())
    compute = Compute(dtype="bfloat16", scan=True)
    assert told(decoder(encoding, layers=2), Devices(data=1, context=2), compute=compute) == (None, [])


SOUND = (Rope(), T5Bias(buckets=8, max_distance=16), Kerple(), Fire(), XPos())
MESHES = (ONE, Devices(data=2), Devices(data=1, fsdp=2), Devices(data=1, tensor=2))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("encoding", "devices", "dtype"),
    [
        # Each encoding on each mesh, in both types of numbers on two of them; so is each mesh with the encodings.
        (encoding, devices, ("float32", "bfloat16")[(i + j) % 2])
        for i, encoding in enumerate(SOUND)
        for j, devices in enumerate(MESHES)
    ],
    ids=str,
)
def test_every_sound_model_breaks_nothing(encoding, devices, dtype):
    found, _ = told(decoder(encoding, layers=4), devices, compute=Compute(dtype=dtype))
    assert found is None


@pytest.mark.exhaustive
def test_what_says_nothing_of_a_model_is_left_out_and_told():
    assert told(decoder(Learned(LENGTH)), compute=Compute(backend="reference")) == (
        None,
        [f"the checks leave out shift ({Learned(LENGTH)!r} is not relative)"],
    )
    assert set(left_out(encoder_decoder(layers=1, width=16, heads=2), LENGTH)) == {"pack", "length"}
    assert set(left_out(encoder(layers=1, width=16, heads=2), LENGTH)) == {"decode", "length"}


@pytest.mark.exhaustive
def test_a_model_too_large_for_one_device_is_held_to_the_other_laws(monkeypatch):
    plan = Train(length=LENGTH, batch=4, devices=Devices(data=2), check=Check(every=1, parameters=10))
    trainer = plan.trainer(decoder(), 32)
    batch = place({"inputs": np.zeros((4, LENGTH), np.int32)}, trainer.mesh)
    said: list[str] = []
    checks = Checks(plan.check, trainer, said.append)
    params = trainer.start(0).params
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, _, **__: compiled.append(name))
    assert checks.broken(params, batch) is None
    assert said == ["the checks leave out mesh (2,864 parameters are more than 10)"]
    compiled.clear()
    # A second check compiles nothing and tells nothing.
    assert checks.broken(params, batch) is None
    assert len(said) == 1 and not [name for name in compiled if "backend_compile" in name]


# The four faults ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class PairwiseAlibi(Alibi):
    """ALiBi that each device computes for its own heads."""

    @property
    def bias_kind(self):
        return "pairwise"


def from_head_0(bias, heads, count):
    return bias.of_heads(0, count) if heads else bias


@pytest.mark.exhaustive
@first_of(("fault", "dtype"), [(False, "float32"), (True, "float32"), (True, "bfloat16")], keep=1)
def test_slopes_counted_from_head_0_on_each_shard(fault, dtype, monkeypatch):
    wrong = Backend(per_device.per_device(reference.attention), reference.refuse)
    monkeypatch.setitem(BACKENDS, "by_shard", wrong)
    if fault:
        monkeypatch.setattr(per_device, "_own_heads", from_head_0)
    found, _ = told(decoder(PairwiseAlibi()), Devices(data=1, tensor=2), compute=Compute(dtype, backend="by_shard"))
    assert found is None if not fault else "the law 'mesh'" in found


@dataclass(frozen=True)
class FrozenNTK(DynamicNTK):
    """Its frequencies are those of the trained length, whatever the context."""

    def frequencies(self, rotary_size, base, length=None):
        return replace(self, length=None).inner().frequencies(rotary_size, base)

    def inner(self):
        return DynamicNTK(self.factor, self.original_length)


@pytest.mark.exhaustive
def test_a_frozen_dynamic_ntk(monkeypatch):
    dynamic = Rope(schedule=DynamicNTK(2.0, LENGTH))
    invariants.assert_length(dynamic, DIMS, LENGTH)
    found, _ = told(decoder(Rope(schedule=FrozenNTK(2.0, LENGTH))))
    assert found is not None and "the same at every length" in found
    # Frozen in the model rather than in the encoding.
    monkeypatch.setattr("posjax.attention.context_length", lambda encoding, length, end: LENGTH)
    found, _ = told(decoder(dynamic))
    assert found is not None and "the law 'length'" in found


@dataclass(frozen=True)
class SquaredYarn(Yarn):
    def frequencies(self, rotary_size, base, length=None):
        frequencies, factor = super().frequencies(rotary_size, base, length)
        return frequencies, factor**2


@dataclass(frozen=True)
class ScaledAgain(Rope):
    def rotate(self, params, x, positions, role):
        factor = complete(self, params, Dims(head_size=x.shape[-1]))["factor"]
        return super().rotate(params, x, positions, role) * jnp.asarray(factor, x.dtype)


YARN = Yarn(4.0, LENGTH)


@pytest.mark.parametrize("wrong", [Rope(schedule=SquaredYarn(4.0, LENGTH)), ScaledAgain(schedule=YARN)], ids=repr)
def test_a_temperature_that_is_applied_twice(wrong):
    invariants.assert_temperature(Rope(schedule=YARN), DIMS)
    invariants.assert_temperature(Rope(schedule=Yarn(4.0, LENGTH, attention_factor=1.7)), DIMS)
    found, _ = told(decoder(wrong))
    assert found is not None and "the law 'temperature'" in found


def test_a_temperature_in_the_rotation_and_in_the_scale():
    model = decoder(Rope(schedule=YARN))
    (layer,) = model.decoder.pattern
    attention, fed = layer.sublayers
    _, factor = YARN.frequencies(8, 10_000.0)
    scores = replace(attention.scores, scale=factor**2 / 8**0.5)
    again = replace(layer, sublayers=(replace(attention, scores=scores), fed))
    found, _ = told(replace(model, decoder=replace(model.decoder, pattern=(again,))))
    assert found is not None and "has it again" in found


@dataclass(frozen=True)
class ResetAtEdge(Rope):
    """Counts from 0 on each device that shares a row."""

    def prepare(self, params, positions, dims):
        shards = jax.sharding.get_abstract_mesh().shape.get("context", 1)
        return super().prepare(params, positions % (LENGTH // shards), dims)


@pytest.mark.exhaustive
def test_positions_reset_at_the_edge_of_a_shard():
    found, _ = told(decoder(ResetAtEdge()), Devices(data=1, context=2))
    assert found is not None and "the law 'mesh'" in found


@pytest.mark.exhaustive
@pytest.mark.parametrize("encoding", [Rope(), Rope(schedule=DynamicNTK(4.0, 4))], ids=repr)
def test_an_encoder_and_its_decoder_are_checked_together(encoding):
    model = encoder_decoder(encoding, layers=1, width=16, heads=2)
    plan = Train(length=LENGTH, batch=4, devices=ONE, check=Check(every=1), objective=SeqToSeq())
    trainer = plan.trainer(model, 32)
    tokens = np.random.default_rng(0).integers(0, 32, (2, 4, LENGTH)).astype(np.int32)
    real = np.arange(LENGTH)[None] < np.array([8, 8, 5, 3])[:, None]
    batch = place({"inputs": tokens[0], "source": tokens[1], "real": real}, trainer.mesh)
    assert Checks(plan.check, trainer, print).broken(trainer.start(0).params, batch) is None


def test_padding_has_no_say():
    plan = Train(length=LENGTH, batch=4, devices=ONE, check=Check(every=1))
    trainer = plan.trainer(decoder(), 32)
    row = [0, 1, 2, 0, 1, 2, -1, -1]
    segments = [1, 1, 1, 2, 2, 2, 0, 0]
    rows = {"inputs": [3] * LENGTH, "positions": row, "segments": segments}
    batch = place({name: np.array([part] * 4, np.int32) for name, part in rows.items()}, trainer.mesh)
    assert Checks(plan.check, trainer, print).broken(trainer.start(0).params, batch) is None


# Other faults ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class RoundedAngles(Rope):
    """Angles of float32 positions, as elsewhere."""

    def prepare(self, params, positions, dims):
        held = complete(self, params, dims)
        rates, _ = self.schedule.frequencies(dims.head_size, self.base)
        angles = jnp.asarray(positions, jnp.float32)[..., None] * jnp.asarray(rates, jnp.float32)[None]
        return {**held, "cos": jnp.cos(angles), "sin": jnp.sin(angles)}


@dataclass(frozen=True)
class FromTheFirst(Rope):
    """Counts from the first token that it is given."""

    def prepare(self, params, positions, dims):
        return super().prepare(params, positions - jnp.min(positions), dims)


TOKENS = np.random.default_rng(0).integers(0, 32, (2, LENGTH)).astype(np.int32)


@pytest.mark.parametrize(("wrong", "law"), [(RoundedAngles(), "shift"), (FromTheFirst(), "decode")], ids=str)
def test_a_model_of_ones_own_is_held_in_any_loop(wrong, law):
    with pytest.raises(AssertionError, match=f"the model breaks the law '{law}': the error is .* at token"):
        assert_model(build(decoder(wrong), 32, seed=0), TOKENS)


def test_documents_that_read_each_other(monkeypatch):
    model = build(small(T5Bias(buckets=8, max_distance=16)), 32, seed=0)
    monkeypatch.setattr("posjax.models.preparing._joint", lambda kind, called: kind.mask)
    with pytest.raises(AssertionError, match="the law 'pack'"):
        assert_model(model, TOKENS)
    chex.disable_asserts()
    try:
        assert_model(model, TOKENS)
    finally:
        chex.enable_asserts()


def test_logits_that_are_no_numbers():
    plan = Train(length=LENGTH, batch=4, devices=Devices(data=1), check=Check(every=1))
    trainer = plan.trainer(decoder(), 32)
    params = jax.tree.map(lambda x: x * jnp.nan, trainer.start(0).params)
    batch = place({"inputs": np.zeros((4, LENGTH), np.int32)}, trainer.mesh)
    found = Checks(plan.check, trainer, print).broken(params, batch)
    assert found is not None and "finite" in found.lower() and "\n" not in found


# In the loop ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return batches(corpus(tmp_path_factory.mktemp("text")))


def test_a_broken_law_ends_a_training_at_the_first_step(tmp_path, data):
    plan = train(check=Check(every=100))
    trainer = plan.trainer(decoder(Rope(schedule=FrozenNTK(2.0, LENGTH))), 257)
    with pytest.raises(BrokenLaw, match=r"at step 1 Rope.*no checkpoint was saved before it .*check.every 0") as stop:
        fit(plan, trainer, data, 0, tmp_path)
    assert stop.value.code == 3 and "\n" not in str(stop.value)


@pytest.mark.exhaustive
def test_checks_change_no_bit_and_a_run_goes_on_without_them(tmp_path, data, monkeypatch):
    plan, silent = train(check=Check(every=2)), train()
    trainer = plan.trainer(decoder(), 257)
    plain = fit(silent, trainer, data, 0, tmp_path / "plain")
    asked: list[int] = []

    def broken(self, params, batch):
        asked.append(int(batch["inputs"].shape[0]))
        return "the model breaks something" if len(asked) == 3 else None

    monkeypatch.setattr(Checks, "broken", broken)
    with pytest.raises(BrokenLaw, match="at step 5 the model breaks something; the last good checkpoint is step 3"):
        fit(plan, trainer, data, 0, tmp_path / "run")
    assert asked == [4, 4, 4]
    chex.disable_asserts()
    try:
        again = fit(plan, trainer, data, 0, tmp_path / "run")
    finally:
        chex.enable_asserts()
    assert len(asked) == 3 and restored(tmp_path / "run" / "checkpoints", trainer.abstract()).step == 6
    assert jax.tree.all(jax.tree.map(np.array_equal, jax.device_get(again), jax.device_get(plain)))


@pytest.mark.parametrize("name", ["every", "length", "parameters"])
def test_a_number_below_its_least_is_refused_by_name(name):
    with pytest.raises(InputError, match=name):
        Check(**{name: -1})
