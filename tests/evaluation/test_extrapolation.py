"""The design of the comparison: the same bytes with more and more text before them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from posjax.data import validation_windows
from posjax.encodings import Alibi, Learned, Rope
from posjax.errors import InputError
from posjax.evaluation import RAW, Extrapolation, measure
from tests.evaluation.toys import L, documents, measured, trained_model


@pytest.fixture
def no_scores(monkeypatch):
    """Leaves out the scores by distance, which have tests of their own."""
    monkeypatch.setattr(measure, "trained_scores", lambda model, rows, distances: np.zeros(len(distances)))
    monkeypatch.setattr(measure, "random_scores", lambda encoding, sizes, distances, seed: np.zeros(len(distances)))


def test_every_length_is_scored_on_the_same_targets(monkeypatch, no_scores):
    asked = []

    def fake(trained_model, variant, multiple, windows):
        asked.append((variant.name, multiple, windows))
        place = np.arange(windows.shape[1] - 1, 0, -1)  # 1 for the last target.
        extra = {"raw": 0.5, "windowed": 0.1}[variant.name] * (multiple - 1)
        return windows[:, 1:] / 100 + np.where(place <= L // 2, extra, 7.0), np.full(len(windows), multiple / 10)

    monkeypatch.setattr(measure, "losses_and_mass", fake)
    found = measured(Extrapolation(multiples=(1, 2, 4), windows=5), trained_model(Alibi()), documents(), seed=3)
    whole = validation_windows(documents(), 4 * L, 5, seed=3)
    assert [(name, multiple) for name, multiple, _ in asked] == [
        ("raw", 1),
        ("raw", 2),
        ("raw", 4),
        ("windowed", 2),
        ("windowed", 4),
    ]
    for _, multiple, given in asked:
        assert given.shape == (5, multiple * L + 1)
        np.testing.assert_array_equal(given, whole[:, -multiple * L - 1 :])
    base = whole[:, -(L // 2) :].mean() / 100
    raw, windowed = found["variants"]
    for variant, slope in ((raw, 0.5), (windowed, 0.1)):
        for multiple in (1, 2, 4):
            numbers = variant["lengths"][str(multiple)]
            assert numbers["loss"] == pytest.approx(base + slope * (multiple - 1))
            ratio = np.exp(slope * (multiple - 1))
            assert [numbers[n] for n in ("ratio", "low", "high")] == pytest.approx([ratio] * 3)
            assert numbers["beyond"] == pytest.approx(multiple / 10)
    scored = np.where(np.arange(4 * L) < 4 * L - L // 2, 7.0, 0.5 * 3)
    assert raw["lengths"]["4"]["mean"] == pytest.approx(whole[:, 1:].mean() / 100 + scored.mean())
    assert found["lengths"] == [1, 2, 4] and found["windows"] == 5


def test_losses_by_position_are_means_of_a_quarter_of_the_trained_length(no_scores):
    found = measured(Extrapolation(multiples=(1, 2), windows=3, control=False), trained_model(Alibi()), documents(), 0)
    data = validation_windows(documents(), 2 * L, 3, seed=0)
    losses, _ = measure.losses_and_mass(trained_model(Alibi()), RAW, 2, data)
    numbers = found["variants"][0]["lengths"]["2"]
    np.testing.assert_allclose(numbers["by_position"], losses.reshape(3, -1, L // 4).mean(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(numbers["positions"], np.arange(2 * L).reshape(-1, L // 4).mean(axis=1))


def test_within_the_trained_length_every_variant_is_the_model_itself():
    found = measured(Extrapolation(multiples=(1, 2), windows=2), trained_model(Rope()), documents(), seed=0)
    first = found["variants"][0]["lengths"]["1"]
    assert [v["name"] for v in found["variants"]] == ["raw", "linear", "ntk", "yarn", "windowed"]
    assert all(v["lengths"]["1"] == first for v in found["variants"]) and first["ratio"] == 1
    assert len({v["lengths"]["2"]["loss"] for v in found["variants"]}) == 5
    assert json.loads(json.dumps(found)) == found
    scores = found["scores"]
    assert scores["distances"][0] == 0 and scores["random"][0] == 0 and scores["trained"][0] == 0
    assert len(scores["random"]) == len(scores["trained"]) == len(scores["distances"])


@pytest.mark.exhaustive
def test_a_table_ends_where_it_ends(no_scores):
    plan = Extrapolation(multiples=(1, 2, 4), windows=2, fills=("clamp",))
    for rows, ended in ((3 * L, 2), (4 * L, None)):
        found = measured(plan, trained_model(Learned(length=rows)), documents(), seed=0)
        assert [v["name"] for v in found["variants"]] == ["raw", "clamp", "windowed"]
        for variant in found["variants"]:
            assert variant["ended_at"] == ended
            assert list(variant["lengths"]) == [str(m) for m in (1, 2, 4) if m * L <= rows]
            assert all(np.isfinite(numbers["loss"]) for numbers in variant["lengths"].values())
    with pytest.raises(InputError, match="holds 4 positions"):
        measured(plan, trained_model(Learned(length=4)), documents(), seed=0)


@pytest.mark.parametrize(
    "fields",
    [{"multiples": ()}, {"multiples": (2, 4)}, {"multiples": (1, 4, 2)}, {"multiples": (1, 1)}, {"windows": 0}],
)
def test_a_plan_that_cannot_work_is_refused(fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        Extrapolation(**fields)
