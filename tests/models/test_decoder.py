"""The decoder: causal, positions explicit, and the same model in every form that should not change it."""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import (
    Alibi,
    AxialRope,
    Causal,
    Dims,
    Encoding,
    Full,
    InputError,
    Interpolation,
    NoPE,
    Randomized,
    Rope,
    Segments,
    T5Bias,
    Window,
    chain,
    positions,
)
from posjax.attention import job
from posjax.models import Compute, Norm, build, constants_of, cross_entropy, encoder_decoder
from posjax.models.parts import sizes
from tests.cases import first_of
from tests.small import small

SIZES = {"layers": 2, "width": 24, "heads": 6, "key_value_heads": 3, "deviation": 1.0}
ENCODING = chain(Rope(), T5Bias())
REFERENCE = Compute(backend="reference")
COMPUTES = [replace(REFERENCE, **change) for change in ({}, {"scan": True}, {"remat": "products"}, {"remat": "all"})]
ALL = Full()
VOCABULARY = 13


def model_of(*encodings, compute=REFERENCE, **more):
    return build(small(*(encodings or (ENCODING,)), **SIZES | more), VOCABULARY, 0, compute)


def built(*encodings, **more):
    """A jitted pass over a state, and the state."""
    graph, state = nnx.split(model_of(*encodings, **more))

    @jax.jit
    def run(state, tokens, at=None, mask=ALL, constants=None, key=None):
        return nnx.merge(graph, state)(tokens, at, mask=mask, constants=constants, key=key)

    return run, state


def tokens_of(B: int, T: int) -> jax.Array:
    return jax.random.randint(jax.random.key(B * T), (B, T), 0, VOCABULARY)


@pytest.fixture(scope="module")
def small_one():
    return built()


@pytest.fixture(scope="module")
def influence() -> np.ndarray:
    """How much the logits at t (rows) depend on the embedding of the token at s (columns): each token occurs once."""
    run, state = built()
    table = state["embedding"]["embedding"]

    def logits(rows):
        changed = nnx.State(dict(state) | {"embedding": nnx.State({"embedding": table.replace(rows)})})
        return run(changed, jnp.arange(7)[None])[0]

    jacobian = jax.jit(jax.jacrev(logits))(table.get_value())
    return np.abs(np.asarray(jacobian))[:, :, :7].max((1, 3))


def test_no_gradient_comes_from_later_tokens(influence):
    np.testing.assert_array_equal(influence[np.triu_indices(7, 1)], 0.0)


def test_gradients_come_from_every_earlier_token(influence):
    assert (influence[np.tril_indices(7, -1)] > 0).all()


def test_gradients_come_from_the_token_itself(influence):
    assert (np.diag(influence) > 0).all()


def test_bidirectional_attention_sees_every_token():
    run, state = built(Rope(), layers=1, mask=Full())
    tokens = tokens_of(1, 6)
    changed = tokens.at[0, 5].set((tokens[0, 5] + 1) % VOCABULARY)
    first = [run(state, t)[0, 0] for t in (tokens, changed)]
    assert np.abs(first[0] - first[1]).max() > 1e-3


def test_positions_are_those_given(small_one):
    run, state = small_one
    tokens, at = tokens_of(2, 6), jnp.arange(6)
    plain = run(state, tokens)
    np.testing.assert_allclose(run(state, tokens, at), plain, atol=1e-5)
    np.testing.assert_allclose(run(state, tokens, jnp.stack([at, at + 100])), plain, atol=1e-4)
    assert np.abs(run(state, tokens, 3 * at) - plain).max() > 1e-2


def test_packed_documents_equal_the_documents_apart(small_one):
    run, state = small_one
    tokens, segments = tokens_of(1, 9), jnp.array([[1] * 4 + [2] * 5])
    together = run(state, tokens, positions.packed(segments), Causal() & Segments(segments))
    np.testing.assert_allclose(together[:, :4], run(state, tokens)[:, :4], atol=1e-5)
    np.testing.assert_allclose(together[:, 4:], run(state, jnp.roll(tokens, -4, 1))[:, :5], atol=1e-5)


def test_backends_agree(small_one):
    run, state = small_one
    chunked, _ = built(compute=Compute(backend="chunked"))
    np.testing.assert_allclose(chunked(state, tokens_of(2, 6)), run(state, tokens_of(2, 6)), atol=1e-5)


def test_grouped_queries_equal_repeated_keys_and_values(small_one):
    (run, state), (whole, target) = small_one, built(key_value_heads=6)
    narrow = nnx.to_pure_dict(state)
    for i in range(2):
        for name in ("key", "value"):
            kernel = narrow["blocks"]["decoder"][i]["attention"][name]["kernel"]
            narrow["blocks"]["decoder"][i]["attention"][name]["kernel"] = jnp.repeat(kernel, 2, axis=1)
    nnx.replace_by_pure_dict(target, narrow)
    np.testing.assert_allclose(whole(target, tokens_of(2, 6)), run(state, tokens_of(2, 6)), atol=1e-5)


def test_bfloat16_computes_narrow_and_answers_float32(small_one):
    run, state = small_one
    narrow, own = built(compute=Compute(dtype="bfloat16", backend="reference"))
    assert {leaf.dtype for leaf in jax.tree.leaves(own)} == {jnp.dtype("float32")}
    out = narrow(state, tokens_of(2, 6))
    assert out.dtype == jnp.float32
    difference = np.abs(out - run(state, tokens_of(2, 6)))
    assert 0 < difference.max() < 0.15


def test_tied_heads_read_the_embedding():
    model = model_of(tied=True, layers=1)
    assert model.head.table is None
    x = jax.random.normal(jax.random.key(0), (1, 3, 24))
    table = model.embedding.embedding.get_value()
    np.testing.assert_allclose(model.logits(x), np.einsum("btd,vd->btv", x, table), atol=1e-4)
    untied = model_of(layers=1)
    kernel = untied.head.table.kernel.get_value()
    np.testing.assert_allclose(untied.logits(x), np.einsum("btd,dv->btv", x, kernel), atol=1e-4)


@pytest.mark.exhaustive
@first_of(
    ("encodings", "layers"),
    [((ENCODING,), 1), ((ENCODING,), 2), ((Rope(), T5Bias()), 5)],
    ids=str,
    keep=1,
)
def test_recomputing_blocks_gives_the_same_gradients(encodings, layers):
    tokens = tokens_of(2, 6)
    gradients = []
    for compute in COMPUTES:
        run, state = built(*encodings, layers=layers, compute=compute)
        loss = lambda state, run=run: cross_entropy(run(state, tokens), jnp.roll(tokens, -1, 1)).mean()  # noqa: E731
        gradients.append(jax.jit(jax.grad(loss))(state))
        text = str(jax.make_jaxpr(loss)(state))
        assert ("remat" in text or "checkpoint" in text) == (compute.remat != "none")
    for a, *others in zip(*map(jax.tree.leaves, gradients), strict=True):
        assert np.abs(a).max() > 0
        for b in others:
            np.testing.assert_allclose(a, b, atol=2e-6 * max(1.0, np.abs(a).max()))


@pytest.mark.parametrize("compute", COMPUTES, ids=str)
def test_a_loop_over_layers_is_one_turn_whatever_their_number(compute):
    def size(layers):
        run, state = built(Rope(), T5Bias(), layers=layers, compute=compute)
        return len(str(jax.make_jaxpr(run)(state, tokens_of(2, 6))))

    loops = compute.scan or compute.remat != "none"
    assert (size(8) < 1.3 * size(4)) == loops


@pytest.mark.exhaustive
def test_recomputing_blocks_keeps_little_more_for_each_layer_than_its_input():
    def temporary(remat, layers):
        run, state = built(layers=layers, compute=Compute(remat=remat, backend="chunked"))
        loss = lambda state: run(state, tokens_of(2, 600)).sum()  # noqa: E731
        return jax.jit(jax.grad(loss)).lower(state).compile().memory_analysis().temp_size_in_bytes

    kept, recomputed = (temporary(remat, 8) - temporary(remat, 4) for remat in ("none", "all"))
    assert recomputed < kept / 4


def test_constants_of_another_value_of_the_family_make_that_model():
    plain, state = built(Rope())
    other = Rope(schedule=Interpolation(2.0))
    linear, own = built(other)
    tokens = tokens_of(2, 6)
    np.testing.assert_array_equal(jax.tree.leaves(own)[0], jax.tree.leaves(state)[0])
    swapped = plain(state, tokens, constants=constants_of(small(other, **SIZES)))
    np.testing.assert_allclose(swapped, linear(state, tokens), atol=1e-6)
    assert np.abs(swapped - plain(state, tokens)).max() > 1e-3


class Shifted(Encoding):
    """Places tokens at random."""

    def move(self, params, at, key):
        return at * jax.random.randint(key, (), 2, 50)


def test_a_key_lets_the_encoding_place_the_tokens():
    run, state = built(chain(Shifted(), Rope()), layers=1)
    tokens, key = tokens_of(1, 6), jax.random.key(0)
    at = chain(Shifted(), Rope()).move({"0": {}, "1": {}}, jnp.arange(6), key)
    np.testing.assert_allclose(run(state, tokens, key=key), run(state, tokens, at), atol=1e-5)
    np.testing.assert_allclose(run(state, tokens, jnp.arange(6), key=key), run(state, tokens, at), atol=1e-5)
    assert np.abs(run(state, tokens, key=key) - run(state, tokens)).max() > 1e-3


def test_probes_see_each_layers_rotated_queries_and_keys():
    model = model_of(Rope())

    @jax.jit
    def seen(tokens):
        return model.hidden(tokens, model.prepare(5), probe=lambda q, k, prepared: (q, k))[2]

    layers = seen(tokens_of(1, 5))
    assert [(q.shape, k.shape) for q, k in layers] == [((1, 5, 6, 4), (1, 5, 3, 4))] * 2
    block = model.blocks["decoder"][0]
    raw = block.attention.query(block.attention_norm(model.embedding(tokens_of(1, 5))))
    np.testing.assert_allclose(layers[0][0], Rope().rotate({}, raw, jnp.arange(5), "query"), atol=1e-5)


def test_initial_logits_are_near_those_of_a_uniform_guess():
    run, state = built(NoPE(), deviation=0.02)
    tokens = tokens_of(4, 8)
    assert abs(float(cross_entropy(run(state, tokens), tokens).mean()) - np.log(VOCABULARY)) < 1.0


def test_cross_entropy_is_the_negative_log_probability():
    logits, targets = np.random.default_rng(0).normal(size=(2, 3, 5)), np.array([[0, 4, 2], [1, 1, 3]])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, targets[..., None], -1))[..., 0]
    got = cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(targets))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert cross_entropy(jnp.asarray(logits, jnp.bfloat16), jnp.asarray(targets)).dtype == jnp.float32


def test_sizes_follow_their_defaults():
    architecture = small(**SIZES)
    attention, fed = architecture.decoder.pattern[0].sublayers
    assert sizes(attention, 24) == (6, 3, 4) and fed.size == 64 and architecture.dims == Dims(6, 4, 24)
    attention, fed = (
        small(**SIZES | {"key_value_heads": None, "head_size": 10, "feed_forward": 5}).decoder.pattern[0].sublayers
    )
    assert sizes(attention, 24) == (6, 6, 10) and fed.size == 5


@pytest.mark.parametrize(
    ("changes", "value", "need"),
    [
        ({"layers": 0}, "layers=0", "needed is 1 or more"),
        ({"heads": 0}, "heads=0", "needed is 1 or more"),
        ({"width": 0, "feed_forward": 8}, "width=0", "needed is 1 or more"),
        ({"width": 25}, "width=25 and Attention heads=6", "or an explicit head_size"),
        ({"key_value_heads": 4}, "heads=6 and key_value_heads=4", "one of 1, 2, 3, 6"),
        ({"key_value_heads": 0}, "key_value_heads=0", "1 or more"),
        ({"head_size": 5}, "head size of 5", "even number"),
    ],
)
def test_errors_name_the_value_and_the_need(changes, value, need):
    with pytest.raises(InputError) as caught:
        small(chain(Rope(), Alibi()), **SIZES | changes)
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


@pytest.mark.parametrize("compute", COMPUTES, ids=str)
def test_what_is_static_stays_static_in_the_layers(compute, monkeypatch):
    """Otherwise every block is visited, and kernels that need to know refuse."""
    jobs = []
    module = sys.modules["posjax.attention.attend"]  # Behind the function of that name.
    monkeypatch.setattr(module, "job", lambda *given: jobs.append(job(*given)) or jobs[-1])
    graph, state = nnx.split(model_of(compute=compute))

    def loss(state):
        return nnx.merge(graph, state)(tokens_of(1, 8), mask=Window(3)).sum()

    jax.eval_shape(jax.grad(loss), state)
    assert jobs and all(found.q_offset == 0 and found.window == 3 for found in jobs)


@pytest.mark.exhaustive
def test_recomputed_blocks_that_a_user_changed_run_as_they_are():
    """Another epsilon, another structure, and what a block counts."""

    class Counting(nnx.Module):
        def __init__(self, inner):
            self.inner, self.count = inner, nnx.Variable(jnp.zeros((), jnp.int32))

        def __call__(self, x, key):
            self.count[...] += 1
            return self.inner(x, key)

    outs = []
    for compute in COMPUTES:
        model = model_of(compute=compute)
        blocks = model.blocks["decoder"]
        blocks[1].attention_norm.config = Norm(epsilon=10.0)
        first = model(tokens_of(2, 6))
        blocks[0].feed_forward = Counting(blocks[0].feed_forward)
        np.testing.assert_allclose(model(tokens_of(2, 6)), first, atol=1e-5)
        model(tokens_of(2, 6))
        assert int(blocks[0].feed_forward.count[...]) == 2
        outs.append(first)
    for other in outs[1:]:
        np.testing.assert_allclose(other, outs[0], atol=1e-5)


@pytest.mark.exhaustive
def test_a_mark_in_any_coordinate_is_one():
    model = model_of(AxialRope((1, 1)))
    at = jnp.array([[[0, 0], [1, -1], [2, 2]]])
    assert np.isnan(model(tokens_of(1, 3), at)[0, 2]).all()


def test_an_encoder_and_its_decoder_draw_positions_apart():
    moving = chain(Randomized(64), Rope())
    both = build(encoder_decoder(moving, moving, width=16, heads=2), 9, 0)
    drawn = [both._moved(name, tokens_of(1, 5), None, jax.random.key(0)) for name in ("encoder", "decoder")]
    assert (drawn[0] != drawn[1]).any()


def test_padding_is_not_placed():
    model = model_of(chain(Randomized(64), Rope()))
    key, tokens = jax.random.key(0), tokens_of(1, 4)
    padded = model(tokens, jnp.array([-1, -1, 0, 1]), key=key, mask=Causal() & Segments(jnp.array([[0, 0, 1, 1]])))
    assert np.isfinite(padded[0, 2:]).all()
    with pytest.raises(InputError, match="positions have shape"):
        model(tokens, jnp.array([0]), key=key)
