"""The effective context, on models whose reach is known."""

from __future__ import annotations

import numpy as np
import pytest

from posjax.data import Documents, Needles, StandardLibrary
from posjax.encodings import Alibi, Rope
from posjax.errors import InputError
from posjax.evaluation import EffectiveContext, Static, measure
from posjax.evaluation.context import swapped
from posjax.evaluation.texts import Excerpts
from posjax.results import Measurements
from tests.evaluation.toys import L, documents, trained_model


def letters(*texts: bytes) -> Documents:
    return Documents("letters", (b"abc",), texts, "f" * 16)


def measured(evaluation, model, text, seed=0):
    return Measurements.of(evaluation.run(model, text, seed))


def test_a_loss_that_reads_exactly_the_token_5_back(monkeypatch):
    """Documents of one letter each: the loss is 0 until the token 5 back is another document's."""

    def losses_and_mass(model, variant, multiple, windows):
        inputs, losses = windows[:, :-1], np.zeros((len(windows), windows.shape[1] - 1))
        losses[:, 5:] = inputs[:, 5:] != inputs[:, :-5]
        return losses, np.zeros(len(windows))

    monkeypatch.setattr(measure, "losses_and_mass", losses_and_mass)
    shares = tuple(d / L for d in (0, 2, 4, 5, 6, 12))
    evaluation = EffectiveContext(multiple=3, distances=shares, windows=6, control=False)
    found = measured(evaluation, trained_model(Rope(), layers=1), letters(b"a" * 40, b"b" * 40))
    assert found.one("effective_context").value == 4
    # Of L/2 = 4 queries, those fewer than 5 - d past the first still see a swapped token.
    costs = {row.at("distance"): row.value for row in found.select("swap_cost")}
    assert costs == {0: 1.0, 2: 0.75, 4: 0.25, 5: 0.0, 6: 0.0, 12: 0.0}
    assert found.one("swap_cost", distance=2).low == found.one("swap_cost", distance=2).high == 0.75
    assert found.one("effective_context").coordinates == {
        "variant": "raw",
        "kind": "raw",
        "multiple": 3,
        "length": 3 * L,
    }


@pytest.mark.parametrize("layers", [1, 2])
def test_a_windowed_model_reads_no_further_than_its_layers_times_its_window(layers):
    reach = layers * (L - 1)
    shares = tuple(d / L for d in (1, L - 2, reach - 1, reach, reach + 1))
    evaluation = EffectiveContext(multiple=4, distances=tuple(sorted(set(shares))), windows=8)
    found = measured(evaluation, trained_model(Rope(), layers), documents((200, 400, 400)))
    beyond = found.select("swap_cost", variant="windowed", distance=(reach, reach + 1))
    assert [row.value for row in beyond] == [0.0, 0.0]
    within = found.select("swap_cost", variant="windowed", distance=(1, reach - 1))
    assert all(row.value != 0 for row in within)
    assert found.one("effective_context", variant="windowed").value < reach
    assert all(row.value != 0 for row in found.select("swap_cost", variant="raw"))


def test_the_first_distance_without_provable_cost_ends_it(monkeypatch):
    """A cost that comes back further out is luck, or it would have been there before."""
    costs = iter([0.0, 1.0, 0.0, 1.0])

    def losses_and_mass(model, variant, multiple, windows):
        return np.full((len(windows), windows.shape[1] - 1), next(costs)), None

    monkeypatch.setattr(measure, "losses_and_mass", losses_and_mass)
    evaluation = EffectiveContext(multiple=2, distances=(0.25, 0.5, 1.0), windows=2, control=False)
    found = measured(evaluation, trained_model(Rope(), layers=1), documents())
    assert [row.value for row in found.select("swap_cost")] == [1.0, 0.0, 1.0]
    assert found.one("effective_context").value == 2


def test_text_comes_from_another_file_at_the_same_positions():
    text = letters(b"a" * 40, b"b" * 30, b"c" * 50)
    excerpts = Excerpts.draw(text, 16, 12, seed=1)
    other = excerpts.others()
    assert set(excerpts.files) == {0, 1, 2} and np.all(excerpts.files[other] != excerpts.files)
    assert np.array_equal(excerpts.tokens[:, 0] - ord("a"), excerpts.files)
    new = swapped(excerpts.tokens, excerpts.tokens[other], tail=4, distance=3)
    # The first query is token 12: it and 3 before it stay, and so do the 4 targets.
    assert np.array_equal(new[:, :9], excerpts.tokens[other][:, :9])
    assert np.array_equal(new[:, 9:], excerpts.tokens[:, 9:])
    alone = Excerpts.draw(letters(b"abcd" * 10), 8, 3, seed=0).others()
    assert np.all(alone != np.arange(3))


def test_extensions_and_what_cannot_be_measured():
    evaluation = EffectiveContext(multiple=2, distances=(0.5,), windows=2, extensions=("yarn", Static(4.0)))
    found = measured(evaluation, trained_model(Rope()), documents())
    assert found.select("effective_context").distinct("variant") == ("raw", "yarn", "yarn@4", "windowed")
    evaluation.require(StandardLibrary())
    with pytest.raises(InputError, match="EffectiveContext measures the loss on text"):
        evaluation.require(Needles())
    for wrong in ({"distances": ()}, {"distances": (1.0, 0.5)}, {"distances": (3.5,)}, {"windows": 1}):
        with pytest.raises(InputError, match=r"EffectiveContext got"):
            EffectiveContext(**wrong)
    evaluation.rehearse(trained_model(Alibi()).architecture, 257, L)
    assert evaluation.longest(L) == 2 * L
