"""Marks where more than attention reads a row: gates, biases of an output, memories, prompts and dropout."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import InputError, Learned, Rope, positions
from posjax.models import Memory, Output, Scores, build, cross_entropy, decoder, encoder_decoder, generate
from posjax.models.modules import dropped
from tests.cases import first_of
from tests.small import small

TOKENS = jnp.arange(12)[None] % 11
MOST = 8
LAST = Learned(MOST)


def with_scores(scores: Scores):
    made = small(LAST)
    layer = made.decoder.layer(0)
    attention, fed = layer.sublayers
    turned = replace(layer, sublayers=(replace(attention, scores=scores), fed))
    return replace(made, decoder=replace(made.decoder, pattern=(turned,)))


ENDING = {
    "a gate": with_scores(Scores(gate="head")),
    "a gate of channels": with_scores(Scores(gate="channel")),
    "a bias": replace(small(LAST), output=Output(bias=True)),
    "a bias and a cap": replace(small(LAST), output=Output(bias=True, cap=30.0)),
}


def expect_alike(got, wanted):
    for one, other in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6 * float(np.abs(other).max()))


@first_of("kind", ENDING, keep=2)
def test_a_row_past_the_end_reaches_no_gradient_with(kind):
    model = build(ENDING[kind], 11, 0)

    def loss(model, tokens):
        weights = jnp.arange(tokens.shape[1])[None] < MOST
        losses = cross_entropy(model(tokens), (tokens + 1) % 11)
        return jnp.where(weights, losses, 0).sum()

    gradient = nnx.jit(nnx.grad(loss))
    expect_alike(gradient(model, TOKENS), gradient(model, TOKENS[:, :MOST]))


def test_padding_of_a_memory_that_is_no_number_reaches_no_gradient():
    model = build(encoder_decoder(LAST, layers=1, width=16, heads=2), 11, 0)

    def loss(model, source):
        real = jnp.arange(source.shape[1])[None] < MOST
        return jnp.sin(model(TOKENS[:, :5], memory=model.encode(source, real=real))).sum()

    gradient = nnx.jit(nnx.grad(loss))
    expect_alike(gradient(model, TOKENS), gradient(model, TOKENS[:, :MOST]))


def test_what_is_dropped_of_no_number_is_none():
    x = jnp.full((1, 4, 8), jnp.nan)
    assert np.isnan(dropped(x, 0.9, jax.random.key(0))).all()


def test_a_traced_real_that_would_be_refused_is_marked():
    model = build(small(), 11, 0)
    rows = jnp.array([[0, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]], bool)
    prompt = jnp.tile(TOKENS[:, :4], (3, 1))
    got = jax.jit(lambda real: generate(model, prompt, 2, real=real))(rows)
    assert (got[1:] == -1).all()
    np.testing.assert_array_equal(got[:1], generate(model, prompt[:1], 2, real=rows[:1]))
    at = jax.jit(positions.left_padded)(rows)
    assert at.tolist() == [[0, 0, 1, 2], [-1] * 4, [0] * 4]


PAIR = build(encoder_decoder(Rope(), layers=1, width=16, heads=2), 11, 0)
SOURCE = jnp.tile(TOKENS[:, :5], (2, 1))
REAL = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)


def test_a_memory_is_held_to_its_tokens_and_may_be_lists():
    stream = PAIR.encode(SOURCE).stream
    for real in (REAL[:, :1], REAL[:1], np.ones((2, 6), bool)):
        for at in (None, jnp.arange(5)):
            with pytest.raises(InputError, match="the memory's real has shape"):
                PAIR(SOURCE, memory=Memory(stream, at, real))
    with pytest.raises(InputError, match="real has shape"):
        PAIR.encode(SOURCE, real=REAL[:1])
    listed = Memory(stream, [0, 1, 2, 3, 4], REAL.tolist())
    np.testing.assert_array_equal(
        generate(PAIR, SOURCE, 2, memory=listed), generate(PAIR, SOURCE, 2, memory=Memory(stream, None, REAL))
    )
    cache = PAIR.cache(2, 6, memory=PAIR.encode(SOURCE))
    with pytest.raises(InputError, match="holds the keys of its own"):
        PAIR.prepare(4, cache=cache, memory=listed)


def test_a_cache_that_was_changed_is_refused():
    model = build(decoder(Rope(), layers=1, width=16, heads=2), 11, 0)
    cache = model.cache(2, 6, positions=True)
    with pytest.raises(InputError, match=r"needed are integers \[2, 6\]"):
        model.prepare(5, jnp.arange(5), cache=replace(cache, positions=cache.positions[:, :5]))
    with pytest.raises(InputError, match="needed are floats"):
        model.prepare(
            5, jnp.arange(5), cache=replace(cache, layers=jax.tree.map(lambda x: x.astype(jnp.int32), cache.layers))
        )


@pytest.mark.exhaustive
def test_narrow_tokens_and_targets_are_not_wrapped():
    model = build(small(), 257, 0)
    logits = model(TOKENS)
    wanted = cross_entropy(logits, TOKENS)
    np.testing.assert_array_equal(cross_entropy(logits, TOKENS.astype(jnp.uint8)), wanted)
    stream, _, _ = model.hidden(jnp.array([[1, -1]], jnp.int8), model.prepare(2))
    assert np.isnan(stream[0, 1]).all()
