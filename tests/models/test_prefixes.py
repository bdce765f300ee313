"""Decoders whose first tokens see each other: the prompt is read at once, and what follows is causal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import Alibi, Causal, Chunked, First, Full, InputError, Rope, T5Bias, Window, chain, prefix
from posjax.models import Compute, build, generate, stream
from tests.cases import short, wide
from tests.small import small

TOKENS = jax.random.randint(jax.random.key(0), (2, 10), 0, 11)
MASKS = [prefix(4), Causal() & Window(3) | First(2), Chunked(4) | Causal()]


BOTH = chain(Rope(), T5Bias())


def model_of(mask, encoding=BOTH, backend="reference"):
    config = small(encoding, layers=2, width=24, heads=6, key_value_heads=2, deviation=1.0, mask=mask)
    return build(config, 11, 1, Compute(backend=backend))


@pytest.mark.exhaustive
@pytest.mark.parametrize("backend", ["reference", pytest.param("chunked", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("mask", wide(MASKS[:2], MASKS[1:2]), ids=repr)
def test_the_continuation_is_that_of_a_full_pass(mask, backend):
    model, prompt = model_of(mask, backend=backend), TOKENS[:, :5]
    out = generate(model, prompt, 5)
    logits = model(jnp.concatenate([prompt, out], 1))[:, 4:-1]
    np.testing.assert_array_equal(out, logits.argmax(-1))
    assert [token.tolist() for token in stream(model, prompt, 2)] == out[:, :2].T.tolist()
    causal = model_of(Causal(), backend=backend)
    assert np.abs(causal(prompt) - model(prompt)).max() > 1e-2, "the prefix looks ahead"


@pytest.mark.exhaustive
@pytest.mark.parametrize("encoding", wide([Rope(), Alibi("symmetric")], [Rope()]), ids=short)
def test_a_loop_of_ones_own_gives_the_full_pass(encoding):
    model = model_of(MASKS[0], encoding)
    step = nnx.jit(lambda model, tokens, cache: model.hidden(tokens, model.prepare(1, cache=cache), cache)[:2])
    full, cache = model(TOKENS), model.cache(2, 10)
    x, cache, _ = model.hidden(TOKENS[:, :4], model.prepare(4, cache=cache), cache)
    np.testing.assert_allclose(model.logits(x), full[:, :4], atol=2e-5)
    for at in range(4, 10):
        x, cache = step(model, TOKENS[:, at : at + 1], cache)
        np.testing.assert_allclose(model.logits(x)[:, 0], full[:, at], atol=2e-5)


@pytest.mark.exhaustive
def test_whole_chunks_are_read_at_once():
    model = model_of(MASKS[2])
    full, cache = model(TOKENS[:, :8]), model.cache(2, 8)
    for part in (slice(0, 4), slice(4, 8)):
        x, cache, _ = model.hidden(TOKENS[:, part], model.prepare(4, cache=cache), cache)
        np.testing.assert_allclose(model.logits(x), full[:, part], atol=2e-5)


@pytest.mark.parametrize(
    ("mask", "length"), [(prefix(4), 3), (MASKS[2], 4), (MASKS[2], 6), (Full(), 5), (Window(3), 5)]
)
def test_what_would_look_past_the_cache_is_refused(mask, length):
    with pytest.raises(InputError, match="a cache has none there yet: let all that a prefix sees"):
        generate(model_of(mask), TOKENS[:, :length], 3)


def test_a_loop_that_nobody_knows_the_beginning_of_is_refused():
    model = model_of(prefix(4))
    step = nnx.jit(lambda model, tokens, cache: model.hidden(tokens, model.prepare(1, cache=cache), cache)[:2])
    with pytest.raises(InputError, match="a cache has none there yet"):
        step(model, TOKENS[:, :1], model.cache(2, 10))


@pytest.mark.parametrize("mask", [prefix(4), Causal() & Chunked(4)], ids=repr)
def test_padding_is_refused_where_a_mask_counts_it(mask):
    with pytest.raises(InputError, match="counts the tokens of a row, padding among them"):
        generate(model_of(mask), TOKENS, 2, real=jnp.ones((2, 10), bool).at[0, :3].set(False))
