"""Small arrays that a model is given mean what they say, and marks stay out of every gradient."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import Alibi, Causal, Full, InputError, LongRope, Mask, Rope, Segments, Window, attend
from posjax.attention import attention
from posjax.models import (
    Architecture,
    EncodingParams,
    FeedForward,
    Layer,
    LinearAttention,
    Stack,
    assert_model,
    build,
    cross_entropy,
    decoder,
    encoder,
    encoder_decoder,
    generate,
)
from posjax.models.memory import Memory
from tests.cases import first_of

VOCABULARY = 11


def model_of(encoding=None, **changes):
    return build(decoder(encoding or Rope(), layers=1, width=16, heads=2, **changes), VOCABULARY, 0)


@pytest.mark.exhaustive
@first_of("cap", [None, 5.0], keep=1)
def test_padding_at_minus_one_reaches_no_gradient_over_a_cache(cap):
    made = decoder(Rope(), layers=1, width=16, heads=2)
    (layer,) = made.decoder.pattern
    attending, fed = layer.sublayers
    scores = dataclasses.replace(attending.scores, cap=cap)
    layer = dataclasses.replace(layer, sublayers=(dataclasses.replace(attending, scores=scores), fed))
    model = build(dataclasses.replace(made, decoder=dataclasses.replace(made.decoder, pattern=(layer,))), VOCABULARY, 0)
    graph, state = nnx.split(model)
    real = jnp.array([[0, 0, 1, 1, 1, 1]])
    at = jnp.where(real == 1, jnp.cumsum(real, 1) - 1, -1)
    tokens, mask = jnp.array([[0, 0, 3, 4, 5, 6]]), Segments(real)

    def loss(state, cached):
        model = nnx.merge(graph, state)
        logits = model(tokens, at, mask=mask)
        if cached:
            cache = model.cache(1, 6, positions=True)
            stream, _, _ = model.hidden(tokens, model.prepare(6, at, mask=mask, cache=cache), cache)
            logits = model.logits(stream)
        return jnp.sum(logits[:, 2:] ** 2)

    gradients = [jax.tree.leaves(jax.grad(loss)(state, cached)) for cached in (False, True)]
    for want, got in zip(*gradients, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.abs(want).max()) + 1e-6)


IDS = jnp.array([[1, 1, 1, 2]])
ROOMS = {
    "all keys": (Rope(), Causal(), {}),
    "all keys, positions": (Alibi(), Causal(), {"positions": True}),
    "all keys, documents": (Alibi(), Causal(), {"mask": Segments(IDS)}),
    "a window": (Rope(), Causal() & Window(3), {}),
    "a window, positions": (Alibi(), Causal() & Window(3), {"positions": True}),
    "a window, documents": (Rope(), Causal() & Window(3), {"mask": Segments(IDS)}),
    "sums": (None, Causal(), {}),
    "sums, documents": (None, Causal(), {"mask": Segments(IDS)}),
}


@pytest.mark.parametrize("kind", ROOMS)
def test_a_step_without_room_in_the_cache_is_nan(kind):
    encoding, mask, asked = ROOMS[kind]
    if encoding is None:
        layer = Layer((LinearAttention(2), FeedForward(8)))
        model = build(Architecture(16, decoder=Stack(1, (layer,))), VOCABULARY, 0)
    else:
        model = model_of(encoding, mask=mask)
    at_will = asked.get("positions", False)
    cache = model.cache(1, 4, positions=at_will)

    @jax.jit
    def step(cache, token, at):
        positions = at if at_will else None
        prepared = model.prepare(1, positions, cache=cache, mask=asked.get("mask", Full()))
        stream, cache, _ = model.hidden(token, prepared, cache)
        return model.logits(stream), cache

    marked = []
    for number in range(6):
        logits, cache = step(cache, jnp.full((1, 1), number), jnp.full((1, 1), 2 * number))
        marked.append(bool(jnp.isnan(logits).all()))
    assert marked == [False] * 4 + [True] * 2


@pytest.mark.exhaustive
def test_real_is_true_or_false_whatever_its_numbers():
    model = build(encoder_decoder(layers=1, width=16, heads=2), VOCABULARY, 0)
    source, target = jnp.array([[1, 2, 3, 4]]), jnp.array([[5, 6, 7]])
    real = np.array([[True, True, True, False]])
    want = model(target, memory=model.encode(source, real=real))
    for given in (real.astype(int), real.astype(np.uint8) * 255, real * np.array([[1, 2, 3, 4]])):
        np.testing.assert_array_equal(model(target, memory=model.encode(source, real=given)), want)
    stream = model.encode(source).stream
    seen = [Memory(stream, None, given).mask(3) for given in (jnp.asarray(real), jnp.asarray(real.astype(int) * 2))]
    pairs = [mask.allowed(jnp.arange(3), jnp.arange(4)) for mask in seen]
    np.testing.assert_array_equal(*pairs)


LOGITS = jnp.zeros((2, 3, VOCABULARY))
WRONG_TARGETS = {
    "ignored": jnp.full((2, 3), -1),
    "past the end": jnp.full((2, 3), VOCABULARY),
    "one row": jnp.zeros((1, 3), int),
    "one token": jnp.zeros((2, 1), int),
    "floats": jnp.zeros((2, 3)),
    "a list": [[0, 0, 0], [0, 0, 0]],
    "nothing": None,
}


@pytest.mark.parametrize("wrong", WRONG_TARGETS)
def test_targets_are_tokens_of_the_vocabulary(wrong):
    with pytest.raises(InputError, match=r"cross_entropy got targets .*: needed are"):
        cross_entropy(LOGITS, WRONG_TARGETS[wrong])


def test_a_traced_target_outside_is_a_mark_and_trains_nothing():
    logits = jax.random.normal(jax.random.key(0), (1, 3, VOCABULARY))
    targets = jnp.array([[2, -1, VOCABULARY]])

    def first(logits, targets):
        losses = cross_entropy(logits, targets)
        return losses[0, 0], losses

    (_, losses), gradient = jax.jit(jax.value_and_grad(first, has_aux=True))(logits, targets)
    assert np.isnan(losses).tolist() == [[False, True, True]]
    assert np.isfinite(gradient).all() and not np.any(gradient[0, 1:])


def test_rows_of_several_lengths_have_no_common_length_to_depend_on():
    long = Rope(schedule=LongRope(8.0, 16, (1.0,) * 4, (8.0,) * 4))
    model = model_of(long)
    real = jnp.arange(24)[None] < jnp.array([[4], [24]])
    prompt = jnp.zeros((2, 24), int)
    with pytest.raises(InputError, match=r"rows of 4 to 24 tokens, and Rope.* depends on the length"):
        generate(model, prompt, 1, real=real)
    assert generate(model, prompt, 1, real=real[1:].repeat(2, 0)).shape == (2, 1)
    with pytest.raises(InputError, match="real that is known at run time only"):
        jax.jit(lambda real: generate(model, prompt, 1, real=real))(real)


def test_what_stops_may_be_an_array_of_one_number():
    model = model_of()
    prompt = jnp.ones((1, 2), int)
    want = generate(model, prompt, 3, stop=3)
    for stop in (np.array(3), jnp.array(3)):
        np.testing.assert_array_equal(generate(model, prompt, 3, stop=stop), want)


def test_no_rows_are_continued_by_none():
    assert generate(model_of(), jnp.zeros((0, 4), int), 2).shape == (0, 2)


def test_a_cache_and_a_model_of_ones_own_are_held_to_their_arrays():
    model = model_of()
    cache = dataclasses.replace(model.cache(1, 4), length=jnp.array([1]))
    with pytest.raises(InputError, match="the cache's length"):
        model.prepare(1, cache=cache)
    for tokens in (jnp.ones(6, int), None):
        with pytest.raises(InputError, match=r"the tokens .*needed are integers"):
            assert_model(model, tokens)


@dataclasses.dataclass(frozen=True)
class Earlier(Mask):
    """Causal, without the axis of rows."""

    def allowed(self, q_index, k_index):
        return q_index[:, None] >= k_index[None, :]


jax.tree_util.register_dataclass(Earlier, data_fields=[], meta_fields=[])


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_a_rule_of_ones_own_is_held_to_what_a_rule_answers(backend):
    x = jnp.ones((2, 4, 4, 8))
    with pytest.raises(InputError, match=r"Earlier.allowed gave bool \[4, 4\] for 4 queries and 4 keys: needed are"):
        attend(x, x, x, mask=Earlier(), backend=backend)


@pytest.mark.exhaustive
def test_segments_of_two_sequences_go_with_their_queries():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 5, 2, 8))
    mask = Segments(jnp.array([[1, 1, 2]]), jnp.array([[1, 1, 1, 2, 2]]))
    first, *others = (attention(q[:, :3], k, v, mask=mask, q_offset=offset)[0] for offset in (0, 4, jnp.int32(4)))
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-6)


def test_two_parameters_of_one_name_are_refused():
    with pytest.raises(InputError, match="two parameters that both come to the name 'a_b'"):
        EncodingParams({"a_b": jnp.ones(2), "a": {"b": jnp.zeros(3)}})


@pytest.mark.exhaustive
def test_padding_at_the_end_of_a_step_marks_itself_alone():
    model = model_of(Rope(), mask=Causal() & Window(3))
    tokens, at = jnp.array([[3, 4, 5, 6, 0, 0]]), jnp.array([[0, 1, 2, 3, -1, -1]])
    cache = model.cache(1, 8, positions=True)
    stream, _, _ = model.hidden(tokens, model.prepare(6, at, cache=cache), cache)
    np.testing.assert_allclose(model.logits(stream)[:, :4], model(tokens, at)[:, :4], atol=1e-5)


@pytest.mark.parametrize("T", [16, 17])
def test_a_mark_that_a_row_of_a_cache_sees_reaches_no_gradient(T):
    """Without a mask that hides it, padding sees itself."""
    graph, state = nnx.split(model_of())
    at = jnp.where(jnp.arange(T) < T - 1, jnp.arange(T), -1)[None]

    @jax.jit
    def loss(state):
        model = nnx.merge(graph, state)
        cache = model.cache(1, T, positions=True)
        stream, _, _ = model.hidden(jnp.ones((1, T), jnp.int32), model.prepare(T, at, cache=cache), cache)
        return (model.logits(stream)[:, :-1] ** 2).sum()

    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(state)))


def test_a_token_that_nobody_sees_is_not_pooled():
    model = build(encoder(Rope(), layers=1, width=8, heads=2, classes=3), VOCABULARY, 0)
    tokens, real = jnp.array([[1, 2, 3, 4]]), np.array([[1, 1, 0, 0]])
    alone = model(tokens[:, :2])
    np.testing.assert_allclose(model(tokens, mask=Segments(real)), alone, atol=1e-5)
    np.testing.assert_allclose(model(tokens, mask=Segments(np.ones((1, 4), int), real)), alone, atol=1e-5)


def test_linear_attention_over_a_cache_refuses_other_ids_of_keys():
    layer = Layer((LinearAttention(2), FeedForward(8)))
    model = build(Architecture(16, decoder=Stack(1, (layer,))), VOCABULARY, 0)
    cache = model.cache(1, 4)
    ids = Segments(np.ones((1, 4), int), np.array([[0, 0, 1, 1]]))
    with pytest.raises(InputError, match="the same for queries and keys"):
        model.hidden(jnp.ones((1, 4), jnp.int32), model.prepare(4, mask=ids, cache=cache), cache)


MODEL, PAIR = model_of(), build(encoder_decoder(layers=1, width=8, heads=2), VOCABULARY, 0)
TOLD = jnp.ones((1, 4), jnp.int32)
WRONG = {
    "rows of positions": (lambda: MODEL.prepare(3, jnp.zeros((2, 3), int), cache=MODEL.cache(1, 4)), "for 1 rows of 3"),
    "a ragged list": (lambda: generate(MODEL, TOLD, 2, real=[[1], [1, 0]]), "needed is bool"),
    "one rank": (lambda: MODEL.hidden(TOLD[0], MODEL.prepare(4)), r"tokens have shape \(4,\)"),
    "floats": (lambda: MODEL.hidden(TOLD.astype(jnp.float32), MODEL.prepare(4)), "tokens are float32"),
    "nothing prepared": (lambda: MODEL.hidden(TOLD, None), "prepared is None"),
    "another cache": (lambda: MODEL.hidden(TOLD, MODEL.prepare(4), "x"), "cache is 'x'"),
    "tokens for a count": (lambda: MODEL.prepare(TOLD), "count is"),
    "no count": (lambda: MODEL.prepare(None), "count is None"),
    "positions of a cache": (lambda: MODEL.cache(1, 4, positions=TOLD), "cache got positions="),
    "no memory": (lambda: PAIR.cache(1, 4, memory=3), "memory is a int"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_step_is_given_is_held_to_what_it_is(case):
    make, words = WRONG[case]
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.exhaustive
def test_a_traced_seed_builds_what_the_number_does():
    def made(seed):
        return nnx.state(model_of_seed(seed))

    several = jax.vmap(made)(jnp.arange(2))
    for both, one in zip(jax.tree.leaves(several), jax.tree.leaves(made(1)), strict=True):
        np.testing.assert_allclose(both[1], one, rtol=1e-5, atol=1e-6)


def model_of_seed(seed):
    return build(decoder(layers=1, width=16, heads=2), VOCABULARY, seed)


@pytest.mark.exhaustive
def test_what_a_mask_hides_from_an_encoder_its_decoder_does_not_read():
    source = jnp.array([[3, 4, 5, 0, 0], [3, 4, 5, 6, 7]])
    memory = PAIR.encode(source, mask=Segments((source > 0).astype(jnp.int32)))
    alone = PAIR.encode(source[:1, :3])
    targets = jnp.array([[1, 2, 3], [1, 2, 3]])
    np.testing.assert_allclose(PAIR(targets, memory=memory)[:1], PAIR(targets[:1], memory=alone), atol=1e-5)
