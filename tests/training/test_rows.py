"""The rows of `posjax.data`, by the objectives that are trained on them."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.data import Batches, Documents, Labelled, Reversal, packed_rows, training_rows
from posjax.encodings import Rope
from posjax.models import build, decoder, encoder, encoder_decoder
from posjax.training import CausalLM, Classification, MaskedLM, SeqToSeq
from tests.small import small

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
FILES = tuple(GENERATOR.integers(0, 256, size, np.uint8).tobytes() for size in (5, 9, 3, 14, 7))
CORPUS = Documents("toy", FILES, (b"f",), "0")


def batch_of(rows, size: int = 4):
    return {name: jnp.asarray(array) for name, array in Batches(rows, size).batch(0).items()}


@pytest.mark.exhaustive
def test_packed_files_are_trained_on_as_if_each_stood_alone():
    model = build(small(deviation=1.0), CORPUS.tokens.vocabulary, 0)
    together = batch_of(packed_rows(CORPUS, 64, 0), 1)
    assert together["segments"].max() == len(FILES)
    rows = [packed_rows(replace(CORPUS, train=(file,)), 64, 0)[0] for file in FILES]
    alone = {name: jnp.stack([row[name] for row in rows]) for name in rows[0]}
    total = CausalLM().total
    np.testing.assert_allclose(total(model, together, KEY), total(model, alone, KEY), rtol=1e-5)


@pytest.mark.exhaustive
def test_an_untrained_model_guesses_blindly():
    windows = training_rows(CORPUS, 8, 0)
    sizes = {"layers": 1, "width": 16, "heads": 2}
    reversal = Reversal()
    cases = (
        (MaskedLM(), encoder(Rope(), **sizes), 258, MaskedLM(share=0.3).rows(windows, 257, 0)),
        (SeqToSeq(), encoder_decoder(Rope(), **sizes), reversal.vocabulary, reversal.rows(9, 0)),
        (CausalLM(), decoder(Rope(), **sizes), 257, windows),
    )
    for objective, architecture, vocabulary, rows in cases:
        objective.require(architecture)
        batch = batch_of(rows)
        value = objective.total(build(architecture, vocabulary, 0), batch, KEY) / objective.weight(batch)
        # Logits of a random model have a variance of about 1, which costs half a nat.
        assert abs(float(value) - np.log(vocabulary)) < 1, objective


@pytest.mark.exhaustive
def test_padding_has_no_part_in_a_class(tmp_path):
    path = tmp_path / "lines.tsv"
    path.write_text("good\tab\nbad\tcdefg\ngood\txyz\n")
    examples = Labelled(str(path)).load()
    model = build(encoder(Rope(), layers=1, width=16, heads=2, classes=2), 257, 0)
    short, long = (Classification().total(model, batch_of(examples.rows(length, 0)), KEY) for length in (8, 13))
    np.testing.assert_allclose(short, long, rtol=1e-5)
