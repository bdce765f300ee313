"""Every switch of an architecture: its size is what was said, it learns everywhere, and it decodes as it reads."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import posjax
from posjax import Alibi, Causal, Favor, Full, InputError, Learned, NoPE, Rope, Sinusoidal, T5Bias, Window, models
from posjax.models import (
    Architecture,
    Attention,
    Compute,
    DropoutRates,
    Embedding,
    FeedForward,
    Hidden,
    Layer,
    LinearAttention,
    Memory,
    Norm,
    Output,
    Scores,
    Stack,
    build,
    cross_entropy,
    decoder,
    encoder,
    encoder_decoder,
    generate,
    stream,
)
from posjax.models.modules import dropped
from tests.cases import first_of
from tests.small import at_once, in_parts

VOCABULARY = 13
REFERENCE = Compute(backend="reference")
ALL = ("query", "key", "value", "out")
LAYER_NORM = Norm("layer", bias=True)
FED = FeedForward(20)


def attention(**fields) -> Attention:
    return Attention(**{"heads": 4, "key_value_heads": 2, "encoding": Rope()} | fields)


def layered(*layers, **fields) -> Architecture:
    return Architecture(24, decoder=Stack(2, layers), **{"embedding": Embedding(1.0)} | fields)


def scored(**fields) -> Architecture:
    return layered(Layer((attention(scores=Scores(**fields)), FED)))


def fed(**fields) -> Architecture:
    return layered(Layer((attention(), FeedForward(20, **fields))))


def joined(**fields) -> Architecture:
    return layered(Layer((attention(), FED), **fields))


SWITCHES = {
    "plain": decoder(width=24, heads=4),
    "head size": layered(Layer((attention(head_size=10), FED))),
    "biases": layered(Layer((attention(biases=ALL), FeedForward(20, bias=True)), norm=LAYER_NORM)),
    "some biases": layered(Layer((attention(biases=("query", "value")), FED))),
    "scale": scored(scale=0.3),
    "cap": scored(cap=2.0),
    "sink": scored(sink=True),
    "gate of heads": scored(gate="head"),
    "gate of channels": scored(gate="channel"),
    "norm of heads": scored(norm=Norm()),
    "norm of each head": scored(norm=LAYER_NORM, norm_over="each"),
    "norm of all heads": scored(norm=Norm(), norm_over="all"),
    "norm without a scale": scored(norm=Norm(scaled=False)),
    "norm after": joined(norm_at="after"),
    "norm before and after": joined(norm_at="both", norm=Norm(offset=1.0)),
    "norm of the sum": joined(norm_at="sum", norm=LAYER_NORM),
    "no norm": joined(norm=None),
    "parallel": joined(parallel=True),
    "parallel of one norm": joined(parallel=True, shared_norm=True),
    "multiplier": joined(multiplier=0.5),
    "no first norm": layered(
        Layer((attention(), FED)), embedding=Embedding(1.0, norm=Norm()), output=Output(bias=True)
    ),
    "not gated": fed(gated=False),
    "gelu": fed(activation="gelu"),
    "gelu by tanh": fed(activation="gelu_tanh"),
    "relu": fed(activation="relu"),
    "relu squared": fed(activation="relu_squared", gated=False),
    "tied": layered(Layer((attention(), FED)), output=Output(tied=True, multiplier=0.2, bias=True)),
    "capped": layered(Layer((attention(), FED)), output=Output(cap=3.0)),
    "hidden": layered(Layer((attention(), FED)), output=Output(tied=True, hidden=Hidden(norm=LAYER_NORM))),
    "embedding": layered(Layer((attention(), FED)), embedding=Embedding(0.1, 5.0, LAYER_NORM, types=2)),
    "attention alone": layered(Layer((attention(),)), Layer((FED,))),
    "two attentions": layered(Layer((attention(), attention(encoding=Alibi()), FED))),
    "random features": layered(Layer((LinearAttention(4, encoding=Rope(), features=Favor(16)), FED))),
    "linear": layered(Layer((LinearAttention(4, 2, encoding=Rope()), FED)), Layer((attention(), FED))),
    "window": layered(Layer((attention(mask=Causal() & Window(3)), FED)), Layer((attention(encoding=NoPE()), FED))),
    "absolute": decoder(Learned(16), width=24, heads=4),
    "sinusoidal": decoder(Sinusoidal(), width=24, heads=4),
    "biased": decoder(T5Bias(), width=24, heads=4),
}
SWITCHES["no first norm"] = replace(
    SWITCHES["no first norm"], decoder=replace(SWITCHES["no first norm"].decoder, norm_first=False)
)
ENCODERS = {
    "tokens": encoder(width=24, heads=4, tied=True),
    "classes": encoder(width=24, heads=4, classes=3),
    "mean": replace(encoder(width=24, heads=4, classes=3), output=Output(classes=3, pool="mean")),
    "last": replace(encoder(width=24, heads=4, classes=3), output=Output(classes=3, pool="last")),
}
CLASSIFYING = replace(SWITCHES["plain"], output=Output(classes=2))
PAIR = encoder_decoder(Rope(), Alibi(), width=24, heads=4)
CROSSED = encoder_decoder(T5Bias(bidirectional=True), T5Bias(), cross_encoding=Rope(), width=24, heads=4, tied=True)
TOKENS = jax.random.randint(jax.random.key(0), (2, 7), 0, VOCABULARY)
SOURCE = jax.random.randint(jax.random.key(1), (2, 5), 0, VOCABULARY)


def numbers(model) -> int:
    """How many numbers a model has, but for what its encodings learn."""
    state = nnx.state(model, nnx.Param)
    of_encodings = jax.tree.leaves(state["encodings"]) if "encodings" in state else []
    return sum(x.size for x in jax.tree.leaves(state)) - sum(x.size for x in of_encodings)


def randomised(architecture, compute=REFERENCE):
    """A model of which no parameter is 0 or 1: biases and scales begin so, and would not show."""
    model = build(architecture, VOCABULARY, 0, compute)
    leaves, structure = jax.tree.flatten(nnx.state(model, nnx.Param))
    keys = jax.random.split(jax.random.key(9), len(leaves))
    moved = [x + 0.3 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    nnx.update(model, structure.unflatten(moved))
    return model


@pytest.mark.parametrize("name", [*SWITCHES, *ENCODERS, "pair", "crossed"])
def test_a_size_is_what_the_model_has(name):
    architecture = ({**SWITCHES, **ENCODERS} | {"pair": PAIR, "crossed": CROSSED})[name]
    assert architecture.size(VOCABULARY) == numbers(build(architecture, VOCABULARY, 0))
    assert eval(repr(architecture), vars(models) | vars(posjax)) == architecture
    assert hash(architecture) == hash(replace(architecture))


def test_a_value_is_told_by_what_differs_from_the_defaults():
    small = Architecture(8, Stack(1, (Layer((Attention(2, biases=("out",)), FeedForward(4))),), norm_first=False))
    attention = "Attention(heads=2, biases=('out',))"
    layer = f"Layer(sublayers=({attention}, FeedForward(size=4)))"
    assert repr(small) == f"Architecture(width=8, decoder=Stack(layers=1, pattern=({layer},), norm_first=False))"


@pytest.mark.exhaustive
@first_of("name", SWITCHES, keep=1)
def test_a_switch_learns_everywhere_and_decodes_as_it_reads(name):
    model = randomised(SWITCHES[name])
    types = jnp.zeros_like(TOKENS).at[:, 3:].set(1) if SWITCHES[name].embedding.types else None

    def loss(model):
        return cross_entropy(model(TOKENS, types=types), jnp.roll(TOKENS, -1, 1)).mean()

    gradients = nnx.jit(nnx.grad(loss))(model)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.abs(gradient).max() > 0, jax.tree_util.keystr(path)
    np.testing.assert_allclose(in_parts(model, TOKENS, (3, 1, 2, 1)), at_once(model, TOKENS), atol=3e-5)


def deep(name: str) -> Architecture:
    return replace(SWITCHES[name], decoder=replace(SWITCHES[name].decoder, layers=5))


@cache
def written_out(name: str) -> np.ndarray:
    """What a deep model gives one operation after the other, once for all ways to compute it."""
    return np.asarray(randomised(deep(name))(TOKENS))


@first_of("name", ["parallel", "no first norm", "linear", "window", "sink", "biased"], keep=1)
@first_of("compute", [{"scan": True}, {"remat": "products"}, {"remat": "all"}, {"backend": "chunked"}], keep=1)
def test_how_it_is_computed_changes_nothing(name, compute):
    other = randomised(deep(name), Compute(**{"backend": "reference"} | compute))
    np.testing.assert_allclose(nnx.jit(lambda m: m(TOKENS))(other), written_out(name), atol=5e-5)


@pytest.mark.exhaustive
@first_of("name", ENCODERS, keep=1)
def test_padding_says_nothing_of_a_row(name):
    model = randomised(ENCODERS[name])
    padded = jnp.pad(TOKENS, ((0, 0), (2, 1)))
    at = jnp.concatenate([jnp.full(2, -1), jnp.arange(7), jnp.full(1, -1)])
    ids = (at >= 0).astype(jnp.int32)[None]
    got = model(padded, at, mask=posjax.Segments(ids))
    if got.ndim == 3:
        got = got[:, 2:9]
    np.testing.assert_allclose(got, model(TOKENS), atol=2e-5)


def test_an_encoder_sees_both_ways_and_a_decoder_one():
    for architecture, sees in ((ENCODERS["tokens"], True), (SWITCHES["plain"], False)):
        model = build(architecture, VOCABULARY, 0)
        changed = TOKENS.at[:, -1].set((TOKENS[:, -1] + 1) % VOCABULARY)
        difference = np.abs(model(TOKENS) - model(changed))[:, 0].max()
        assert (difference > 1e-4) == sees


def test_a_prefix_sees_itself_both_ways():
    model = build(layered(Layer((attention(mask=posjax.prefix(3)), FED))), VOCABULARY, 0)
    plain = model(TOKENS)
    for at, changed in ((2, [0, 1, 2, 3, 4, 5, 6]), (4, [4, 5, 6])):
        other = model(TOKENS.at[:, at].set((TOKENS[:, at] + 1) % VOCABULARY))
        difference = np.abs(other - plain).max((0, 2))
        assert np.flatnonzero(difference > 1e-6).tolist() == changed


@pytest.mark.exhaustive
@first_of("architecture", [PAIR, CROSSED], ids=["pair", "crossed"], keep=1)
def test_a_decoder_reads_what_the_encoder_made(architecture):
    model = randomised(architecture)
    memory = model.encode(SOURCE)
    full = model(TOKENS, memory=memory)
    other = model(TOKENS, memory=model.encode(SOURCE.at[:, 2].set((SOURCE[:, 2] + 1) % VOCABULARY)))
    assert np.abs(full - other).max() > 1e-3
    padded = model.encode(jnp.pad(SOURCE, ((0, 0), (0, 3))), real=jnp.arange(8)[None].repeat(2, 0) < 5)
    np.testing.assert_allclose(model(TOKENS, memory=padded), full, atol=2e-5)
    np.testing.assert_allclose(in_parts(model, TOKENS, (4, 1, 2), memory), full, atol=3e-5)
    new = generate(model, TOKENS[:, :2], 4, memory=memory)
    logits = model(jnp.concatenate([TOKENS[:, :2], new], 1), memory=memory)[:, 1:-1]
    np.testing.assert_array_equal(new, jnp.argmax(logits, -1))


@first_of("compute", [Compute(), Compute(scan=True), Compute(remat="all")], ids=str, keep=1)
def test_dropout_follows_its_key_alone(compute):
    rates = DropoutRates(embedding=0.2, residual=0.3, feed_forward=0.4, attention=0.5)
    dry = replace(decoder(width=24, heads=4, layers=3), embedding=Embedding(1.0))
    model, plain = build(replace(dry, dropout=rates), VOCABULARY, 0, compute), build(dry, VOCABULARY, 0)
    np.testing.assert_allclose(model(TOKENS), plain(TOKENS), atol=1e-5)
    first, again, second = (model(TOKENS, key=jax.random.key(n)) for n in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 1e-2
    apart = build(replace(dry, dropout=rates), VOCABULARY, 0)
    np.testing.assert_allclose(first, apart(TOKENS, key=jax.random.key(0)), atol=1e-5)
    # An older key, which is an array of numbers, is the same.
    np.testing.assert_array_equal(first, model(TOKENS, key=jax.random.PRNGKey(0)))


@pytest.mark.parametrize("place", ["embedding", "residual", "feed_forward", "attention"])
def test_each_place_drops_its_share(place):
    dry = replace(decoder(width=24, heads=4), embedding=Embedding(1.0))
    model = build(replace(dry, dropout=DropoutRates(**{place: 0.5})), VOCABULARY, 0)
    assert np.abs(model(TOKENS, key=jax.random.key(0)) - model(TOKENS)).max() > 1e-2


def test_what_is_dropped_is_made_up_for():
    x = jnp.ones((100, 1000))
    kept = dropped(x, 0.3, jax.random.key(0))
    assert set(np.unique(np.asarray(kept)).tolist()) == {0.0, float(jnp.float32(1) / jnp.float32(0.7))}
    assert abs(float(kept.mean()) - 1) < 0.01 and abs(float((kept == 0).mean()) - 0.3) < 0.01
    assert dropped(x, 0.3, None) is x and dropped(x, 0.0, jax.random.key(0)) is x


@pytest.mark.exhaustive
def test_padding_of_a_source_by_its_positions_is_as_if_it_were_not_there():
    model = randomised(PAIR)
    plain = model(TOKENS, memory=model.encode(SOURCE))
    padded = jnp.pad(SOURCE, ((0, 0), (0, 2)))
    at = jnp.array([0, 1, 2, 3, 4, -1, -1])
    hidden = posjax.Segments((at >= 0).astype(jnp.int32)[None])
    memory = model.encode(padded, at, mask=hidden)
    np.testing.assert_allclose(model(TOKENS, memory=memory), plain, atol=2e-5)


@pytest.mark.exhaustive
@first_of("dtype", ["bfloat16", "float16"], keep=1)
def test_narrow_types_compute_what_float32_does(dtype):
    architecture = SWITCHES["biases"]
    wide, narrow = build(architecture, VOCABULARY, 0), build(architecture, VOCABULARY, 0, Compute(dtype=dtype))
    difference = np.abs(narrow(TOKENS) - wide(TOKENS)).max()
    assert narrow(TOKENS).dtype == jnp.float32 and 0 < difference < 0.1


ROWS = jnp.array([[5, 3, 7, 0, 0], [2, 4, 6, 8, 1], [9, 0, 0, 0, 0]])
REAL = jnp.array([[1, 1, 1, 0, 0], [1] * 5, [1, 0, 0, 0, 0]], bool)


@pytest.mark.exhaustive
@first_of("name", ["plain", "window", "linear", "absolute", "biased"], keep=1)
@first_of("side", ["right", "left"], keep=1)
def test_rows_of_different_lengths_give_what_each_alone_gives(name, side):
    model = randomised(SWITCHES[name])
    rows, real = ROWS, REAL
    if side == "left":
        rows = jnp.stack([jnp.roll(row, 5 - n) for row, n in zip(ROWS, REAL.sum(1).tolist(), strict=True)])
        real = REAL[:, ::-1]
    together = generate(model, rows, 6, real=real)
    for row, is_real, got in zip(ROWS, REAL, together, strict=True):
        alone = generate(model, row[is_real][None], 6)
        np.testing.assert_array_equal(got[None], alone)


@pytest.mark.exhaustive
def test_a_stream_and_a_stop_are_the_same_tokens():
    model = randomised(SWITCHES["plain"])
    tokens = np.asarray(generate(model, ROWS, 8))
    np.testing.assert_array_equal(np.stack(list(stream(model, ROWS, 8)), 1), tokens)
    stop = int(tokens[0, 3])
    stopped = np.asarray(generate(model, ROWS, 8, stop=stop))
    for row, got in zip(tokens, stopped, strict=True):
        ends = np.flatnonzero(row == stop)
        end = int(ends[0]) if len(ends) else 8
        np.testing.assert_array_equal(got[:end], row[:end])
        assert (got[end:] == stop).all()
    streamed = np.stack(list(stream(model, ROWS, 8, stop=stop)), 1)
    np.testing.assert_array_equal(streamed, stopped[:, : streamed.shape[1]])
    only = list(stream(model, ROWS[:1], 8, stop=stop))
    assert len(only) == int(np.flatnonzero(tokens[0] == stop)[0]) + 1


def forgotten(memory):
    """A pass that was prepared for one memory and gets another."""
    model = build(PAIR, VOCABULARY, 0)
    return model.hidden(TOKENS, model.prepare(7, memory=model.encode(SOURCE)), memory=memory)


@first_of(
    ("make", "said"),
    [
        (lambda: Architecture(8), "no stack"),
        (lambda: Layer(()), "no sublayers"),
        (lambda: Stack(1, ()), "a pattern of 0"),
        (lambda: layered(Layer((FED,))), "has no attention"),
        (lambda: layered(Layer((attention(mask=Full(), keys_from="memory"), FED))), "there is no encoder"),
        (lambda: replace(PAIR, encoder=PAIR.decoder), "belongs to the decoder"),
        (lambda: replace(PAIR, decoder=decoder(width=24, heads=4).decoder), "no layer of the decoder reads"),
        (lambda: attention(encoding=Alibi(), mask=Full()), "intersect it with Causal"),
        (lambda: attention(mask=posjax.Segments(jnp.ones((1, 4), jnp.int32))), "which holds arrays"),
        (lambda: attention(encoding=Learned(4), mask=Full(), keys_from="memory"), "changes the stream"),
        (lambda: LinearAttention(4, encoding=Alibi()), "no scores to add a bias to"),
        (lambda: Norm(scaled=False, bias=True), "both go with a scale"),
        (lambda: Layer((FED,), shared_norm=True), "set parallel=True"),
        (lambda: Layer((FED,), parallel=True, norm_at="sum"), "of one sublayer's"),
        (lambda: Output(tied=True, classes=2), "none for a class"),
        (lambda: DropoutRates(residual=1.0), "residual=1.0"),
        (lambda: FeedForward(8, activation="swish"), "activation='swish'"),
        (lambda: Scores(scale=-1.0), "scale=-1.0"),
        (lambda: build(PAIR, VOCABULARY, 0)(TOKENS), "pass memory=model.encode"),
        (lambda: build(PAIR, VOCABULARY, 0).cache(2, 5), "memory=model.encode"),
        (lambda: build(PAIR, VOCABULARY, 0).cache(2, 5, memory=Memory(jnp.zeros((1, 3, 24)))), "has 1 rows"),
        (lambda: forgotten(None), "and none was given"),
        (lambda: forgotten(Memory(jnp.zeros((2, 3, 24)))), "one of 3 was given"),
        (lambda: build(PAIR, VOCABULARY, 0).prepare(1, cache=build(decoder(), VOCABULARY, 0).cache(2, 5)), "keys of"),
        (lambda: models.explain(layered(Layer((LinearAttention(4), FED))), 8), "linear attention alone"),
        (
            lambda: generate(build(replace(SWITCHES["plain"], output=Output(classes=2)), VOCABULARY, 0), ROWS, 2),
            "classes",
        ),
        (lambda: build(decoder(), VOCABULARY, 0).encode(SOURCE), "has no encoder"),
        (lambda: build(encoder(), VOCABULARY, 0).cache(1, 4), "an encoder alone"),
        (lambda: build(decoder(), VOCABULARY, 0)(TOKENS, types=TOKENS), "types=2"),
        (lambda: generate(build(decoder(), VOCABULARY, 0), ROWS, 2, real=REAL.at[0, 1].set(False)), "between"),
        (lambda: generate(build(decoder(), VOCABULARY, 0), ROWS, 2, stop=99), "stop=99"),
    ],
    keep=16,
)
def test_what_does_not_fit_is_named(make, said):
    with pytest.raises(InputError) as caught:
        make()
    assert said in str(caught.value), str(caught.value)
