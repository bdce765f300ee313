"""The laws at sizes, positions, masks and compositions that nobody chose: hypothesis draws them, the same every time.

`tests/test_laws.py` holds every encoding at one shape. Here head counts are any of 1 .. 12 with every grouping, lengths
and head sizes vary, positions reach the end of int32, and encodings are chained and split over heads at random.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, strategies as st

import posjax
from posjax import Causal, Full, Head, Segments, Window, chain, invariants
from posjax.encodings import Chain, LogN, NoPE, Pairs, ScalableSoftmax
from posjax.encodings.traits import scores_content, structure
from tests.cases import BACKEND_NAMES, SINGLE
from tests.drawn import by_heads, cases, chains, encodings, real, relative, risen, rows_and_masks, some, trainable

attend = jax.jit(posjax.attend, static_argnames=("encoding", "backend"))
packed = jax.jit(posjax.positions.packed)


def examples(count: int) -> hypothesis.settings:
    """Every new case compiles, so what attends gets few; hypothesis tries several data on one, which cost little."""
    return hypothesis.settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
    )


@pytest.fixture(autouse=True, scope="module")
def _several_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("posjax.attention.blocks.BLOCK", 4)
        yield


def last(at: Any, count: int) -> Any:
    return None if at is None else at[..., at.shape[-1] - count :]


def near(got: Any, want: Any, allowed: float = 2e-5) -> None:
    """Both are numbers, and alike by their common scale."""
    got, want = np.asarray(got, np.float32), np.asarray(want, np.float32)
    assert np.isfinite(want).all()
    scale = max(1.0, float(np.abs(want).max(initial=0.0)))
    np.testing.assert_allclose(got, want, rtol=0, atol=scale * allowed)


def possible(run: Any, *arguments: Any, **named: Any) -> Any:
    """What a backend answers; the example does not count where it says that it cannot."""
    try:
        return run(*arguments, **named)
    except NotImplementedError:
        hypothesis.reject()


# 1 Tile ---------------------------------------------------------------------------------------------------------------
@partial(jax.jit, static_argnums=(0, 1))
def hooks(encoding, dims, params, x, q_at, k_at):
    """Every hook at these positions, the first axis that of queries; the bias of all heads `[T, N, S]`."""
    heads = x.reshape(*x.shape[:2], dims.heads, dims.head_size)
    bias = jax.vmap(lambda n: encoding.bias(params, q_at, k_at, Head(n, dims.heads)))(jnp.arange(dims.heads))
    return [
        jnp.moveaxis(part, 1, 0)
        for part in (
            encoding.embed(params, x, q_at),
            encoding.rotate(params, heads, q_at, "query"),
            encoding.rotate(params, heads, q_at, "key"),
            bias,
        )
    ]


@pytest.mark.exhaustive
@examples(100)
@given(st.data(), cases(square=True))
def test_hooks_of_some_positions_are_some_of_the_hooks(data, case):
    length, params = 7, case.params()
    x = np.random.default_rng(0).standard_normal((2, length, case.dims.model_size)).astype(np.float32)
    for _ in range(3):
        at = data.draw(risen(length, case.most), "positions")[data.draw(st.permutations(range(length)))]
        rows = np.array(data.draw(st.lists(st.integers(0, length - 1), min_size=3, max_size=3), "rows"))
        whole = hooks(case.encoding, case.dims, params, x, at, at)
        part = hooks(case.encoding, case.dims, params, x[:, rows], at[rows], at)
        for got, want in zip(part, whole, strict=True):
            np.testing.assert_allclose(got, np.asarray(want)[rows], rtol=1e-5, atol=1e-5)
            assert np.isfinite(want).all()


# 3 Decode -------------------------------------------------------------------------------------------------------------
@pytest.mark.exhaustive  # Every case compiles, and fixed ones are held to the same law.
@examples(20)
@given(st.data(), cases(dtypes=("float32", "bfloat16")))
def test_the_last_tokens_alone_get_what_the_full_pass_gives_them(data, case):
    # Without constants, so that what depends on the length of the context is resolved for each.
    params, (_, k, v) = case.learned(), case.qkv()
    q = replace(case, T=case.S).qkv(2)[0]
    for _ in range(2):
        at, mask = data.draw(rows_and_masks(case), "positions and mask")
        run = dict(encoding=case.encoding, params=params, mask=mask)
        full = attend(q, k, v, q_positions=at, k_positions=at, **run)
        some = attend(q[:, case.S - case.T :], k, v, q_positions=last(at, case.T), k_positions=at, **run)
        near(some, full[:, case.S - case.T :], 2e-5 if case.dtype == "float32" else 0.03)


# 4 Pack ---------------------------------------------------------------------------------------------------------------
@pytest.mark.exhaustive  # Every case compiles, and fixed ones are held to the same law.
@examples(18)
@given(st.data(), cases(square=True), st.sampled_from(BACKEND_NAMES))
def test_documents_packed_behind_padding_equal_each_apart(data, case, backend):
    sizes = data.draw(st.sampled_from([(0, 1, 4), (0, 4, 1), (0, 4, 4), (3, 1, 4), (3, 4, 1), (0, 0, 5)]), "sizes")
    # Told the row's length once: each document is shorter, and an encoding may depend on the length of the context.
    case = replace(case, encoding=case.encoding.at_length(sum(sizes)), S=sum(sizes), T=sum(sizes))
    run = dict(encoding=case.encoding, params=case.params(), backend=backend)
    segments = np.array([[n for n, size in enumerate(sizes) for _ in range(size)]] * case.B, np.int32)
    at, (q, k, v), rule = packed(segments), case.qkv(), Causal() if case.encoding.causal else Full()
    together = possible(attend, q, k, v, q_positions=at, k_positions=at, mask=rule & Segments(segments), **run)
    assert not together[:, : sizes[0]].any(), "padding sees nothing"
    for one in (slice(sizes[0], sizes[0] + sizes[1]), slice(sizes[0] + sizes[1], case.S)):
        if one.start < one.stop:
            near(together[:, one], attend(q[:, one], k[:, one], v[:, one], mask=rule, **run))


# 5 Shift --------------------------------------------------------------------------------------------------------------
@partial(jax.jit, static_argnums=0)
def scores(encoding, params, q, k, q_at, k_at):
    # A side that a head is blind to has one huge score, which would hide all others.
    return jnp.maximum(invariants.scores(encoding, params, q, k, q_at, k_at), -1e6)


@pytest.mark.exhaustive
@examples(46)
@given(st.data(), cases(relative, dtypes=("float32", "float32", "bfloat16")))
def test_scores_ignore_a_common_offset(data, case):
    case = replace(case, K=case.N)
    params, (q, k, _) = case.params(), case.qkv()
    for _ in range(4):
        at = data.draw(risen(case.S, case.most), "positions")
        at = at - at.min()
        end = case.most - 1 - int(at.max())
        offset = np.int32(data.draw(st.just(end) | st.integers(0, end), "offset"))
        before, after = (scores(case.encoding, params, q, k, last(x, case.T), x) for x in (at, at + offset))
        scale = max(1.0, float(np.abs(np.where(before > -1e6, before, 0)).max()))
        np.testing.assert_allclose(after / scale, before / scale, atol=1e-5 if case.dtype == "float32" else 0.02)


# 6 Compose, 7 Value ---------------------------------------------------------------------------------------------------
@examples(150)
@given(st.lists(some | by_heads, min_size=3, max_size=3))
def test_chain_is_associative_with_a_unit(parts):
    if sum(scores_content(part) for part in parts) > 1:
        with pytest.raises(posjax.InputError, match="score content"):
            chain(*parts)
        return
    a, b, c = parts
    assert chain(a, chain(b, c)) == chain(chain(a, b), c) == chain(a, b, c)
    assert chain(NoPE(), a, NoPE()) == chain(a) == a and chain(a, NoPE(), b) == chain(a, b)
    assert hash(chain(a, chain(b, c))) == hash(chain(a, b, c)) and structure(chain(a, b, c)) == structure(
        chain(a, chain(b, c))
    )


@pytest.mark.exhaustive
@examples(8)
@given(st.data(), cases(chains(st.sampled_from(SINGLE)), square=True))
def test_a_chain_applies_its_parts_in_order(data, case):
    case = replace(case, K=case.N)
    params, (q, k, _), at = case.params(), case.qkv(), data.draw(risen(case.S, case.most), "positions")
    alone = not isinstance(case.encoding, Chain)
    parts = [(case.encoding, params)] if alone else list(zip(case.encoding.parts, params.values(), strict=True))

    @jax.jit
    def one_by_one(q, k, at):
        order = jnp.arange(case.S)
        bias, score = jnp.zeros((case.N, case.S, case.S)), partial(NoPE().score, {})
        for part, own in parts:
            q, k = part.rotate(own, q, at, "query"), part.rotate(own, k, at, "key")
            bias += jnp.stack([part.bias(own, at, at, Head(n, case.N)) for n in range(case.N)])
            score = partial(part.score, own) if scores_content(part) else score
        content = jnp.stack([score(a, b, Pairs(at, at, order, order)) for a, b in zip(q, k, strict=True)])
        return jnp.maximum(content + bias[None], -1e6)

    near(scores(case.encoding, params, q, k, at, at), one_by_one(q, k, at))


@examples(300)
@given(encodings, encodings)
def test_an_encoding_is_a_value(encoding, other):
    again = eval(repr(encoding), dict(vars(posjax)))
    assert again == encoding and hash(again) == hash(encoding) and structure(again) == structure(encoding)
    assert (encoding == other) == (repr(encoding) == repr(other))


# 9 Gradient, and every backend is the reference -----------------------------------------------------------------------
@partial(jax.jit, static_argnames=("encoding", "backend"))
def pulled(cotangent, qkv, learned, constants, at, mask, encoding, backend):
    """The output, and the gradients of queries, keys, values and every parameter."""

    def run(qkv, learned):
        return posjax.attend(
            *qkv,
            q_positions=last(at, qkv[0].shape[1]),
            k_positions=at,
            encoding=encoding,
            params=encoding.join(learned, constants),
            mask=mask,
            backend=backend,
        )

    out, pull = jax.vjp(run, qkv, learned)
    return out, pull(cotangent)


@pytest.mark.exhaustive  # Every case compiles, and fixed ones are held to the same law.
@examples(20)
@given(st.data(), cases(encodings | trainable), st.sampled_from([n for n in BACKEND_NAMES if n != "reference"]))
def test_backends_and_their_gradients_equal_the_reference(data, case, backend):
    at, mask = data.draw(rows_and_masks(case), "positions and mask")
    constants = case.encoding.constants(case.dims)
    arguments = (case.qkv(7)[0], case.qkv(), case.learned(), constants, at, mask, case.encoding)
    got, want = possible(pulled, *arguments, backend=backend), pulled(*arguments, backend="reference")
    near(got[0], want[0])
    jax.tree.map(partial(near, allowed=1e-4), got[1], want[1])


# 11 Precision ---------------------------------------------------------------------------------------------------------
@pytest.mark.exhaustive
@examples(10)
@given(st.data(), cases(dtypes=("bfloat16",)), st.sampled_from(BACKEND_NAMES))
def test_bfloat16_in_and_out_with_float32_inside(data, case, backend):
    at, mask = data.draw(rows_and_masks(case), "positions and mask")
    run = dict(encoding=case.encoding, params=case.params(), mask=mask, q_positions=last(at, case.T), k_positions=at)
    out = possible(attend, *case.qkv(), backend=backend, **run)
    wide = attend(*(x.astype(np.float32) for x in case.qkv()), backend="reference", **run)
    assert out.dtype == jnp.bfloat16
    near(out, wide, 0.03)


# A temperature --------------------------------------------------------------------------------------------------------
temperatures = st.builds(LogN, st.integers(2, 600)) | st.builds(ScalableSoftmax, real(0.1, 2.0))


@pytest.mark.exhaustive
@examples(8)
@given(st.data(), temperatures, cases(st.just(NoPE()), square=True))
def test_a_temperature_multiplies_a_rows_content_and_leaves_its_bias(data, temperature, case):
    case = replace(case, K=case.N)
    q, k, _ = case.qkv()
    with_it = chain(temperature, posjax.Alibi())
    params = with_it.init(jax.random.key(0), case.dims)
    for _ in range(3):
        at = data.draw(risen(case.S, 2**31), "positions")
        seen = np.log1p(at.astype(np.float64))
        scale = (
            np.maximum(seen / math.log(temperature.original_length), 1.0)
            if isinstance(temperature, LogN)
            else seen * temperature.scale
        )
        content = scores(NoPE(), {}, q, k, at, at) * scale.astype(np.float32)[None, None, :, None]
        near(scores(with_it, params, q, k, at, at), content + scores(posjax.Alibi(), {}, q * 0, k, at, at))


# Masks ----------------------------------------------------------------------------------------------------------------
masks = st.recursive(
    st.sampled_from([Causal(), Full()]) | st.builds(Window, st.integers(1, 9)),
    lambda inner: st.builds(lambda a, b: a & b, inner, inner),
    max_leaves=3,
)


@examples(40)
@given(masks, st.integers(0, 6), st.integers(0, 6), st.integers(1, 5), st.integers(1, 5))
def test_a_backend_skips_no_block_that_holds_a_pair(mask, q_first, k_first, rows, columns):
    q, k = q_first + np.arange(rows), k_first + np.arange(columns)
    allowed = mask.allowed(jnp.asarray(q), jnp.asarray(k))
    if allowed is None or allowed.any():
        assert mask.may_see(q[0], q[-1], k[0], k[-1])
