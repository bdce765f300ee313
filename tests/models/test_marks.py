"""What has no meaning says so in a model too, and reaches no gradient of what has one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import Alibi, InputError, Learned, NoPE, Rope, Segments, Toeplitz, XPos, chain, positions
from posjax.models import GREEDY, Compute, Sampling, build, decoder, generate
from tests.cases import first_of
from tests.small import small

TOKENS = jnp.arange(2 * 12).reshape(2, 12) % 11
COMPUTE = Compute()
ENDS = [Learned(8), chain(Learned(8), Rope()), Toeplitz(8), XPos(unit=1)]


def model_of(encoding, compute=COMPUTE):
    return build(small(encoding, layers=2), 11, 0, compute)


@first_of("remat", ["none", "products", "all"], keep=1)
@first_of("encoding", ENDS, ids=repr, keep=1)
def test_rows_past_what_an_encoding_holds_are_nan_and_reach_no_gradient(encoding, remat):
    most = encoding.max_length
    tokens = jnp.tile(TOKENS, 6)[:, : most + 4]
    model = model_of(encoding, Compute(remat=remat))

    def loss(model, tokens):
        return jnp.sum(jnp.sin(model(tokens)[:, :most]))

    logits = np.asarray(nnx.jit(lambda model: model(tokens))(model))
    assert np.isfinite(logits[:, :most]).all() and np.isnan(logits[:, most:]).all()
    gradient = nnx.jit(nnx.grad(loss))
    got, want = (jax.tree.leaves(gradient(model, some)) for some in (tokens, tokens[:, :most]))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * float(jnp.max(jnp.abs(other))) + 1e-30)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.7), Sampling(0.7, top_k=2, top_p=0.9)])
def test_a_row_of_nan_draws_no_token(sampling):
    logits = jnp.array([[0.0, 9.0, 0.0], [0.0, jnp.nan, 0.0]])
    drawn = sampling.draw(logits, jax.random.key(0)).tolist()
    assert drawn[0] in (0, 1, 2) and drawn[1] == -1


@pytest.mark.parametrize("how", ["mask", "positions"])
def test_a_traced_token_of_padding_may_be_any_number(how):
    model = model_of(Rope())
    real = jnp.arange(12) < 8
    given = {"positions": jnp.where(real, jnp.arange(12), -1)}
    if how == "mask":
        given = {"mask": Segments(jnp.broadcast_to(real, TOKENS.shape).astype(jnp.int32))}

    def loss(model, tokens):
        return jnp.sum(jnp.sin(model(tokens, **given)[:, :8]))

    gradient = nnx.jit(nnx.grad(loss))
    got, want = (jax.tree.leaves(gradient(model, jnp.where(real, TOKENS, padding))) for padding in (-100, 0))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_that_diverged_generates_nothing():
    model = model_of(Rope())
    scale = model.norms["decoder"].scale
    scale.set_value(scale.get_value().at[3].set(jnp.nan))
    with pytest.raises(InputError, match="no numbers at token 0 after the prompt of row 0"):
        generate(model, TOKENS, 3)


@pytest.mark.parametrize("token", [-1, 11])
def test_a_traced_token_outside_the_vocabulary_is_seen(token):
    model = model_of(Rope())
    logits = nnx.jit(lambda model, tokens: model(tokens))(model, TOKENS.at[1, 5].set(token))
    # Whoever looks at it is NaN, and nobody else.
    assert np.isnan(logits[1, 5:]).all() and np.isfinite(logits[0]).all() and np.isfinite(logits[1, :5]).all()


def cache_of(model, read):
    cache = model.cache(1, 9)
    _, cache, _ = model.hidden(TOKENS[:1, :read], model.prepare(read, cache=cache), cache)
    return cache


FORGOTTEN = {
    "the cache, in hidden": lambda m, c: m.hidden(TOKENS[:1, 3:4], m.prepare(1, cache=c)),
    "the cache, in prepare": lambda m, c: m.hidden(TOKENS[:1, 3:4], m.prepare(1), c),
    "that each step is prepared": lambda m, c: m.hidden(TOKENS[:1, 4:5], m.prepare(1, cache=c), cache_of(m, 4)),
    "a token": lambda m, c: m.hidden(TOKENS[:1, 3:5], m.prepare(1, cache=c), c),
    "how many there are": lambda m, c: m.hidden(TOKENS[:1], m.prepare(5)),
    "a row of positions": lambda m, c: m.hidden(TOKENS, m.prepare(12, jnp.zeros((3, 12), jnp.int32))),
    "a row of the cache": lambda m, c: m.hidden(TOKENS[:, 3:4], m.prepare(1, cache=c), c),
}


@pytest.mark.exhaustive
@first_of("forgotten", FORGOTTEN, keep=1)
def test_a_step_is_held_to_what_was_prepared_and_to_its_cache(forgotten):
    model = model_of(Rope())
    cache = cache_of(model, 3)
    with pytest.raises(InputError, match=r"what was prepared is for|the cache has 1 rows"):
        FORGOTTEN[forgotten](model, cache)
    right, _, _ = model.hidden(TOKENS[:1, 3:4], model.prepare(1, cache=cache), cache)
    np.testing.assert_allclose(model.logits(right)[:, 0], model(TOKENS[:1])[:, 3], atol=1e-5)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: build(Rope(), 11, 0), "needed is an Architecture"),
        (lambda: build(decoder(), 0, 0), "vocabulary is 0"),
        (lambda: build(decoder(), 11.0, 0), "vocabulary is 11.0"),
        (lambda: build(decoder(), 11, 1.5), "seed is 1.5"),
        (lambda: build(decoder(), 11, nnx.Rngs(0)), "seed is"),
        (lambda: small(Rope(), NoPE(), Alibi(), layers=2), "past the last layer is never used"),
        (lambda: generate("a model", TOKENS, 3), "needed is a model"),
        (lambda: generate(model_of(Rope()), TOKENS, 3, seed=jax.random.key(0)), "seed is"),
        (lambda: jax.jit(positions.contiguous, static_argnums=0)(3, jnp.arange(3)), "start is an array of shape"),
        (lambda: jax.jit(positions.contiguous, static_argnums=0)(3, 1.7), "needed is one whole number"),
        (lambda: positions.left_padded(np.array([[1, 1, 0, 0]])), "padding after a token"),
    ],
)
def test_it_is_refused_by_name(call, named):
    with pytest.raises(InputError, match=named):
        call()


def test_numpys_numbers_build_a_model_and_a_traced_start_past_int32_is_a_mark():
    model = build(small(), np.int64(11), np.int64(0))
    assert model.embedding.num_embeddings == 11
    start = jax.jit(lambda start: positions.contiguous(3, start))
    assert start(jnp.int32(2**31 - 2)).tolist() == [2**31 - 2, 2**31 - 1, -1] and start(5).tolist() == [5, 6, 7]
