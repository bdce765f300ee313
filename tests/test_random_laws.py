"""The laws at sizes, positions, masks and compositions that nobody chose: hypothesis draws them, the same every time.

`tests/test_laws.py` holds every encoding at one shape. Here head counts are any of 1 .. 12 with every grouping, lengths
and head sizes vary, positions reach the end of int32, and encodings are chained and split over heads at random.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

import posjax
from posjax import Causal, Dims, Full, Head, Segments, Window, by_head, chain, invariants
from posjax.encodings import ByHead, Chain, Encoding, LogN, NoPE, Pairs, ScalableSoftmax
from tests.cases import BACKEND_NAMES, OF_ANY_SIZE, SINGLE

attend = jax.jit(posjax.attend, static_argnames=("encoding", "backend"))
packed = jax.jit(posjax.positions.packed)


def examples(count: int) -> hypothesis.settings:
    """Every new case compiles, so what attends gets few; hypothesis tries several data on one, which cost little."""
    return hypothesis.settings(max_examples=count, deadline=None, derandomize=True,
                               phases=(Phase.generate, Phase.shrink),
                               suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much))


@pytest.fixture(autouse=True, scope="module")
def _several_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("posjax.attention.chunked.BLOCK", 4)
        yield


# What is drawn --------------------------------------------------------------------------------------------------------
real = partial(st.floats, allow_nan=False, allow_subnormal=False)
factors, bases, lengths = real(1.0, 64.0), real(1.5, 1e7), st.integers(2, 5000)
layouts = st.sampled_from(["split", "interleaved"])
schedules = st.one_of(
    st.just(posjax.Plain()),
    st.builds(posjax.Linear, factors),
    st.builds(posjax.NTK, factors),
    st.builds(posjax.DynamicNTK, factors, st.integers(2, 9)),
    st.builds(posjax.NTKByParts, factors, lengths, real(8.0, 64.0), real(0.5, 4.0), st.booleans()),
    st.builds(posjax.Yarn, factors, lengths, attention_factor=st.none() | real(0.5, 2.0)),
    st.builds(posjax.Llama3, factors, lengths, real(0.5, 2.0), real(3.0, 9.0)),
    st.builds(posjax.Proportional, st.sampled_from([0.25, 0.5, 0.75, 1.0])),
)
ropes = st.builds(posjax.Rope, bases, schedules, layouts, st.sampled_from([0.5, 1.0]))
plain: st.SearchStrategy[Encoding] = st.one_of(
    ropes,
    st.builds(posjax.Alibi, st.sampled_from(["causal", "symmetric", "asymmetric", "halves"]), st.booleans(), factors),
    st.builds(posjax.T5Bias, st.sampled_from([4, 8, 12, 32]), st.integers(17, 300), st.booleans()),
    st.builds(posjax.Kerple, st.sampled_from(["log", "power"])),
    st.builds(posjax.XPos, bases, st.integers(20, 700), layouts),
    st.builds(posjax.Sandwich, st.sampled_from([2, 6, 16]), bases),
    st.builds(posjax.Fire, st.integers(1, 9), real(0.01, 1.0), real(1.0, 50.0)),
    st.builds(LogN, st.integers(2, 600)),
    st.builds(posjax.Sinusoidal, bases, layouts),
)
scoring = st.builds(posjax.Shaw, st.integers(1, 9)) | st.builds(posjax.near_far, st.integers(1, 6), ropes, ropes)
some = st.sampled_from(OF_ANY_SIZE) | plain | scoring


@st.composite
def chains(draw, parts=some) -> Encoding:
    drawn = draw(st.lists(parts, min_size=2, max_size=4))
    # One is the most that may take the place of the product of queries and keys.
    scores = [i for i, part in enumerate(drawn) if part.scores_content]
    return chain(*(part for i, part in enumerate(drawn) if i not in scores[1:]))


serving = [e for e in OF_ANY_SIZE if not (e.scores_content or e.moves or e.layers > 1)]
by_heads = st.lists(st.sampled_from(serving) | plain, min_size=1, max_size=3).map(lambda parts: by_head(*parts))
encodings = some | chains() | by_heads | chains(some | by_heads)
relative = encodings.filter(lambda encoding: encoding.relative)
# The bias by distance has a gradient of its own, which only trained ones show.
biased = [e for e in SINGLE if e.bias_kind == "relative"]
trainable = st.sampled_from([e for e in biased if jax.tree.leaves(e.init(jax.random.key(0), Dims(6, 16, 96)))])


def groups(encoding: Encoding) -> int:
    """What the number of heads must be a multiple of."""
    inner = math.lcm(*map(groups, getattr(encoding, "parts", ())))
    return inner * len(encoding.parts) if isinstance(encoding, ByHead) else inner


@dataclass(frozen=True)
class Case:
    """An encoding and the sizes of one call."""

    encoding: Encoding
    B: int
    T: int
    S: int
    N: int
    K: int
    H: int
    dtype: str = "float32"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis alone would spell out every class variable.

    @property
    def dims(self) -> Dims:
        return Dims(self.N, self.H, self.N * self.H)

    @property
    def most(self) -> int:
        return self.encoding.max_length or 2**31

    def learned(self) -> Any:
        """Parameters of any size: what training may come to, not only where it begins."""
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(lambda: self.encoding.init(jax.random.key(0), self.dims))
        return jax.tree.map(lambda leaf: (0.5 * rng.standard_normal(leaf.shape)).astype(leaf.dtype), shapes)

    def params(self) -> Any:
        return self.encoding.join(self.learned(), self.encoding.constants(self.dims))

    def qkv(self, seed: int = 1) -> list[np.ndarray]:
        rng, sizes = np.random.default_rng(seed), ((self.T, self.N), (self.S, self.K), (self.S, self.K))
        return [rng.standard_normal((self.B, t, n, self.H)).astype(jnp.dtype(self.dtype)) for t, n in sizes]


def fits(encoding: Encoding, dims: Dims) -> bool:
    try:
        encoding.constants(dims)
    except posjax.InputError:
        return False
    return True


@st.composite
def cases(draw, which=encodings, square: bool = False, dtypes=("float32",)) -> Case:
    encoding = draw(which)
    unit = groups(encoding)
    N = draw(st.sampled_from([n for n in range(1, 13) if n % unit == 0]))
    K = draw(st.sampled_from([k for k in range(1, N + 1) if N % k == 0 and k % unit == 0]))
    H = draw(st.sampled_from([h for h in (6, 8, 10, 12, 16, 20) if fits(encoding, Dims(N, h, N * h))]))
    S = draw(st.sampled_from([5, 2, 9, 13, 1]))
    T = S if square else draw(st.sampled_from(sorted({1, max(S - 2, 1), S})))
    return Case(encoding, draw(st.integers(1, 3)), T, S, N, K, H, draw(st.sampled_from(dtypes)))


@st.composite
def risen(draw, length: int, most: int) -> np.ndarray:
    """Rising positions anywhere below `most`: contiguous, or with gaps and repeats, from 0 or from far away."""
    gaps = draw(st.just([1] * length) | st.lists(st.integers(0, 20), min_size=length, max_size=length))
    at = np.cumsum(gaps) - gaps[0]
    last = most - 1 - int(at[-1])
    return (at + draw(st.sampled_from([0, last]) | st.integers(0, last))).astype(np.int32)


@st.composite
def documents(draw, length: int) -> tuple[list[int], list[int]]:
    """The segments of one row, its padding 0, and positions that start anew with each document."""
    cuts = sorted(draw(st.sets(st.integers(1, max(length - 1, 1)), max_size=2)))
    first = draw(st.integers(0, 1))
    return ([first + sum(i >= cut for cut in cuts) for i in range(length)],
            [i - max([0, *(cut for cut in cuts if cut <= i)]) for i in range(length)])


@st.composite
def rows_and_masks(draw, case: Case) -> tuple[Any, posjax.Mask]:
    """Positions of all S tokens, `None`, `[S]` or `[B, S]`, and a mask under which the encoding is defined."""
    mask = Causal() if case.encoding.causal else draw(st.sampled_from([Causal(), Full()]))
    if draw(st.booleans()):
        mask = mask & Window(draw(st.integers(1, case.S + 1)))
    how = draw(st.sampled_from(["none", "none", "shared", "by row", "packed"]))
    if how == "packed":
        rows = [draw(documents(case.S)) for _ in range(case.B)]
        return jnp.array([at for _, at in rows], jnp.int32), mask & Segments(jnp.array([row for row, _ in rows]))
    if how == "by row":
        return jnp.stack([draw(risen(case.S, case.most)) for _ in range(case.B)]), mask
    return (None if how == "none" else jnp.asarray(draw(risen(case.S, case.most)))), mask


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
    return [jnp.moveaxis(part, 1, 0) for part in (
        encoding.embed(params, x, q_at), encoding.rotate(params, heads, q_at, "query"),
        encoding.rotate(params, heads, q_at, "key"), bias)]


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
    if sum(part.scores_content for part in parts) > 1:
        with pytest.raises(posjax.InputError, match="score content"):
            chain(*parts)
        return
    a, b, c = parts
    assert chain(a, chain(b, c)) == chain(chain(a, b), c) == chain(a, b, c)
    assert chain(NoPE(), a, NoPE()) == chain(a) == a and chain(a, NoPE(), b) == chain(a, b)
    assert hash(chain(a, chain(b, c))) == hash(chain(a, b, c)) and chain(a, b, c).family == chain(a, chain(b, c)).family


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
            score = partial(part.score, own) if part.scores_content else score
        content = jnp.stack([score(a, b, Pairs(at, at, order, order)) for a, b in zip(q, k, strict=True)])
        return jnp.maximum(content + bias[None], -1e6)

    near(scores(case.encoding, params, q, k, at, at), one_by_one(q, k, at))


@examples(300)
@given(encodings, encodings)
def test_an_encoding_is_a_value(encoding, other):
    again = eval(repr(encoding), dict(vars(posjax)))
    assert again == encoding and hash(again) == hash(encoding) and again.family == encoding.family
    assert (encoding == other) == (repr(encoding) == repr(other))


# 9 Gradient, and every backend is the reference -----------------------------------------------------------------------
@partial(jax.jit, static_argnames=("encoding", "backend"))
def pulled(cotangent, qkv, learned, constants, at, mask, encoding, backend):
    """The output, and the gradients of queries, keys, values and every parameter."""
    def run(qkv, learned):
        return posjax.attend(*qkv, q_positions=last(at, qkv[0].shape[1]), k_positions=at, encoding=encoding,
                             params=encoding.join(learned, constants), mask=mask, backend=backend)

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
        scale = (np.maximum(seen / math.log(temperature.original_length), 1.0) if isinstance(temperature, LogN)
                 else seen * temperature.scale)
        content = scores(NoPE(), {}, q, k, at, at) * scale.astype(np.float32)[None, None, :, None]
        near(scores(with_it, params, q, k, at, at), content + scores(posjax.Alibi(), {}, q * 0, k, at, at))


# Masks ----------------------------------------------------------------------------------------------------------------
masks = st.recursive(
    st.sampled_from([Causal(), Full()]) | st.builds(Window, st.integers(1, 9)),
    lambda inner: st.builds(lambda a, b: a & b, inner, inner), max_leaves=3)


@examples(40)
@given(masks, st.integers(0, 6), st.integers(0, 6), st.integers(1, 5), st.integers(1, 5))
def test_a_backend_skips_no_block_that_holds_a_pair(mask, q_first, k_first, rows, columns):
    q, k = q_first + np.arange(rows), k_first + np.arange(columns)
    allowed = mask.allowed(jnp.asarray(q), jnp.asarray(k))
    if allowed is None or allowed.any():
        assert mask.may_see(q[0], q[-1], k[0], k[-1])

