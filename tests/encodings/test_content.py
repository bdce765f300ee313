"""Encodings that score content against float64 oracles: one row, grouped queries, a later slice, and through attend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Causal,
    CoPE,
    Dims,
    Forgetting,
    Full,
    InputError,
    Pairs,
    Shaw,
    T5Bias,
    TransformerXL,
    attend,
    chain,
)
from tests import content_oracles as content, oracles
from tests.cases import params_of

KINDS = (Shaw(clip=4), TransformerXL(), TransformerXL(base=50.0), CoPE(length=6), CoPE(length=40), Forgetting())
SIZES = [(3, 8), (6, 16)]
AT = np.array([0, 1, 2, 5, 6, 9, 10, 11, 20, 30, 31])


def scored(encoding, params, q, k, q_at, k_at) -> np.ndarray:
    match encoding:
        case Shaw():
            return content.shaw(params["keys"], encoding.clip, q, k, q_at, k_at)
        case TransformerXL():
            return content.transformer_xl(params, encoding.base, q, k, q_at, k_at)
        case CoPE():
            return content.cope(params["rows"], q, k)
        case _:
            return content.forgetting(params["w"], params["b"], q, k)


def setting(encoding, heads: int, size: int, rows: int = 1):
    """Moved parameters, so that none is zero, and q, k, v `[rows, T, N, H]`."""
    dims = Dims(heads, size, 12)
    rng = np.random.default_rng(heads)
    params = jax.tree.map(
        lambda p: p + jnp.asarray(rng.normal(0, 0.5, p.shape), jnp.float32), encoding.init(jax.random.key(0), dims)
    )
    return (
        params,
        encoding.join(params, encoding.constants(dims)),
        *np.float32(rng.normal(size=(3, rows, len(AT), heads, size))),
    )


@pytest.mark.holds(Shaw, to=content.shaw)
@pytest.mark.holds(TransformerXL, to=content.transformer_xl)
@pytest.mark.holds(CoPE, to=content.cope)
@pytest.mark.holds(Forgetting, to=content.forgetting)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
@pytest.mark.parametrize("offset", [0, 2**30])
def test_scores_match_the_oracle(encoding, sizes, offset):
    params, joined, q, k, _ = setting(encoding, *sizes)
    places, index = jnp.asarray(AT + offset, jnp.int32), jnp.arange(len(AT))
    got = encoding.score(joined, jnp.asarray(q[0]), jnp.asarray(k[0]), Pairs(places, places, index, index))
    seen = np.tril(np.ones((len(AT), len(AT)), bool)) if encoding.causal else np.ones((len(AT), len(AT)), bool)
    expected = scored(encoding, params, q[0], k[0], AT, AT)
    np.testing.assert_allclose(np.asarray(got)[:, seen], expected[:, seen], atol=1e-5, rtol=1e-5)


@pytest.mark.holds(Shaw, to=content.shaw)
@pytest.mark.holds(TransformerXL, to=content.transformer_xl)
@pytest.mark.holds(CoPE, to=content.cope)
@pytest.mark.holds(Forgetting, to=content.forgetting)
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_later_queries_score_as_in_the_whole(encoding):
    params, joined, q, k, _ = setting(encoding, 3, 8)
    places, index = jnp.asarray(AT), jnp.arange(len(AT))
    got = encoding.score(joined, jnp.asarray(q[0, 7:]), jnp.asarray(k[0]), Pairs(places[7:], places, index[7:], index))
    seen = np.tril(np.ones((len(AT), len(AT)), bool))[7:]
    expected = scored(encoding, params, q[0], k[0], AT, AT)[:, 7:]
    np.testing.assert_allclose(np.asarray(got)[:, seen], expected[:, seen], atol=1e-5, rtol=1e-5)


@pytest.mark.holds(Shaw, to=content.shaw)
@pytest.mark.holds(TransformerXL, to=content.transformer_xl)
@pytest.mark.holds(CoPE, to=content.cope)
@pytest.mark.holds(Forgetting, to=content.forgetting)
@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("encoding", KINDS, ids=repr)
def test_attend_is_the_softmax_of_the_scores(encoding, backend):
    params, joined, q, k, v = setting(encoding, 6, 8, rows=2)
    k, v = k[:, :, :3], v[:, :, :3]
    got = attend(
        jnp.asarray(q),
        jnp.asarray(k),
        jnp.asarray(v),
        q_positions=jnp.asarray(AT),
        k_positions=jnp.asarray(AT),
        encoding=encoding,
        params=joined,
        backend=backend,
    )
    for row in range(2):
        keys, values = (np.repeat(x[row].astype(np.float64), 2, axis=1) for x in (k, v))
        scores = np.where(np.tril(np.ones((len(AT),) * 2, bool)), scored(encoding, params, q[row], keys, AT, AT), -1e9)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected = np.einsum("nts,snh->tnh", weights / weights.sum(-1, keepdims=True), values)
        np.testing.assert_allclose(got[row], expected, atol=1e-5)


def test_the_initial_gate_keeps_its_share():
    dims = Dims(2, 4)
    params = Forgetting(keep=0.9).init(jax.random.key(0), dims)
    np.testing.assert_allclose(jax.nn.sigmoid(params["b"]), 0.9, rtol=1e-6)


@pytest.mark.parametrize("encoding", [CoPE(), Forgetting()])
def test_those_by_token_order_need_a_causal_mask(encoding):
    x = jnp.ones((1, 3, 2, 4))
    with pytest.raises(InputError, match="at or before the query"):
        attend(x, x, x, encoding=encoding, params=params_of(encoding, Dims(2, 4)), mask=Full())
    assert attend(x, x, x, encoding=encoding, params=params_of(encoding, Dims(2, 4)), mask=Causal()).shape == x.shape


@pytest.mark.holds(Shaw, to=content.shaw)
@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("at", [None, jnp.array([0, 3, 4, 9, 9, 12, 20])], ids=["contiguous", "explicit"])
def test_a_bias_adds_to_the_scores(at, backend):
    both, dims = chain(Shaw(clip=4), T5Bias(8, 20)), Dims(3, 8)
    params = both.join(both.init(jax.random.key(0), dims), both.constants(dims))
    q, k, v = jax.random.normal(jax.random.key(1), (3, 1, 7, 3, 8))
    places = np.arange(7) if at is None else np.asarray(at)
    logits = scored(Shaw(clip=4), params["0"], q[0], k[0], places, places)
    logits = logits + oracles.t5_bias(params["1"]["table"], places, places, False, 20)
    weights = np.exp(logits - logits.max(-1, keepdims=True)) * np.tril(np.ones((7, 7)))
    expected = np.einsum("nts,snh->tnh", weights / weights.sum(-1, keepdims=True), np.float64(v[0]))
    got = attend(q, k, v, q_positions=at, k_positions=at, encoding=both, params=params, backend=backend)
    np.testing.assert_allclose(got[0], expected, atol=2e-6)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize(
    ("encoding", "name", "shape", "need"),
    [
        (Shaw(clip=4), "keys", (1, 7, 8), "1, 9, 8"),
        (Shaw(clip=4), "keys", (1, 11, 8), "1, 9, 8"),
        (Shaw(clip=4), "keys", (3, 9, 8), "1, 9, 8"),  # Only the first head's vectors would be read.
        (CoPE(length=6), "rows", (1, 5, 8), "1, 6, 8"),
        (CoPE(length=6), "rows", (1, 40, 8), "1, 6, 8"),
    ],
)
def test_tables_of_other_sizes_are_refused(encoding, name, shape, need, backend):
    x = jnp.ones((1, 3, 3, 8))
    with pytest.raises(InputError) as caught:
        attend(x, x, x, encoding=encoding, params={name: jnp.zeros(shape)}, backend=backend)
    for part in (f"{encoding} got params['{name}'] of shape {shape}", f"needed is [{need}]"):
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Shaw(clip=0), "clip=0", "1 or more"),
        (lambda: Shaw(deviation=-0.1), "deviation=-0.1", "0 or more"),
        (lambda: TransformerXL(base=1.0), "base=1.0", "above 1"),
        (lambda: TransformerXL().init(jax.random.key(0), Dims(2, 4, 7)), "model size of 7", "even"),
        (lambda: TransformerXL().init(jax.random.key(0), Dims(2, 4)), "model size of 0", "even"),
        (lambda: CoPE(length=1), "length=1", "2 or more"),
        (lambda: Forgetting(keep=0.0), "keep=0.0", "(0, 1)"),
        (lambda: Forgetting(keep=1.0), "keep=1.0", "(0, 1)"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_oracles_by_hand():
    """Gates of 1/2 count half a token each; a fading of 1/2 per token is -ln 2 per step."""
    q = k = np.zeros((3, 1, 2))
    np.testing.assert_allclose(
        content.forgetting(np.zeros((1, 2)), np.zeros(1), q, k)[0, 2], [-2 * np.log(2), -np.log(2), 0]
    )
    assert oracles.distances([3], [1])[0, 0] == 2
    rows = np.array([[[0.0, 0], [1, 0], [2, 0]]])
    q = np.array([[[1.0, 0]]] * 3)
    np.testing.assert_allclose(content.cope(rows, q, k)[0, 2], [1.5, 1.0, 0.5])
