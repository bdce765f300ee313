"""Linear attention: RoFormer's equation pair by pair, in both directions, packed, and as a recurrence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import Causal, Full, InputError, NoPE, Rope, Segments, Window
from posjax.attention import linear_attention
from posjax.attention.linear_attention import linear_attend
from tests import content_oracles as content
from tests.cases import first_of, wide


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    monkeypatch.setattr(linear_attention, "CHUNK", 4)


def qkv(length=11, heads=6, kv_heads=3, dtype="float32"):
    keys = jax.random.split(jax.random.key(0), 3)
    return [
        jax.random.normal(k, (2, length, n, 8), dtype) for k, n in zip(keys, (heads, kv_heads, kv_heads), strict=True)
    ]


@partial(jax.jit, static_argnames="encoding")
def linear(*arrays, **given):
    """Compiled whole, in chunks of four: one operation after the other, each would be compiled by itself."""
    return linear_attend(*arrays, **given)


def lower(length: int) -> np.ndarray:
    return np.tril(np.ones((1, length, length), bool))


def apart(segments: np.ndarray) -> np.ndarray:
    same = segments[:, :, None] == segments[:, None, :]
    return lower(segments.shape[1]) & same & (segments != 0)[:, None, :]


CASES = [(mask, base, length) for mask in (Causal(), Full()) for base in (None, 100.0) for length in (1, 4, 11)]
FEW = [(Causal(), 100.0, 1), (Causal(), 100.0, 4), (Causal(), 100.0, 11), (Full(), 100.0, 11), (Causal(), None, 11)]


@pytest.mark.parametrize("case", wide(CASES, FEW), ids=str)
def test_equals_the_equation(case):
    mask, base, length = case
    q, k, v = qkv(length)
    encoding = NoPE() if base is None else Rope(base)
    out, state = linear(q, k, v, encoding=encoding, mask=mask)
    allowed = lower(length) if mask.causal else None
    expected = content.linear_attention(q, k, v, [np.arange(length)] * 2, base, allowed)
    np.testing.assert_allclose(out, expected, atol=3e-6)
    assert int(state.count) == length


@first_of("pieces", [[11], [3, 1, 7], [4, 4, 3], [1] * 11], keep=2)
def test_a_sequence_in_pieces_equals_the_whole(pieces):
    q, k, v = qkv()
    whole, _ = linear(q, k, v, encoding=Rope())
    state, outs, first = None, [], 0
    for size in pieces:
        part = [x[:, first : first + size] for x in (q, k, v)]
        out, state = linear(*part, encoding=Rope(), state=state)
        outs.append(out)
        first += size
    np.testing.assert_allclose(jnp.concatenate(outs, 1), whole, atol=3e-6)
    assert state.products.shape == (2, 3, 8, 8) and state.features.shape == (2, 3, 8), "the size of the state is fixed"


def test_packed_documents_and_padding():
    q, k, v = qkv()
    segments = np.array([[0, 0, 7, 7, 7, 7, 2, 2, 2, 9, 9], [1, 1, 1, 1, 1, 3, 3, 3, 3, 0, 0]])
    at = posjax.positions.packed(jnp.asarray(segments))
    run = dict(encoding=Rope(50.0), mask=Causal() & Segments(jnp.asarray(segments)), positions=at)
    out, _ = linear_attend(q, k, v, **run)
    expected = content.linear_attention(q, k, v, at, 50.0, apart(segments))
    real = segments != 0
    np.testing.assert_allclose(out[real], expected[real], atol=3e-6)
    assert np.isfinite(out).all()


def test_a_document_goes_on_after_padding_and_after_a_call():
    q, k, v = qkv()
    segments = np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]])
    at = np.arange(11)[None].repeat(2, 0)
    expected = content.linear_attention(q, k, v, at, 50.0, apart(segments))
    state, outs = None, []
    for part in (slice(0, 7), slice(7, 11)):
        mask = Causal() & Segments(jnp.asarray(segments[:, part]))
        out, state = linear(q[:, part], k[:, part], v[:, part], encoding=Rope(50.0), mask=mask, state=state)
        outs.append(out)
    real = segments != 0
    np.testing.assert_allclose(np.concatenate(outs, 1)[real], expected[real], atol=3e-6)


def test_an_id_that_comes_back_is_a_new_document_in_one_call_and_in_steps():
    q, k, v = qkv()
    ids = np.array([[3, 3, 0, 3, 5, 5, 3, 3, 3, 5, 5], [1, 1, 2, 1, 1, 1, 2, 0, 0, 2, 2]])
    runs = np.array([[1, 1, 0, 1, 2, 2, 3, 3, 3, 4, 4], [1, 1, 2, 3, 3, 3, 4, 0, 0, 4, 4]])

    def run(ids, part=slice(None), state=None):
        mask = Causal() & Segments(jnp.asarray(ids[:, part]))
        return linear(q[:, part], k[:, part], v[:, part], encoding=Rope(50.0), mask=mask, state=state)

    wanted, _ = run(runs)
    whole, last = run(ids)
    state, outs = None, []
    for n in range(11):
        out, state = run(ids, slice(n, n + 1), state)
        outs.append(out)
    np.testing.assert_allclose(whole, wanted, atol=3e-6)
    np.testing.assert_allclose(np.concatenate(outs, 1), wanted, atol=3e-6)
    np.testing.assert_array_equal(last.segment, [5, 2])
    np.testing.assert_allclose(last.products, state.products, atol=3e-6)


@pytest.mark.parametrize("mask", [Causal(), Full()], ids=repr)
def test_values_may_have_a_head_size_of_their_own(mask):
    q, k, v = qkv()
    wider = jnp.concatenate([v, 2 * v[..., :3]], -1)
    out, state = linear(q, k, wider, encoding=Rope(50.0), mask=mask)
    plain, _ = linear(q, k, v, encoding=Rope(50.0), mask=mask)
    np.testing.assert_allclose(out, jnp.concatenate([plain, 2 * plain[..., :3]], -1), atol=1e-6)
    assert state.products.shape == (*v.shape[:1], *v.shape[2:], wider.shape[-1])


@pytest.mark.parametrize("mask", [Causal(), Full()], ids=repr)
def test_gradients_equal_those_of_the_pairs(mask):
    q, k, v = qkv()
    cotangent = jax.random.normal(jax.random.key(7), q.shape)

    def pairwise(q, k, v):
        at = jnp.arange(11)
        k, v = (jnp.repeat(x, 2, axis=2) for x in (k, v))
        q, k = linear_attention.elu_plus_one(q), linear_attention.elu_plus_one(k)
        turned = [Rope().rotate({}, x, at, role) for x, role in ((q, "query"), (k, "key"))]
        seen = jnp.asarray(lower(11)[:, None] if mask.causal else np.ones((1, 1, 11, 11)), jnp.float32)
        above = jnp.einsum("btnh,bsnh->bnts", *turned) * seen
        below = jnp.einsum("btnh,bsnh->bnts", q, k) * seen
        return jnp.einsum("bnts,bsnh->btnh", above / below.sum(-1, keepdims=True), v)

    got, want = (
        jax.jit(lambda *x, f=f: jax.vjp(f, *x)[1](cotangent))(q, k, v)
        for f in (lambda *x: linear_attend(*x, encoding=Rope(), mask=mask)[0], pairwise)
    )
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.exhaustive
def test_memory_grows_with_the_length(monkeypatch):
    monkeypatch.setattr(linear_attention, "CHUNK", 128)

    def temporary(length):
        x = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
        step = jax.jit(jax.grad(lambda q, k, v: jnp.sum(linear_attend(q, k, v, encoding=Rope())[0] ** 2), (0, 1, 2)))
        return step.lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    assert np.log2(temporary(65_536) / temporary(16_384)) / 2 < 1.05


def test_bfloat16_in_and_out_with_float32_inside():
    narrow = qkv(dtype="bfloat16")
    out, state = linear(*narrow, encoding=Rope())
    exact, _ = linear(*(x.astype(jnp.float32) for x in narrow), encoding=Rope())
    assert out.dtype == jnp.bfloat16 and state.products.dtype == jnp.float32
    np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (dict(encoding=posjax.Alibi()), InputError, "rotates, and no more"),
        (dict(encoding=posjax.Shaw()), InputError, "rotates, and no more"),
        (dict(mask=Causal() & Window(3)), NotImplementedError, "posjax.attend"),
        (dict(mask=Segments(jnp.ones((2, 11), jnp.int32))), InputError, "Causal"),
        (dict(mask=Causal() & Segments(jnp.ones((2, 12), jnp.int32))), InputError, "one id for each token"),
        (dict(positions=jnp.zeros(11)), InputError, "exact integers"),
    ],
)
def test_what_it_cannot_do_it_refuses(given, error, words):
    with pytest.raises(error, match=words):
        linear_attend(*qkv(), **given)
