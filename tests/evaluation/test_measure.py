"""What is measured, against loops that a reader can check."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax.encodings import Alibi, Dims, Learned, Rope, Sinusoidal, T5Bias, chain
from posjax.evaluation import RAW, WINDOWED, TrainedModel, Variant, batching, extended, measure, variants
from posjax.models import build
from tests.cases import first_of
from tests.evaluation.toys import VOCABULARY, L, log_softmax, loss_of, naive, trained_model, windows
from tests.small import learned

T5 = T5Bias(buckets=8, max_distance=8)


@first_of("encoding", [Alibi(), Rope(), T5], ids=repr, keep=1)
@first_of("multiple", [1, 3], keep=1)
def test_losses_and_mass_are_those_of_one_window_at_a_time(encoding, multiple):
    one, data = trained_model(encoding), windows(3, multiple * L)
    losses, mass = measure.losses_and_mass(one, RAW, multiple, data)
    assert losses.shape == (3, multiple * L) and mass.shape == (3,)
    for n in range(3):
        want, logits = naive(one, data[n])
        np.testing.assert_allclose(losses[n], want, rtol=1e-5, atol=2e-5)
        back = np.arange(multiple * L)[:, None] - np.arange(multiple * L)
        shares = [
            np.where(back >= L, np.exp(log_softmax(np.where(back >= 0, each, -np.inf))), 0).sum(-1)[:, -L // 2 :]
            for each in logits
        ]
        assert mass[n] == pytest.approx(np.mean(shares), abs=2e-5)
    assert (mass > 0.05).all() if multiple == 3 else (mass == 0).all()


@first_of("encoding", [Alibi(), Rope(), T5], ids=repr, keep=1)
def test_a_windowed_layer_reads_only_the_trained_length(encoding):
    one, data = trained_model(encoding, layers=1), windows(2, 3 * L)
    losses, mass = measure.losses_and_mass(one, WINDOWED, 3, data)
    np.testing.assert_allclose(mass, 0, atol=1e-6)
    for n in range(2):
        for end in range(L, 3 * L + 1):  # The last L tokens alone, at positions that begin at 0.
            alone = one.model(jnp.asarray(data[n : n + 1, end - L : end]))
            assert losses[n, end - 1] == pytest.approx(
                loss_of(np.asarray(alone[0, -1:]), data[n, end : end + 1])[0], abs=2e-4
            )
    raw, _ = measure.losses_and_mass(one, RAW, 3, data)
    np.testing.assert_allclose(raw[:, :L], losses[:, :L], atol=2e-5)
    assert np.abs(raw - losses)[:, L:].max() > 1e-3


@pytest.mark.parametrize("how", ["linear", "ntk", "yarn"])
@first_of("encoding", [Rope(), chain(Rope(), Alibi())], ids=repr, keep=1)
def test_an_extension_is_the_model_rebuilt_with_that_schedule(how, encoding):
    one, data = trained_model(encoding), windows(2, 4 * L)
    losses, mass = measure.losses_and_mass(one, Variant(how, "extension"), 4, data)
    new = extended(encoding, how, 4.0, L)
    assert new != encoding
    rebuilt = one.architecture.with_encodings(lambda _: new)
    model = build(rebuilt, VOCABULARY, 0)
    nnx.update(model, nnx.state(one.model))
    want, want_mass = measure.losses_and_mass(TrainedModel(model, L), RAW, 4, data)
    np.testing.assert_allclose(losses, want, atol=1e-6)
    np.testing.assert_allclose(mass, want_mass, atol=1e-6)
    assert np.abs(losses - measure.losses_and_mass(one, RAW, 4, data)[0]).max() > 1e-3


def test_a_further_variant_costs_no_trace(monkeypatch):
    traces = []
    real = measure.cross_entropy
    monkeypatch.setattr(measure, "cross_entropy", lambda *args: traces.append(1) or real(*args))
    one = trained_model(Rope(base=777.0))
    for multiple in (2, 4):
        for variant in (RAW, WINDOWED, *(Variant(how, "extension") for how in ("linear", "ntk", "yarn"))):
            measure.losses_and_mass(one, variant, multiple, windows(2, multiple * L))
    assert len(traces) == 2
    measure.losses_and_mass(TrainedModel(trained_model(Rope(base=777.0)).model, L), RAW, 2, windows(2, 2 * L, seed=5))
    assert len(traces) == 2


def test_filling_a_table_costs_no_trace(monkeypatch):
    traces = []
    real = measure.cross_entropy
    monkeypatch.setattr(measure, "cross_entropy", lambda *args: traces.append(1) or real(*args))
    one, data = trained_model(Learned(length=4 * L, deviation=0.03)), windows(2, 4 * L)
    rows = {"raw": measure.losses_and_mass(one, RAW, 4, data)[0]}
    for how in ("clamp", "wrap", "interpolate"):
        rows[how] = measure.losses_and_mass(one, Variant(how, "fill"), 4, data)[0]
    assert len(traces) == 1
    table = np.asarray(learned(one.model).get_value()["table"])
    for how, places in (("clamp", np.minimum(np.arange(4 * L), L - 1)), ("wrap", np.arange(4 * L) % L)):
        other = trained_model(Learned(length=4 * L, deviation=0.03))
        learned(other.model).set_value({"table": jnp.asarray(table[places])})
        np.testing.assert_allclose(rows[how], measure.losses_and_mass(other, RAW, 4, data)[0], atol=1e-6)
        np.testing.assert_allclose(rows[how][:, :L], rows["raw"][:, :L], atol=1e-6)
    assert np.isfinite(rows["interpolate"]).all()
    np.testing.assert_array_equal(learned(one.model).get_value()["table"], table)


def test_many_windows_are_cut_into_equal_batches(monkeypatch):
    one, data = trained_model(Alibi()), windows(7, 2 * L)
    whole = measure.losses_and_mass(one, RAW, 2, data)
    monkeypatch.setattr(batching, "TOKENS", 3 * 2 * L)
    parts = measure.losses_and_mass(one, RAW, 2, data)
    assert parts[0].shape == (7, 2 * L) and parts[1].shape == (7,)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    sizes = [len(batch) for batch in batching.in_batches(7, 2 * L)]
    assert len(set(sizes)) == 1 and sizes[0] <= 3 and sum(sizes) >= 7


@pytest.mark.exhaustive
def test_predictions_are_the_likeliest_tokens():
    one, data = trained_model(Rope()), windows(3, 2 * L)[:, :-1]
    np.testing.assert_array_equal(
        measure.predictions(one, RAW, 2, data), np.asarray(one.model(jnp.asarray(data))).argmax(-1)
    )


@first_of("encoding", [Alibi(), Rope(), T5, Sinusoidal()], ids=repr, keep=2)
def test_trained_scores_are_mean_logits_by_distance(encoding):
    one, data, distances = trained_model(encoding), windows(2, 3 * L), np.array([0, 1, 5, 2 * L])
    scores = measure.trained_scores(one, data, distances)
    logits = np.stack([np.stack(naive(one, row)[1]) for row in data]).mean(axis=(0, 1, 2))
    rows = np.arange(2 * L, 3 * L)  # Those that look back over every distance.
    want = np.array([logits[rows, rows - d].mean() for d in distances])
    np.testing.assert_allclose(scores, want - want[0], atol=1e-4)
    assert scores[0] == 0


def test_random_scores_of_rope_are_its_cosine_kernel():
    distances, sizes = np.array([0, 1, 2, 7, 40, 300]), Dims(heads=2, head_size=8, model_size=16)
    scores = measure.random_scores(Rope(base=100.0), sizes, distances, seed=0, draws=4096)
    turns = 100.0 ** (-np.arange(0, 8, 2) / 8)
    want = 2 * (np.cos(distances[:, None] * turns) - 1).sum(-1) / np.sqrt(8)
    np.testing.assert_allclose(scores, want, atol=0.06)
    assert scores[0] == 0


def test_random_scores_of_alibi_are_its_mean_slope():
    distances = np.array([0, 1, 10, 1000])
    scores = measure.random_scores(Alibi(), Dims(heads=4, head_size=4, model_size=16), distances, seed=3)
    np.testing.assert_allclose(scores, -np.mean([2**-2, 2**-4, 2**-6, 2**-8]) * distances, rtol=1e-4, atol=1e-5)
    assert scores[0] == 0


def test_an_extension_of_a_model_without_rotation_is_never_offered():
    offered = {
        kind: [v.name for v in variants(trained_model(kind), ("linear", "yarn"), ("clamp",), True)]
        for kind in (Alibi(), Rope(), Learned(length=L), chain(Rope(), Learned(length=L)))
    }
    assert offered == {
        Alibi(): ["raw", "windowed"],
        Rope(): ["raw", "linear", "yarn", "windowed"],
        Learned(length=L): ["raw", "clamp", "windowed"],
        chain(Rope(), Learned(length=L)): ["raw", "linear", "yarn", "clamp", "windowed"],
    }
    assert [v.name for v in variants(trained_model(Rope()), (), (), False)] == ["raw"]


def test_measuring_changes_no_parameter():
    one = trained_model(Learned(length=2 * L))
    before = jax.device_get(nnx.state(one.model))
    measure.losses_and_mass(one, Variant("wrap", "fill"), 2, windows(1, 2 * L))
    assert jax.tree.all(jax.tree.map(np.array_equal, before, jax.device_get(nnx.state(one.model))))
