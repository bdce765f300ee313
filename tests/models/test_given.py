"""Kinds of tokens, memories, padding and keys as callers hand them to a model: right, or refused by name."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Alibi,
    AxialRope,
    Causal,
    DynamicNTK,
    Encoding,
    First,
    Full,
    InputError,
    Learned,
    LogN,
    NoPE,
    PoSE,
    Rope,
    Segments,
    Shaw,
    Sinusoidal,
    Window,
    chain,
)
from posjax.attention import as_mask
from posjax.models import (
    Architecture,
    Attention,
    Embedding,
    FeedForward,
    Layer,
    LinearAttention,
    Memory,
    Sampling,
    Scores,
    Stack,
    build,
    constants_of,
    cross_entropy,
    decoder,
    encoder,
    encoder_decoder,
    generate,
    stream,
)
from posjax.models.folding import fold
from tests.cases import first_of
from tests.small import small

TOKENS = jnp.array([[1, 2, 3, 4, 5, 6]])
SIZES: Any = {"layers": 1, "width": 8, "heads": 2}
LARGE = Embedding(1.0)


class Drops(Encoding):
    def move(self, params, positions, key):
        return positions[..., :-1]


def typed():
    return build(replace(small(), embedding=replace(LARGE, types=2)), 7, 0)


NOPE: Encoding = NoPE()


def crossing(encoding=NOPE):
    return build(replace(encoder_decoder(NoPE(), NoPE(), encoding, **SIZES), embedding=LARGE), 7, 0)


def reading(*memory):
    return crossing(Rope())(TOKENS, memory=Memory(*memory))


STREAM = jnp.ones((1, 5, 8))
MOVED = chain(PoSE(64), AxialRope((1, 1)))


@pytest.mark.parametrize(("call", "named"), [
    (lambda: typed()(TOKENS, types=jnp.full((1, 6), 2)), "types reach from 2 to 2"),
    (lambda: typed()(TOKENS, types=jnp.full((1, 6), -1)), "types reach from -1 to -1"),
    (lambda: typed()(TOKENS, types=jnp.ones((1, 1), jnp.int32)), "types have shape (1, 1)"),
    (lambda: typed()(TOKENS, types=jnp.ones((1, 6))), "types are float32"),
    (lambda: typed()(TOKENS, types=jnp.ones((1, 6), bool)), "types are bool"),
    (lambda: reading(STREAM, jnp.arange(1)), "positions have shape (1,)"),
    (lambda: reading(STREAM, jnp.arange(5.0)), "positions are float32"),
    (lambda: reading(STREAM[..., :6]), "needed is [B, S, 8]"),
    (lambda: crossing()(TOKENS, memory=STREAM), "memory is a ArrayImpl"),
    (lambda: generate(crossing(), TOKENS, 2, memory=STREAM), "memory is a ArrayImpl"),
    (lambda: crossing().hidden(TOKENS, crossing().prepare(6, memory=Memory(STREAM)), memory=STREAM), "is a ArrayImpl"),
    (lambda: reading(STREAM.tolist()), "a stream that is a list"),
    (lambda: build(small(), 7, 0)(TOKENS, constants=[1]), "constants is a list"),
    (lambda: build(small(), 7, 0)(TOKENS, length=-1), "length is -1"),
    (lambda: constants_of(build(small(), 7, 0)), "needed are an Architecture"),
    (lambda: constants_of(small(), "x"), "a function from an encoding"),
    (lambda: constants_of(small(), lambda encoding: None), "change made None"),
    (lambda: jax.jit(lambda tokens: list(stream(build(small(), 7, 0), tokens, 2)))(TOKENS), "call generate"),
    (lambda: cross_entropy([[[0.0]]], TOKENS), "logits [[[0.0]]]"),
    (lambda: cross_entropy(jnp.float32(1), TOKENS), "needed are floats [B, T, V]"),
    (lambda: Sampling().draw([[1.0, 2.0]], jax.random.key(0)), "draw got logits"),
    (lambda: Sampling().draw(jnp.ones((1, 2)), 0), "draw got key=0"),
    (lambda: build(small(Drops()), 7, 0)(TOKENS, key=jax.random.key(0)), "moved positions have shape (1, 5)"),
    (lambda: build(small(), 7, 0)(TOKENS, memory=Memory(STREAM)), "no layer of the decoder reads one"),
    (lambda: Attention(2, keys_from="memory"), "mask=Causal(), which compares places"),
    (lambda: Attention(2, mask=First(2) & Causal(), keys_from="memory"), "compares places"),
    (lambda: Attention(2, mask=Segments(np.ones((1, 4), int))), "holds arrays"),
    (lambda: Attention(2, biases=("key", "query", "key")), "each projection that has one, once"),
    (lambda: Attention(2, encoding=Shaw(2), scores=Scores(cap=5.0)), "a score of its own"),
    (lambda: LinearAttention(2, encoding=chain(Rope(), LogN(4))), "rotates, and no more"),
    (lambda: LinearAttention(2, encoding=Rope(schedule=DynamicNTK(2.0, 4))), "rotates, and no more"),
    (lambda: LinearAttention(2, mask=Causal() & Window(2)), "which sums can follow"),
    (lambda: build(encoder(**SIZES, classes=3), 7, 0)(TOKENS[:, :0]), "there are none"),
    (lambda: build(small(), 7, 0)(TOKENS, key=3), "key=3"),
    (lambda: build(small(), 7, 0)(TOKENS, key=jax.random.split(jax.random.key(0))), "needed is one key"),
    (lambda: crossing().encode(TOKENS, key="a"), "key='a'"),
    (lambda: build(decoder(MOVED, **SIZES), 7, 0)(TOKENS, jnp.zeros((1, 6, 2), int), key=jax.random.key(0)),
     "(1, 6, 2) are to be moved"),
])  # fmt: skip
def test_it_is_refused_by_name(call, named):
    with pytest.raises(InputError) as caught:
        call()
    assert named in str(caught.value) and "\n" not in str(caught.value), str(caught.value)


def test_a_traced_kind_that_is_none_is_a_mark():
    model = typed()
    logits = jax.jit(lambda types: model(TOKENS, types=types))(jnp.array([[0, 1, 0, 1, 0, 2]]))
    assert np.isnan(logits[0, 5]).all() and np.isfinite(logits[0, :5]).all()


@pytest.mark.parametrize("pool", ["first", "last", "mean"])
@pytest.mark.parametrize("real", [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]], ids=str)
def test_what_a_mask_hides_as_padding_has_no_part_in_a_rows_class(pool, real):
    made = encoder(NoPE(), **SIZES, classes=3)
    model = build(replace(made, output=replace(made.output, pool=pool), embedding=LARGE), 7, 0)
    kept = TOKENS[:, np.flatnonzero(real)]
    np.testing.assert_allclose(model(TOKENS, mask=Segments(jnp.array([real]))), model(kept), atol=1e-5)


@pytest.mark.parametrize("pool", ["first", "mean"])
@pytest.mark.parametrize("mask", [First(4), np.tile(np.arange(6) < 4, (6, 1))], ids=["first", "array"])
def test_what_no_token_sees_has_no_part_in_a_rows_class(pool, mask):
    made = encoder(NoPE(), **SIZES, classes=3)
    model = build(replace(made, output=replace(made.output, pool=pool), embedding=LARGE), 7, 0)
    np.testing.assert_allclose(model(TOKENS, mask=as_mask(mask)), model(TOKENS[:, :4]), atol=1e-5)


def test_padding_under_either_rule_has_no_part_in_a_rows_class():
    model = build(encoder(Rope(), **SIZES, classes=3), 7, 0)
    ids = Segments(jnp.array([[1, 1, 1, 1, 0, 0]]))
    np.testing.assert_allclose(model(TOKENS, mask=ids | ids), model(TOKENS, mask=ids), atol=1e-6)
    at = jnp.array([0, 1, 2, 3, -1, -1])
    np.testing.assert_allclose(model(TOKENS, at, mask=ids), model(TOKENS, mask=ids), atol=1e-6)


def test_what_is_folded_is_folded_once():
    model = fold(build(small(layers=2), 7, 0))
    np.testing.assert_array_equal(fold(model)(TOKENS), model(TOKENS))


@pytest.mark.parametrize("encoding", [NoPE(), Alibi("symmetric"), Rope()], ids=repr)
def test_a_negative_position_of_a_memory_is_padding(encoding):
    model = crossing(encoding)
    stream = model.encode(TOKENS).stream
    at = jnp.array([0, 1, 2, 3, -1, -1])
    got = model(TOKENS, memory=Memory(stream, at))
    np.testing.assert_allclose(got, model(TOKENS, memory=Memory(stream[:, :4])), atol=1e-5)


def test_padding_by_real_asks_for_the_length_where_it_counts():
    made = encoder_decoder(Rope(schedule=DynamicNTK(8.0, 2)), **SIZES)
    model = build(replace(made, embedding=LARGE), 7, 0)
    real = jnp.arange(6)[None] < 4
    with pytest.raises(InputError, match="length="):
        model.encode(TOKENS, real=real)
    padded = model.encode(TOKENS, real=real, length=4).stream[:, :4]
    np.testing.assert_allclose(padded, model.encode(TOKENS[:, :4]).stream, atol=1e-5)


@pytest.mark.exhaustive
def test_a_context_reaches_as_far_as_the_memory_that_it_sees():
    model = crossing(Rope(schedule=DynamicNTK(8.0, 2)))
    memory = model.encode(TOKENS)
    wanted = model(TOKENS[:, :3], memory=memory, length=6)
    np.testing.assert_array_equal(model(TOKENS[:, :3], memory=memory), wanted)
    assert np.abs(wanted - model(TOKENS[:, :3], memory=memory, length=3)).max() > 1e-3
    first = generate(model, TOKENS[:, :3], 1, memory=memory)
    assert first[0, 0] == wanted[0, 2].argmax()


def linear(encoding):
    layer = Layer((LinearAttention(2, encoding=encoding), FeedForward(8)))
    return build(Architecture(8, decoder=Stack(1, (layer,)), embedding=LARGE), 7, 0)


@pytest.mark.exhaustive
@first_of(
    "encoding",
    [Sinusoidal(), Learned(8), chain(Learned(8), Rope(), Sinusoidal(), Rope())],
    ids=repr,
    keep=1,
)
def test_linear_attention_takes_what_is_embedded_and_turns_the_rest(encoding):
    model = linear(encoding)
    logits = model(TOKENS)
    cache = model.cache(1, 6)
    for t in range(6):
        stream, cache, _ = model.hidden(TOKENS[:, t : t + 1], model.prepare(1, cache=cache), cache)
        np.testing.assert_allclose(model.logits(stream)[:, 0], logits[:, t], atol=1e-5)
    # What is embedded tells equal tokens apart.
    alike = model(jnp.full((1, 3), 2))
    assert np.abs(alike[0, 0] - alike[0, 2]).max() > 1e-4


@pytest.mark.exhaustive
def test_linear_attention_says_that_it_sees_padding_unless_a_mask_hides_it():
    model, at = linear(Rope()), jnp.array([-1, -1, 0, 1, 2, 3])
    assert np.isnan(model(TOKENS, at)[:, 2:]).all()
    hidden = model(TOKENS, at, mask=Segments(jnp.array([[0, 0, 1, 1, 1, 1]])))
    np.testing.assert_allclose(hidden[:, 2:], model(TOKENS[:, 2:]), atol=1e-5)


def test_all_queries_may_see_the_first_of_a_memory():
    assert Attention(2, mask=First(2) & Full(), keys_from="memory").mask == First(2) & Full()
