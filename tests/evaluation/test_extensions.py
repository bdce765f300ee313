"""Extensions of a trained rotary model: what each does to distances, and that weights stay what they were."""

from __future__ import annotations

import typing

import numpy as np
import pytest
from flax import nnx

from posjax.attention import Window
from posjax.encodings import Alibi, DynamicNTK, Interpolation, Kerple, LogN, NoPE, Rope, chain
from posjax.encodings.schedules import NTK
from posjax.errors import InputError
from posjax.evaluation import (
    RAW,
    ByFactor,
    Extrapolation,
    Fixed,
    Rebased,
    Static,
    Variant,
    extended,
    measure,
    scheduled,
    title,
    variants,
)
from posjax.evaluation.extensions import EVERY, ExtensionName, given
from posjax.evaluation.variants import seen
from posjax.models import build
from posjax.results import Measurements
from tests.cases import first_of
from tests.evaluation.toys import VOCABULARY, L, documents, loss_of, trained_model, windows

EXTENSIONS = typing.get_args(ExtensionName)
FOUND = ByFactor("found", ((2.0, Interpolation(1.5)), (4.0, Interpolation(3.0))))


def test_every_name_is_that_of_one_extension():
    assert tuple(each.name for each in EVERY) == EXTENSIONS == tuple(given(name).name for name in EXTENSIONS)
    assert given("linear@4") == Static(4.0, "linear") and given(Static(4.0, "linear").name) == Static(4.0, "linear")
    for wrong, why in (("yarm", "there is no extension 'yarm'"), ("yarn@", "no number"), ("yarn@0.5", "1 or more")):
        with pytest.raises(InputError, match=why):
            given(wrong)
    with pytest.raises(InputError, match="rising"):
        ByFactor("found", ((4.0, NTK(2.0)), (2.0, NTK(3.0))))


@pytest.mark.parametrize("how", [how for how in EXTENSIONS if how not in ("ntk-doubled", "drop")])
def test_a_factor_of_1_is_the_trained_model(how):
    model, rows = trained_model(Rope()), windows(2, L)
    raw, _ = measure.losses_and_mass(model, RAW, 1, rows)
    found, _ = measure.losses_and_mass(model, Variant(how, "extension"), 1, rows)
    np.testing.assert_allclose(found, raw, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("how", ["self-extend", "rerope"])
@pytest.mark.parametrize(("trained", "factor"), [(64, 8), (64, 2), (48, 4)])
def test_no_pair_stands_farther_apart_than_in_training_and_near_pairs_where_they_stood(how, trained, factor):
    encoding = extended(Rope(), how, float(factor), trained)
    at = np.arange(factor * trained)
    far = encoding.far.moved(at, "query")[:, None] - encoding.far.moved(at, "key")[None]
    farther = at[:, None] - at[None] >= encoding.window
    assert encoding.window == trained // 2 and encoding.near == Rope()
    assert np.max(np.where(farther, far, 0)) < trained and np.min(np.where(farther, far, trained)) > 0
    if how == "self-extend":
        assert np.max(np.where(farther, far, 0)) == trained - 1 and encoding.far.group == 2 * factor - 1
        # No gap behind the window either, but for the rounding of both positions.
        assert abs(np.min(np.where(farther, far, trained)) - encoding.window) <= 2


@pytest.mark.exhaustive
@first_of("how", ["yarn", "parts", "self-extend", "rerope", "log-n", "base", "drop"], keep=2)
def test_the_weights_are_those_of_the_trained_model(how):
    """As a model built with that encoding computes, which is given them by hand."""
    model, rows = trained_model(Rope()), windows(2, 4 * L)
    encoding = extended(Rope(), how, 4.0, L)
    other = build(model.architecture.with_encodings(lambda _: encoding), VOCABULARY, seed=5)
    for name in ("embedding", "blocks", "norms", "head"):
        nnx.update(getattr(other, name), nnx.state(getattr(model.model, name)))
    found, share = measure.losses_and_mass(model, Variant(how, "extension"), 4, rows)
    for row, losses in zip(rows, found, strict=True):
        logits = np.asarray(other(row[None, :-1], mask=Window(1000)))[0]
        np.testing.assert_allclose(losses, loss_of(logits, row[1:]), rtol=1e-4, atol=1e-4)
    raw, _ = measure.losses_and_mass(model, RAW, 4, rows)
    assert np.abs(found - raw).max() > 1e-2 and np.all((share > 0) & (share < 1))


def test_what_was_learned_has_no_place_in_another_structure():
    model = trained_model(chain(Rope(), Kerple()))
    with pytest.raises(InputError, match="cannot be extended by rerope: the extension is of another structure"):
        seen(model, Variant("rerope", "extension"), 2)
    # Frequencies are constants, beside whatever is learned.
    seen(model, Variant("yarn", "extension"), 2)


def test_dynamic_ntk_at_a_length_is_ntk():
    dynamic = DynamicNTK(1.0, 64).at_length(256).frequencies(16, 1e4, 256)
    assert np.array_equal(dynamic[0], NTK(4.0).frequencies(16, 1e4)[0])
    doubled = DynamicNTK(2.0, 64).at_length(256).frequencies(16, 1e4, 256)
    named = extended(Rope(), "dynamic-ntk", 4.0, 64)
    np.testing.assert_allclose(named.schedule.frequencies(16, 1e4)[0], doubled[0], rtol=1e-12)


def test_a_dropped_rotation_is_none_to_the_bit():
    model, rows = trained_model(Rope()), windows(2, 2 * L)
    dropped, _ = measure.losses_and_mass(model, Variant("drop", "extension"), 2, rows)
    none, _ = measure.losses_and_mass(model, Variant("none", "extension", Fixed("none", NoPE())), 2, rows)
    assert np.array_equal(dropped, none)


@pytest.mark.parametrize(
    "how", [Static(4.0, "linear"), Fixed("found", Interpolation(4.0)), given("drop")], ids=lambda how: how.name
)
def test_what_is_always_there_changes_short_contexts_alike(how):
    model, rows = trained_model(Rope()), windows(2, L)
    raw, _ = measure.losses_and_mass(model, RAW, 1, rows)
    variant = Variant(how.name, "extension", how)
    found, _ = measure.losses_and_mass(model, variant, 1, rows)
    assert variant.always and np.abs(found - raw).max() > 1e-3
    # The same at every factor: the multiple is that of the windows alone.
    again, _ = measure.losses_and_mass(model, variant, 8, rows)
    assert np.array_equal(found, again) and not Variant("yarn", "extension").always


def test_numbers_alone_cost_no_trace(monkeypatch):
    traces = []
    real = measure.cross_entropy
    monkeypatch.setattr(measure, "cross_entropy", lambda *args: traces.append(1) or real(*args))
    model, rows = trained_model(Rope(base=778.0)), windows(2, 2 * L)
    halved = scheduled("halved", "halved", lambda factor, _: Interpolation(factor / 2))
    plain = [how for how in EXTENSIONS if how not in ("self-extend", "rerope", "log-n")]
    found = {}
    for how in (*plain, Static(4.0), Fixed("fixed", Interpolation(5.0)), FOUND, Rebased(3.0), halved):
        (_, variant) = variants(model, (how,), (), False)
        found[variant.name], _ = measure.losses_and_mass(model, variant, 2, rows)
    assert len(traces) == 1
    # Halved, a factor of 2 is none.
    raw, _ = measure.losses_and_mass(model, RAW, 2, rows)
    assert np.array_equal(found.pop("halved"), raw) and all(np.abs(each - raw).max() > 1e-4 for each in found.values())


def test_an_extension_is_offered_where_it_suits():
    def offered(encoding):
        every = (*EXTENSIONS, Static(2.0, "log-n"), FOUND)
        return [variant.name for variant in variants(trained_model(encoding), every, (), False)]

    assert offered(Rope()) == ["raw", *EXTENSIONS, "log-n@2", "found"]
    assert offered(Alibi()) == ["raw", "log-n", "log-n@2"] and offered(chain(Alibi(), LogN(L))) == ["raw"]


def test_what_is_always_there_is_measured_at_the_trained_length_too():
    evaluation = Extrapolation(multiples=(1, 2), windows=2, extensions=("yarn", Static(4.0, "linear")), control=False)
    found = Measurements.of(evaluation.run(trained_model(Rope()), documents(), 0))
    ratios = {name: found.one("loss_ratio", variant=name, multiple=1).value for name in ("raw", "yarn", "linear@4")}
    assert ratios["raw"] == ratios["yarn"] == 1 and abs(ratios["linear@4"] - 1) > 1e-3
    assert title("linear@4") == "linear always 4" and title("found") == "found"
