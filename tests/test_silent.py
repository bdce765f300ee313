"""What once gave a plausible wrong answer, or a mark where there is a meaning: refused by name, or right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Alibi,
    Causal,
    Chunks,
    Dims,
    DynamicNTK,
    Fire,
    Full,
    InputError,
    Learned,
    LogN,
    NoPE,
    PoSE,
    Randomized,
    Regrouped,
    Rope,
    ScalableSoftmax,
    Segments,
    Shaw,
    Sinusoidal,
    Window,
    Wrapped,
    XPos,
    attend,
    by_head,
    chain,
    convert_layout,
    linear_attend,
    near_far,
    positions,
    to_rope_parameters,
)
from posjax.attention import attention, describe, explain
from posjax.encodings import AxialRope, Head, Pairs
from posjax.models import Sampling, build, generate
from tests.attention.test_derived_masks import Even
from tests.cases import first_of
from tests.small import small

RNG = np.random.default_rng(0)
TOKENS = jnp.array([[1, 2, 3, 4]])


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def bias_of(encoding, queries, keys, rows=None):
    dims = Dims(2, 4, 8)
    params = encoding.join(encoding.init(jax.random.key(0), dims), encoding.constants(dims))
    at = (None, None)
    if rows:
        at = (jnp.zeros((rows, queries), jnp.int32), jnp.zeros((rows, keys), jnp.int32))
    return describe(encoding, params, dims.heads, *at, (queries, keys), keys - queries)


def with_bias(q, k, bias):
    return attention(q, k, k, bias=bias)


def model_of(encoding, **more):
    return build(small(encoding, **{"width": 8, "deviation": 1.0} | more), 7, 0)


def of_decoder(encoding, dims):
    return {"decoder": {"0": encoding.constants(dims)}}


def step(model, cache, tokens=TOKENS, **given):
    prepared = model.prepare(tokens.shape[1], cache=cache, **given)
    x, cache, _ = model.hidden(tokens, prepared, cache)
    return model.logits(x), cache


AT_COORDINATES = jnp.zeros((1, 4, 2), jnp.int32)


# Refused by name --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("call", "named"), [
    (lambda: attention(normal(1, 4, 3, 4), normal(1, 4, 2, 4), normal(1, 4, 2, 4)), "q has 3 heads and k has 2"),
    (lambda: attention(normal(1, 4, 1, 4), normal(1, 4, 2, 4), normal(1, 4, 2, 4)), "q has 1 heads and k has 2"),
    (lambda: attend(normal(1, 4, 2, 4), normal(1, 4, 0, 4), normal(1, 4, 0, 4)), "k has 0"),
    (lambda: explain(jnp.ones((1, 4, 2, 4), jnp.int32)), "q is int32"),
    (lambda: with_bias(normal(1, 4, 2, 4), normal(1, 6, 2, 4), bias_of(Alibi(), 4, 4)), "4 keys"),
    (lambda: with_bias(normal(1, 4, 2, 4), normal(1, 4, 2, 4), jnp.zeros((2, 4, 4))), "needed is a described bias"),
    (lambda: linear_attend(*normal(3, 1, 4, 2, 4), encoding=LogN(2)), "rotates, and no more"),
    (lambda: linear_attend(*normal(3, 1, 4, 2, 4), encoding=ScalableSoftmax()), "rotates, and no more"),
    (lambda: linear_attend(*normal(3, 1, 4, 2, 4), encoding=Sinusoidal()), "rotates, and no more"),
    (lambda: with_bias(normal(1, 4, 4, 4), normal(1, 4, 2, 4), bias_of(Alibi(), 4, 4)), "2 heads"),
    (lambda: with_bias(normal(2, 4, 2, 4), normal(2, 4, 2, 4), bias_of(Fire(), 4, 4, 3)), "3 rows"),
    (lambda: with_bias(normal(2, 3, 2, 4), normal(2, 4, 2, 4), bias_of(Shaw(), 4, 4)), "4 queries"),
    (lambda: model_of(Rope())(jnp.array([[-1, 2]])), "tokens reach from -1 to 2"),
    (lambda: model_of(Rope())(jnp.array([[7, 2]])), "tokens reach from 2 to 7"),
    (lambda: model_of(Rope())(np.array([[2**32 + 1, 2]])), "tokens reach from 2 to 4294967297"),
    (lambda: generate(model_of(Rope()), np.array([[2**32 + 1, 2]]), 1), "tokens reach from 2 to 4294967297"),
    (lambda: model_of(Rope())(TOKENS, constants=of_decoder(Rope(), Dims(2, 2))), "of shape (2, 1): needed is (2, 2)"),
    (lambda: model_of(Alibi())(TOKENS, constants=of_decoder(Alibi(), Dims(1))), "of shape (1,): needed is (2,)"),
    (lambda: model_of(Rope())(TOKENS, constants={"foo": 1}), "constants are named ['foo']"),
    (lambda: Learned(8).fill({"table": jnp.ones((8, 4))}, 4, 8, "foo"), "how='foo'"),
    (lambda: Sampling(temperature=float("nan")), "temperature=nan"),
    (lambda: Sampling(temperature=1e-39), "temperature=1e-39"),
    (lambda: Sampling(temperature="a"), "temperature='a'"),
    (lambda: Sampling(top_k=True), "top_k=True"),
    (lambda: Sampling(top_k=1.5), "top_k=1.5"),
    (lambda: positions.contiguous(3, 2**31 - 2), "reach past 2147483647"),
    (lambda: convert_layout(jnp.arange(4), 0, "split"), "heads is 0"),
    (lambda: convert_layout(jnp.arange(4), 2.0, "split"), "heads is 2.0"),
    (lambda: convert_layout(jnp.array(4), 1, "split"), "0 channels"),
    (lambda: Randomized(64).move({}, AT_COORDINATES, jax.random.key(0)), "(1, 4, 2) are to be moved"),
    (lambda: PoSE(64).move({}, AT_COORDINATES, jax.random.key(0)), "(1, 4, 2) are to be moved"),
    (lambda: to_rope_parameters(XPos()), "needed is a Rope"),
    (lambda: to_rope_parameters(None), "needed is a Rope"),
    (lambda: attend(normal(1, 4, 2, 4), normal(1, 4, 2, 4), normal(1, 4, 2, 4), encoding=Alibi(learned=True),
                    params={"log_slopes": jnp.ones(2, jnp.complex64)}), "complex64"),
    (lambda: attend(normal(1, 4, 2, 4), normal(1, 4, 2, 4), normal(1, 4, 2, 4), encoding=Alibi(learned=True),
                    params=jnp.ones(3)), "needed is a dict"),
])  # fmt: skip
def test_it_is_refused_by_name(call, named):
    with pytest.raises(InputError) as caught:
        call()
    assert named in str(caught.value) and "\n" not in str(caught.value), str(caught.value)


def test_an_array_is_shown_on_one_line():
    with pytest.raises(InputError) as caught:
        positions.contiguous(np.eye(3))
    assert "\n" not in str(caught.value) and "[0., 1., 0.]" in str(caught.value)


@pytest.mark.parametrize(("encoding", "x"), [(XPos(), 4), (AxialRope((1, 1)), 4), (Rope(), 4), (LogN(2), 4)], ids=str)
def test_rotations_refuse_floats_as_positions(encoding, x):
    with pytest.raises(InputError, match="exact integers"):
        encoding.rotate({}, jnp.ones((1, 1, 1, x)), jnp.array([0.5]), "query")


def test_embeddings_refuse_floats_and_narrow_positions_do_not_wrap():
    with pytest.raises(InputError, match="exact integers"):
        Sinusoidal().embed({}, jnp.ones((1, 1, 4)), jnp.array([0.5]))
    for encoding, q, k in ((Alibi(), 200, 202), (Alibi("symmetric"), 120, -20), (Fire(), 3, 9)):
        kind = jnp.uint8 if k > 0 else jnp.int8
        params = encoding.init(jax.random.key(0), Dims(heads=2))
        got, wanted = (encoding.bias(params, jnp.array([q], t), jnp.array([k], t), Head(0, 2)) for t in (kind, "int32"))
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("hook", [
    lambda at: Learned(250, offset=10).embed({"table": jnp.arange(260.0)[:, None]}, jnp.zeros((1, 1, 1)), at),
    lambda at: Wrapped(Rope(), 200, shift=100).rotate({}, jnp.ones((1, 1, 1, 4)), at, "query"),
    lambda at: Regrouped(Rope(), 1, shift=100).rotate({}, jnp.ones((1, 1, 1, 4)), at, "query"),
    lambda at: Chunks(2).near(at, at - at),
    lambda at: Pairs(at - at, at, at, at).distance,
    lambda at: Randomized(300).move({}, at, jax.random.key(0)),
    lambda at: PoSE(1000, 9).move({}, jnp.concatenate([at - at, at]), jax.random.key(0)),
])  # fmt: skip
def test_no_hook_takes_floats_or_wraps_narrow_positions(hook):
    np.testing.assert_array_equal(hook(jnp.array([200], jnp.uint8)), hook(jnp.array([200])))
    with pytest.raises(InputError, match="exact integers"):
        hook(jnp.array([0.5]))


# A context's length -------------------------------------------------------------------------------------------------
@pytest.mark.exhaustive
@first_of("sides", [{"q_positions": [0, 1]}, {"k_positions": np.zeros(10, int)}], keep=1)
def test_a_side_without_positions_counts_with_those_it_has_by_default(sides):
    q, k, v = normal(1, 2, 2, 4), normal(1, 10, 2, 4), normal(1, 10, 2, 4)
    encoding = Rope(schedule=DynamicNTK(2.0, 4))
    whole = {"q_positions": np.arange(8, 10), "k_positions": np.arange(10)} | sides
    got, wanted = (attend(q, k, v, encoding=encoding, mask=Full(), **given) for given in (sides, whole))
    np.testing.assert_array_equal(got, wanted)


def test_room_in_a_cache_does_not_lengthen_the_context():
    model = model_of(Rope(schedule=DynamicNTK(8.0, 2)))
    caches = model.cache(1, 4), dataclasses.replace(model.cache(1, 64), length=jnp.int32(0))
    # Compiled around each cache, whose length stays known.
    alone, roomy = (jax.jit(lambda tokens, cache=cache: step(model, cache, tokens)[0])(TOKENS) for cache in caches)
    np.testing.assert_allclose(roomy, alone, atol=1e-6)
    with pytest.raises(InputError, match="pass length="):
        jax.jit(lambda cache: step(model, cache)[0])(jax.tree.map(jnp.asarray, model.cache(1, 64)))


@pytest.mark.exhaustive
def test_positions_in_a_cache_count_for_the_length():
    model, tokens, at = model_of(Rope(schedule=DynamicNTK(8.0, 2))), jnp.array([[1, 2, 3]]), jnp.array([[0, 5, 3]])
    _, cache = step(model, model.cache(1, 3, positions=True), tokens[:, :2], positions=at[:, :2])
    got, _ = step(model, cache, tokens[:, 2:], positions=at[:, 2:])
    whole = jax.jit(lambda tokens: model(tokens, at))(tokens)
    np.testing.assert_allclose(got[:, 0], whole[:, 2], atol=1e-5)


# Caches -------------------------------------------------------------------------------------------------------------
@pytest.mark.exhaustive
def test_an_array_that_looks_ahead_over_a_cache_is_refused():
    model = model_of(Rope(), mask=Full())
    with pytest.raises(InputError, match="look ahead"):
        model.prepare(3, mask=np.tril(np.ones((3, 6), bool), 2), cache=model.cache(1, 6))
    cached, _ = step(model, model.cache(1, 4), mask=np.tril(np.ones((4, 4), bool)))
    np.testing.assert_allclose(cached, model_of(Rope())(TOKENS), atol=1e-5)


@pytest.mark.parametrize("other", [{"heads": 4}, {"layers": 2}, {"width": 16}], ids=str)
def test_a_cache_of_another_model_is_refused(other):
    model = model_of(Rope(), key_value_heads=1)
    with pytest.raises(InputError, match=r"make it with model\.cache"):
        step(model, model_of(Rope(), **other).cache(1, 6))


def test_a_traced_cache_without_room_says_so():
    model = model_of(Rope())
    run = jax.jit(lambda cache, tokens: step(model, cache, tokens))
    cache = jax.tree.map(jnp.asarray, model.cache(1, 3))
    for t in range(4):
        logits, cache = run(cache, TOKENS[:, t : t + 1])
        assert bool(jnp.isnan(logits).all()) == (t == 3)


# Placing ------------------------------------------------------------------------------------------------------------
@pytest.mark.exhaustive
def test_placed_positions_stay_apart_wherever_a_row_begins():
    key, row = jax.random.key(0), jnp.arange(4)
    for moved in (row, row + 100, jnp.array([0, 7, 7, 30])):
        placed = np.asarray(Randomized(64).move({}, moved, key))
        assert (np.diff(placed) > 0).tolist() == (
            np.diff(moved) > 0
        ).tolist() and 0 <= placed.min() <= placed.max() < 64
    np.testing.assert_array_equal(Randomized(64).move({}, row + 100, key), Randomized(64).move({}, row, key))
    packed = jnp.array([0, 1, 2, 0, 1])
    placed = Randomized(64).move({}, packed, key)
    assert placed[0] == placed[3] and placed[1] == placed[4]
    for seed in range(5):
        placed = PoSE(60).move({}, jnp.array([50, 51, 52]), jax.random.key(seed))
        assert int(placed.max()) < 60 and int(placed.min()) >= 50


# Marks --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_a_far_key_past_its_encodings_end_reaches_no_gradient_of_others(backend):
    q, k, v, at = normal(1, 8, 1, 4), normal(1, 8, 1, 4), normal(1, 8, 1, 4), np.arange(54, 62)

    def loss(q, k):
        out = attend(q, k, v, encoding=near_far(2, Rope(), XPos(unit=1)), mask=Causal() & Window(2), q_positions=at,
                     k_positions=at, backend=backend)  # fmt: skip
        return out[:, :4].sum()

    for gradient in jax.jit(jax.grad(loss, (0, 1)))(q, k):
        assert np.isfinite(gradient).all()


# Linear attention ---------------------------------------------------------------------------------------------------
@pytest.mark.exhaustive
def test_features_far_below_zero_keep_their_size():
    q, k, v = normal(1, 6, 2, 4) - 18, normal(1, 6, 2, 4), normal(1, 6, 2, 4)
    out, _ = linear_attend(q, k, v, mask=Full())
    phi_q = np.exp(np.asarray(q, np.float64))  # All of them are below 0.
    phi_k = np.where(k > 0, np.asarray(k, np.float64) + 1, np.exp(np.asarray(k, np.float64)))
    weights = np.einsum("bthc,bshc->bhts", phi_q, phi_k)
    wanted = np.einsum("bhts,bshc->bthc", weights / weights.sum(-1, keepdims=True), np.asarray(v, np.float64))
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)


def test_features_may_be_negative():
    q, k, v = normal(1, 6, 1, 4), normal(1, 6, 1, 4), normal(1, 6, 1, 4)
    out, _ = linear_attend(q, k, v, feature=lambda x: x)
    weights = np.tril(np.einsum("bthc,bshc->bhts", *(np.asarray(x, np.float64) for x in (q, k))))
    wanted = np.einsum("bhts,bshc->bthc", weights / weights.sum(-1, keepdims=True), np.asarray(v, np.float64))
    np.testing.assert_allclose(out, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.exhaustive
def test_tokens_without_ids_go_on_with_the_document_of_the_state():
    x = normal(1, 6, 2, 4)
    _, state = linear_attend(*(x[:, :3],) * 3, mask=Causal() & Segments(jnp.full((1, 3), 3)))
    rest, _ = linear_attend(*(x[:, 3:],) * 3, state=state)
    np.testing.assert_allclose(rest, linear_attend(x, x, x)[0][:, 3:], atol=1e-5)


@pytest.mark.exhaustive
def test_a_state_of_zeros_is_one_of_no_token():
    x = normal(2, 6, 2, 4)
    _, state = linear_attend(x, x, x)
    zeros = jax.tree.map(jnp.zeros_like, state)
    for mask in (Causal(), Causal() & Segments(jnp.array([[0, 0, 3, 3, 3, 3]] * 2))):
        got, after = linear_attend(x, x, x, mask=mask, state=zeros)
        wanted, expected = linear_attend(x, x, x, mask=mask)
        jax.tree.map(np.testing.assert_array_equal, (got, after), (wanted, expected))
    with pytest.raises(InputError, match="products='bfloat16"):
        linear_attend(x, x, x, state=jax.tree.map(lambda sums: sums.astype(jnp.bfloat16), state))


@pytest.mark.exhaustive
def test_a_layer_with_a_window_keeps_all_keys_for_a_rule_that_may_ask_for_them():
    model = model_of(NoPE(), mask=Window(3) & Even())
    cache = model.cache(1, 4)
    for t in range(4):
        logits, cache = step(model, cache, TOKENS[:, t : t + 1])
    np.testing.assert_allclose(logits[:, 0], model(TOKENS)[:, 3], atol=1e-5)
    model = model_of(NoPE(), mask=Window(3) & Causal())
    with pytest.raises(InputError, match="a window alone"):
        step(model, model.cache(1, 4), mask=Even())


@first_of("other", [Alibi(), Rope(), Learned(8), by_head(Rope(), NoPE())], ids=repr, keep=2)
def test_beside_an_encoding_of_coordinates_others_take_the_first(other):
    both = chain(AxialRope((1, 1)), other)
    dims = Dims(2, 4, 8)
    params = both.init(jax.random.key(0), dims)
    q, k, v = normal(3, 1, 4, 2, 4)
    at = jnp.stack([jnp.arange(4), 3 - jnp.arange(4)], axis=-1)[None]
    got = attend(q, k, v, encoding=both, params=params, q_positions=at, k_positions=at)
    first = AxialRope((1, 1)).constants(dims)
    turned = [AxialRope((1, 1)).rotate(first, x, at, role) for x, role in ((q, "query"), (k, "key"))]
    alone = attend(*turned, v, encoding=other, params=params["1"], q_positions=at[..., 0], k_positions=at[..., 0])
    np.testing.assert_allclose(got, alone, atol=1e-6)
    embedded = both.embed(both.join(params, both.constants(dims)), normal(1, 4, 8), at)
    assert embedded.shape == (1, 4, 8)


@pytest.mark.parametrize("encoding", [Rope(), chain(Rope(), Alibi())], ids=repr)
def test_what_was_prepared_for_other_positions_is_refused(encoding):
    dims = Dims(2, 4)
    joined = encoding.join(encoding.init(jax.random.key(0), dims), encoding.constants(dims))
    prepared = encoding.prepare(joined, jnp.arange(10, 14), dims)
    x = normal(1, 4, 2, 4)
    np.testing.assert_array_equal(attend(x, x, x, encoding=encoding, params=joined), attend(x, x, x, encoding=encoding))
    with pytest.raises(InputError, match=r"'cos'\], which it does not make"):
        attend(x, x, x, encoding=encoding, params=prepared)


def test_a_traced_position_that_int32_does_not_hold_is_a_mark():
    with jax.enable_x64(True):
        at = jnp.array([0, 1, 2**32, -(2**33)])
        narrowed = jax.jit(positions.check)(at)
    assert narrowed.tolist() == [0, 1, -1, -1] and narrowed.dtype == jnp.int32
