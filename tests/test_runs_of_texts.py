"""A run reads any text: in memory or stored, cut into windows or packed, alone or mixed."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

import posjax
from posjax import data, evaluation, models, runs, training, workfolder
from posjax.data import Mixture, Packed, StoredText, prepare
from posjax.runs import Material
from tests.training.tiny import corpus, optax_promotes, run  # noqa: F401


@pytest.fixture
def texts(tmp_path):
    text = corpus(tmp_path / "text")
    prepare(text, tmp_path / "made")
    stored = StoredText(str(tmp_path / "made"))
    mixed = Mixture(parts=((Packed(text), 1.0), (Packed(stored), 2.0)))
    return {"text": text, "stored": stored, "packed": Packed(stored), "mixed": mixed}


@pytest.mark.exhaustive
def test_a_stored_text_trains_and_measures_as_the_text_itself(tmp_path, texts):
    found = {}
    for name in ("text", "stored"):
        plan = run(texts[name])
        trained_model = runs.train(plan, tmp_path / f"run {name}")
        found[name] = runs.evaluate(plan, tmp_path / f"run {name}", trained_model), nnx.state(trained_model.model)
    jax.tree.map(np.testing.assert_array_equal, found["text"][1], found["stored"][1])
    for name in ("measurements", "corpus"):
        assert found["text"][0][name] == found["stored"][0][name]
    assert Material.open(run(texts["text"])).fingerprint == Material.open(run(texts["stored"])).fingerprint


def test_any_text_is_checked_and_opened(texts):
    names = {**vars(posjax), **vars(runs), **vars(data), **vars(models), **vars(training), **vars(evaluation)}
    fingerprints = set()
    for name, text in texts.items():
        plan = run(text)
        runs.check(plan)
        material = Material.open(plan)
        assert material.batches is not None
        assert ("segments" in material.batches.batch(0)) == (name in ("packed", "mixed"))
        assert eval(workfolder.manifest(plan, None)["config"], names) == plan
        fingerprints.add(material.fingerprint)
    # The stored text is the text, and the others train other models.
    assert len(fingerprints) == 3
