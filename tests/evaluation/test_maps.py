"""Attention maps, against attention whose weights are known."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from posjax.attention import Causal, Window
from posjax.encodings import Alibi, NoPE, Rope, T5Bias
from posjax.errors import InputError
from posjax.evaluation import RAW, WINDOWED, AttentionMaps, TrainedModel, measure
from posjax.evaluation.maps import looks
from posjax.models import Scores, build, decoder
from posjax.results import Measurements
from tests.cases import first_of
from tests.evaluation.toys import VOCABULARY, L, documents, log_softmax, naive, trained_model, windows


def even(encoding=None, **sizes):
    """A model whose queries are 0, so that every key that may be seen gets the same weight but for a bias."""
    model = build(decoder(encoding or NoPE(), layers=2, width=16, heads=2, **sizes), VOCABULARY, seed=0)
    for block in model.blocks["decoder"]:
        kernel = block.attention.query.kernel
        kernel.set_value(jnp.zeros_like(kernel.get_value()))
    return TrainedModel(model, L)


def test_even_attention_has_the_entropy_of_how_many_keys_there_are():
    looked = looks(even(), RAW, 2, windows(3, 2 * L)[:, :-1], bins=16)
    seen = np.arange(2 * L - L // 2, 2 * L) + 1  # By the last L/2 queries.
    np.testing.assert_allclose(looked.entropy, np.log(seen).mean(), rtol=1e-6)
    np.testing.assert_allclose(looked.beyond, ((seen - L) / seen).mean(), rtol=1e-6)
    # A bin a token: the map is the matrix of attention itself.
    want = np.tril(np.ones((16, 16))) / np.arange(1, 17)[:, None]
    np.testing.assert_allclose(looked.maps, np.broadcast_to(want, looked.maps.shape), rtol=1e-6)


def test_a_window_bounds_the_entropy_and_hides_what_lies_beyond():
    looked = looks(even(), WINDOWED, 4, windows(2, 4 * L)[:, :-1], bins=8)
    np.testing.assert_allclose(looked.entropy, np.log(L), rtol=1e-6)
    assert np.all(looked.beyond == 0)
    narrow = looks(even(mask=Causal() & Window(2)), RAW, 4, windows(2, 4 * L)[:, :-1], bins=8)
    np.testing.assert_allclose(narrow.entropy, np.log(2), rtol=1e-6)


@first_of("encoding", [Alibi(), Rope(), T5Bias(buckets=8, max_distance=8)], ids=repr, keep=1)
def test_maps_are_those_of_the_model_itself(encoding):
    one, rows = trained_model(encoding), windows(2, 3 * L)
    looked = looks(one, RAW, 3, rows[:, :-1], bins=6)
    _, mass = measure.losses_and_mass(one, RAW, 3, rows)
    np.testing.assert_allclose(looked.beyond.mean(axis=(1, 2)), mass, atol=1e-5)
    visible = np.tril(np.ones((3 * L, 3 * L), bool))
    for n in range(2):
        _, logits = naive(one, rows[n])
        for layer, each in enumerate(logits):
            weights = np.exp(log_softmax(np.where(visible, each, -np.inf)))
            binned = weights.reshape(2, 6, 4, 6, 4).mean(axis=2).sum(axis=-1)
            np.testing.assert_allclose(looked.maps[n, layer], binned, atol=2e-5)
            last = weights[:, -L // 2 :]
            entropy = -np.sum(last * np.log(np.maximum(last, 1e-300)), axis=-1).mean(axis=-1)
            np.testing.assert_allclose(looked.entropy[n, layer], entropy, atol=1e-4)


def test_measurements_stand_at_layers_heads_and_first_tokens_of_bins():
    evaluation = AttentionMaps(multiples=(1, 3), windows=2, bins=5, extensions=("linear",))
    found = Measurements.of(evaluation.run(trained_model(Rope()), documents(), 0))
    assert found.select("attention_entropy").distinct("variant") == ("raw", "linear", "windowed")
    assert len(found.select("mass_beyond", variant="raw", multiple=3)) == 2 * 2
    drawn = found.select("attention", multiple=3, layer=1, head=0)
    # Of 24 tokens in 5 bins.
    assert drawn.distinct("query") == (0, 5, 10, 15, 20) and len(drawn) == 15
    assert found.select("attention").distinct("variant") == ("raw",)
    for query in drawn.distinct("query"):
        assert sum(row.value for row in drawn.select(query=query)) == pytest.approx(1, abs=1e-5)
    row = found.one("attention_entropy", variant="linear", multiple=1, layer=0, head=1)
    heads = found.select("attention_entropy", variant="linear", multiple=1)
    mean = found.one("mean_entropy", variant="linear", multiple=1)
    assert mean.value == pytest.approx(np.mean([each.value for each in heads])) and "layer" not in mean.coordinates
    assert row.low <= row.value <= row.high and row.count == 2 and row.at("length") == L
    assert evaluation.longest(L) == 3 * L


def test_short_windows_have_as_many_bins_as_tokens():
    assert looks(trained_model(Rope()), RAW, 1, windows(1, L)[:, :-1], bins=32).maps.shape == (1, 2, 2, L, L)


def test_attention_of_another_form_is_refused_before_training():
    made = decoder(layers=1, width=16, heads=2)
    layer = made.decoder.pattern[0]
    attention, fed = layer.sublayers
    capped = replace(layer, sublayers=(replace(attention, scores=Scores(cap=5.0)), fed))
    with pytest.raises(InputError, match=r"AttentionMaps cannot draw Scores\(cap=5.0\)"):
        AttentionMaps().rehearse(replace(made, decoder=replace(made.decoder, pattern=(capped,))), 11, L)
    AttentionMaps().rehearse(made, 11, L)
    for wrong in ({"bins": 33}, {"multiples": ()}, {"multiples": (0,)}):
        with pytest.raises(InputError, match=r"AttentionMaps got multiples="):
            AttentionMaps(**wrong)
