"""Generation with a cache equals the model without one, and draws what its sampling says."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import Alibi, DynamicNTK, Full, InputError, Learned, Plain, Rope, Schedule, Sinusoidal, T5Bias, Yarn, chain
from posjax.attention.over_cache import folded
from posjax.encodings import Encoding
from posjax.encodings.traits import embeds, scores_content
from posjax.models import Compute, Sampling, build, constants_of, generate
from tests.cases import CORE, DIMS, ENCODINGS, first_of, short, wide
from tests.small import at_once, small

VOCABULARY = 13


def model_of(encoding, layers: int = 1, backend: str = "reference"):
    config = small(encoding, layers=layers, width=24, heads=6, key_value_heads=2, deviation=1.0)
    return build(config, VOCABULARY, 1, Compute(backend=backend))


def tokens_of(B: int, T: int) -> jax.Array:
    return jax.random.randint(jax.random.key(B * T), (B, T), 0, VOCABULARY)


def sort(encoding: Encoding) -> tuple:
    """What a cache sees of an encoding: which hooks it has, and whether keys wait for the length."""
    return (
        embeds(encoding),
        type(encoding).rotate is Encoding.rotate,
        encoding.bias_kind,
        scores_content(encoding),
        encoding.length_dependent,
        encoding.coordinates,
    )


SORTS = list({sort(value): value for value in CORE}.values())


@pytest.mark.parametrize("encoding", wide(ENCODINGS, SORTS[::2]), ids=short)
def test_cached_logits_equal_the_uncached_ones(encoding):
    config = small(encoding, width=DIMS.model_size, heads=DIMS.heads, key_value_heads=3, deviation=1.0)
    model, tokens = build(config, VOCABULARY, 1, Compute(backend="reference")), tokens_of(2, 6)
    run = nnx.jit(lambda model, tokens: model(tokens))
    hidden = nnx.jit(lambda model, *given: model.hidden(*given))
    cache, full = model.cache(2, 6), run(model, tokens)
    for part in (slice(0, 4), slice(4, 5), slice(5, 6)):
        constants = constants_of(config, lambda encoding, end=part.stop: encoding.at_length(end))
        prepared = model.prepare(part.stop - part.start, cache=cache, constants=constants)
        x, cache, _ = hidden(model, tokens[:, part], prepared, cache)
        so_far = run(model, tokens[:, : part.stop]) if encoding.length_dependent else full
        np.testing.assert_allclose(model.logits(x), so_far[:, part], atol=2e-5)


SOME = [chain(Rope(), T5Bias()), Learned(16), chain(Sinusoidal(), Alibi())]


def follows(model, prompt, new, real=None) -> None:
    """The greedy continuation is at each step the likeliest token of a full pass."""
    out = generate(model, prompt, new, real=real)
    assert out.shape == (len(prompt), new) and out.dtype == jnp.int32
    logits = at_once(model, jnp.concatenate([prompt, out], 1))[:, prompt.shape[1] - 1 : -1]
    chosen = jnp.take_along_axis(logits, out[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, logits.max(-1), atol=2e-5)


@first_of(("encoding", "backend"), [*((e, "reference") for e in SOME), (SOME[0], "chunked")], ids=short, keep=1)
def test_greedy_generation_follows_the_full_pass(encoding, backend):
    follows(model_of(encoding, 2, backend), tokens_of(2, 4), 6)


@pytest.mark.exhaustive
def test_one_new_token_needs_no_step():
    follows(model_of(Rope()), tokens_of(2, 4), 1)


@first_of("encoding", SOME, ids=short, keep=1)
def test_left_padded_prompts_continue_as_without_padding(encoding):
    model, alone = model_of(encoding, 2), tokens_of(1, 3)
    padded = jnp.concatenate([jnp.array([[5, 7]]), alone], 1)
    prompt = jnp.concatenate([padded, tokens_of(1, 5)])
    real = jnp.array([[False, False, True, True, True], [True] * 5])
    out = generate(model, prompt, 4, real=real)
    np.testing.assert_array_equal(out[:1], generate(model, alone, 4))
    if encoding == SOME[0]:
        np.testing.assert_array_equal(out[1:], generate(model, prompt[1:], 4))


@dataclass(frozen=True)
class Switch(Schedule):
    """Plain up to a length, another schedule past it."""

    at: int = 5

    def frequencies(self, rotary_size, base, length=None):
        return Plain().frequencies(rotary_size, base)

    def at_length(self, length):
        return Plain() if length <= self.at else Yarn(factor=float(length), original_length=16, beta_fast=1.5)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "encoding",
    wide([Rope(schedule=Switch()), chain(Alibi(), Rope(schedule=Switch()))], [Rope(schedule=Switch())]),
    ids=short,
)
def test_an_encoding_of_the_length_decodes_as_without_a_cache_at_every_length(encoding):
    assert encoding.length_dependent
    model, prompt = model_of(encoding), tokens_of(2, 3)
    out = generate(model, prompt, 5)
    plain = model_of(encoding.at_length(1))
    moved = 0.0
    for n in range(5):
        so_far = jnp.concatenate([prompt, out[:, :n]], 1)
        logits = model(so_far)[:, -1]
        chosen = jnp.take_along_axis(logits, out[:, n, None], -1)[:, 0]
        np.testing.assert_allclose(chosen, logits.max(-1), atol=2e-5)
        moved = max(moved, float(np.abs(logits - plain(so_far)[:, -1]).max()))
    assert moved > 1e-2, "past the switch it is another encoding"


def test_caches_hold_keys_before_rotation_where_the_encoding_depends_on_the_length():
    tokens = tokens_of(1, 4)
    for encoding, equal in ((Rope(schedule=Switch()), True), (Rope(), False)):
        model = model_of(encoding)
        empty = model.cache(1, 4)
        cache = model.hidden(tokens, model.prepare(4, cache=empty), empty)[1]
        block = model.blocks["decoder"][0]
        normed = block.attention_norm(model.embedding(tokens))
        raw = folded(block.attention.key(normed))
        assert np.allclose(cache.layers[0][0][0], raw, atol=1e-6) == equal


def test_generation_in_bfloat16_runs():
    config = model_of(chain(Rope(), T5Bias())).architecture
    out = generate(build(config, VOCABULARY, 1, Compute(dtype="bfloat16")), tokens_of(2, 4), 3)
    assert out.shape == (2, 3) and out.dtype == jnp.int32


def allowed(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The probabilities a row is drawn from, by the words of the definition."""
    scaled = logits / sampling.temperature
    order = np.argsort(-scaled)
    kept = order if sampling.top_k is None else order[: sampling.top_k]
    p = np.exp(scaled[kept]) / np.exp(scaled[kept]).sum()
    if sampling.top_p is not None:
        fewest = next(n for n in range(1, len(p) + 1) if p[:n].sum() >= sampling.top_p - 1e-9)
        kept, p = kept[:fewest], p[:fewest] / p[:fewest].sum()
    out = np.zeros_like(logits)
    out[kept] = p
    return out


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(0.5),
        Sampling(3.0),
        Sampling(top_k=1),
        Sampling(top_k=3),
        Sampling(2.0, top_k=4),
        Sampling(top_k=99),
        Sampling(top_p=0.3),
        Sampling(top_p=0.8),
        Sampling(1.5, top_p=0.6),
        Sampling(top_p=1.0),
        Sampling(top_k=4, top_p=0.7),
        Sampling(2.0, top_k=5, top_p=0.9),
        Sampling(top_p=1e-6),
    ],
    ids=str,
)
def test_draws_follow_the_definition(sampling):
    rows = np.random.default_rng(0).normal(size=(2, 8)) * 1.5
    draws = 4000
    logits = jnp.asarray(np.repeat(rows, draws, 0), jnp.float32)
    drawn = np.asarray(sampling.draw(logits, jax.random.key(0)))
    assert drawn.dtype == np.int32
    for i, row in enumerate(rows):
        expected = allowed(row, sampling)
        got = np.bincount(drawn[i * draws : (i + 1) * draws], minlength=8) / draws
        assert not got[expected == 0].any()
        np.testing.assert_allclose(got, expected, atol=0.03)


def test_temperature_zero_takes_the_likeliest():
    logits = jax.random.normal(jax.random.key(0), (5, 8))
    for sampling in (Sampling(0.0), Sampling(0.0, top_k=3), Sampling(0.0, top_p=0.1)):
        np.testing.assert_array_equal(sampling.draw(logits, jax.random.key(1)), logits.argmax(-1))


def test_seeds_make_samples_and_steps_differ():
    model, prompt = model_of(Rope()), tokens_of(2, 4)
    hot = Sampling(temperature=100.0)  # Near uniform: a key used twice would show.
    a, b, again = (np.asarray(generate(model, prompt, 8, sampling=hot, seed=s)) for s in (0, 1, 0))
    np.testing.assert_array_equal(a, again)
    assert (a != b).any() and all(len(set(row)) > 2 for row in a) and (a[0] != a[1]).any()


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Sampling(-0.1), "temperature=-0.1", "0 (greedy) or more"),
        (lambda: Sampling(top_k=0), "top_k=0", "1 or more, or None"),
        (lambda: Sampling(top_p=0.0), "top_p=0.0", "in (0, 1], or None"),
        (lambda: Sampling(top_p=1.1), "top_p=1.1", "in (0, 1], or None"),
        (lambda: generate(model_of(Rope()), jnp.zeros((1, 0), int), 3), "shape (1, 0) and new=3", "T of 1 or more"),
        (lambda: generate(model_of(Rope()), jnp.zeros(3, int), 3), "shape (3,)", "needed are integers [B, T]"),
        (lambda: generate(model_of(Rope()), jnp.zeros((1, 3), int), 0), "new is 0", "1 or more"),
        (
            lambda: generate(model_of(Learned(8)), jnp.zeros((1, 6), int), 4),
            "reach 9 tokens and Learned(length=8, deviation=0.02, offset=0) holds 8",
            "generate 3 at most, or train a longer table",
        ),
        (lambda: generate(model_of(Learned(8)), jnp.zeros((1, 12), int), 1), "reach 12 tokens", "generate 0 at most"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_the_whole_table_may_be_used():
    assert generate(model_of(Learned(8)), jnp.zeros((1, 6), int), 3).shape == (1, 3)


@pytest.mark.exhaustive
def test_a_length_is_counted_without_the_padding():
    encoding = Rope(base=10.0, schedule=DynamicNTK(factor=8.0, original_length=16))
    model, alone = model_of(encoding, 2), tokens_of(2, 6)
    real = jnp.arange(30)[None].repeat(2, 0) >= 24
    padded = jnp.concatenate([jnp.zeros((2, 24), jnp.int32), alone], 1)
    np.testing.assert_array_equal(generate(model, padded, 6, real=real), generate(model, alone, 6))


@first_of("length", [np.int64(3), jnp.int32(3), jnp.int32(-2)], ids=str, keep=1)
def test_a_cache_is_full_whatever_its_length_is_a_number_of(length):
    model = model_of(Alibi())
    cache = replace(model.cache(1, 3), length=length)
    with pytest.raises(InputError, match="the cache holds 3 tokens"):
        model.prepare(1, cache=cache)


def test_a_cache_has_no_tokens_ahead():
    model = build(small(Alibi("symmetric"), mask=Full()), VOCABULARY, 1)
    with pytest.raises(InputError, match="a cache has none there yet"):
        model.prepare(4, cache=model.cache(1, 8))
