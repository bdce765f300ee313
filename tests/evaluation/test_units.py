"""Losses per byte, whatever a token is: a text that two vocabularies read is compared by its bytes."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest
from flax import nnx

from posjax.data import Documents, DocumentTokens, Text
from posjax.encodings import Alibi
from posjax.errors import InputError
from posjax.evaluation import RAW, Extrapolation, TrainedModel, measure
from posjax.evaluation.extrapolation import Sample
from posjax.evaluation.statistics import bootstrap_ratio, yardsticks
from posjax.models import build
from tests.data.tokenizers_of_tests import TEXT, by_characters
from tests.evaluation.toys import L, measured
from tests.small import small

SIZE = 11


def documents(begin: int | None = None) -> Documents:
    """Files of random tokens, of which token t stands for t bytes, and 0 for none."""
    random = np.random.default_rng(0)
    train = tuple(random.integers(0, SIZE - 1, size) for size in (60, 40))
    validation = random.integers(0, SIZE - 1, 300)
    separator = SIZE - 1 if begin is None else None
    tokens = DocumentTokens(train, (validation,), (validation,), separator, begin, SIZE)
    return Documents("toy", (b"",), (b"",), "f" * 16, tokens, "toy.json")


def subject(vocabulary: int, scale: float = 1.0) -> TrainedModel:
    """A small model; a scale of 0 makes every token as likely as any other."""
    config = small(Alibi(), feed_forward=16, deviation=1.0)
    model = build(config, vocabulary, seed=1)
    nnx.update(model, jax.tree.map(lambda x: scale * x, nnx.state(model)))
    return TrainedModel(model, L)


def evaluated(found: Documents, trained_model: TrainedModel, windows: int = 5) -> dict:
    return measured(Extrapolation(multiples=(1, 2), windows=windows), trained_model, found, seed=3)


def test_a_loss_per_byte_is_the_nats_of_the_targets_by_their_bytes():
    text = documents()
    trained_model = subject(SIZE)
    found = evaluated(text, trained_model)
    sample = Sample.draw(text, 2 * L, 5, seed=3)
    losses, _ = measure.losses_and_mass(trained_model, RAW, 2, sample.windows)
    base, _ = measure.losses_and_mass(trained_model, RAW, 1, sample.windows[:, -L - 1 :])
    of_targets = sample.windows[:, 1:]  # Each token is as many bytes as its number.
    tail = slice(-(L // 2), None)
    numbers = found["variants"][0]["lengths"]["2"]
    assert numbers["loss"] == pytest.approx(losses[:, tail].sum() / of_targets[:, tail].sum())
    assert numbers["loss_per_token"] == pytest.approx(losses[:, tail].mean())
    assert numbers["mean"] == pytest.approx(losses.sum() / of_targets.sum())
    assert numbers["mean_per_token"] == pytest.approx(losses.mean())
    bins = np.split(np.arange(2 * L), 8)
    expected = [losses[:, b].sum() / of_targets[:, b].sum() for b in bins]
    assert numbers["by_position"] == pytest.approx(expected)
    each = of_targets[:, tail].mean()
    assert found["bytes_per_token"] == each
    ratio, low, high = bootstrap_ratio(losses[:, tail].mean(1) / each, base[:, tail].mean(1) / each, 3)
    assert (numbers["ratio"], numbers["low"], numbers["high"]) == pytest.approx((ratio, low, high))
    # At 1x the targets of the whole window are the last ones of the longer windows.
    shorter = found["variants"][0]["lengths"]["1"]
    assert shorter["mean"] == pytest.approx(base.sum() / of_targets[:, -L:].sum())
    quarters = np.split(np.arange(-L, 0), 4)
    expected = [base[:, b].sum() / of_targets[:, b].sum() for b in quarters]
    assert shorter["by_position"] == pytest.approx(expected)
    counted = yardsticks(text, sample.windows, L // 2)
    assert found["yardsticks"] == pytest.approx({name: loss / each for name, loss in counted.items()})


def test_targets_without_bytes_have_no_loss_per_byte():
    text = documents()
    assert text.encoded is not None
    empty = replace(text.encoded, validation_bytes=(np.zeros(300, np.int32),))
    numbers = evaluated(replace(text, encoded=empty), subject(SIZE))["variants"][0]["lengths"]["2"]
    assert math.isnan(numbers["loss"]) and numbers["loss_per_token"] > 0


def test_every_length_begins_with_the_token_that_windows_begin_with(monkeypatch):
    given = []
    real = measure.losses_and_mass

    def seen(trained_model, variant, multiple, windows):
        given.append(windows)
        return real(trained_model, variant, multiple, windows)

    monkeypatch.setattr(measure, "losses_and_mass", seen)
    plain = Sample.draw(documents(), 2 * L, 5, seed=3).windows
    evaluated(documents(begin=7), subject(SIZE))
    assert {windows.shape[1] for windows in given} == {L + 1, 2 * L + 1}
    for windows in given:
        assert set(windows[:, 0]) == {7}
        np.testing.assert_array_equal(windows[:, 1:], plain[:, -windows.shape[1] + 1 :])


@pytest.mark.exhaustive
def test_two_vocabularies_are_compared_on_the_bytes_of_one_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(TEXT * 20)
    for data in (Text((str(path),), 0.5), Text((str(path),), 0.5, tokenizer=str(by_characters(tmp_path)))):
        text = data.load()
        # Knowing nothing costs the logarithm of the vocabulary a token, and a token is so many bytes.
        found = evaluated(text, subject(data.vocabulary, scale=0.0))
        numbers = found["variants"][0]["lengths"]["2"]
        each = found.get("bytes_per_token", 1.0)
        assert numbers["loss"] == pytest.approx(math.log(data.vocabulary) / each, rel=1e-5)
        assert ("loss_per_token" in numbers) == ("bytes_per_token" in found) == (data.tokenizer is not None)


def test_counting_serves_any_tokens():
    text = documents()
    windows = np.random.default_rng(1).integers(0, SIZE - 1, (4, 9))
    pairs = np.ones((SIZE, SIZE))
    single = np.ones(SIZE)
    stream = [token for file in text.tokens.train for token in (*file, SIZE - 1)]
    for token in stream:
        single[token] += 1
    for before, after in pairwise(stream):
        pairs[before, after] += 1
    targets, given = windows[:, -3:], windows[:, -4:-1]
    found = yardsticks(text, windows, 3)
    assert found["unigram"] == pytest.approx(-np.log(single / single.sum())[targets].mean())
    assert found["bigram"] == pytest.approx(-np.log(pairs / pairs.sum(1, keepdims=True))[given, targets].mean())


def test_tokens_that_a_model_does_not_have_are_refused():
    with pytest.raises(InputError, match=r"the vocabulary has 5, 0 to 4"):
        evaluated(documents(), subject(5))
