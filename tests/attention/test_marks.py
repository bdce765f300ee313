"""A mark is never a number: what is not finite or stands nowhere is told to whoever sees it, and to nobody else."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Alibi,
    Causal,
    Dims,
    Forgetting,
    Full,
    InputError,
    Rope,
    ScalableSoftmax,
    Segments,
    Window,
    attend,
    linear_attend,
    positions,
)
from posjax.attention import attention, describe
from posjax.encodings.base import RelativeBias
from tests.cases import first_of

Q, K, V = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, 4))
BOTH = pytest.mark.parametrize("backend", ["reference", "chunked"])
PADDED = Causal() & Segments(jnp.array([[0, 0, 1, 1, 1, 1]]))


@partial(jax.jit, static_argnames="encoding")
def linear(*arrays, **given):
    """Compiled whole: one operation after the other, each would be compiled by itself."""
    return linear_attend(*arrays, **given)


def log_sums(params, backend, k=K, mask=PADDED):
    return attention(
        Q, k, V, bias=describe(Forgetting(), params, 2, None, None, (6, 6), 0), mask=mask, backend=backend
    )[1]


FADING = Forgetting().init(jax.random.key(1), Dims(2, 4))


@pytest.mark.parametrize(("k", "mask"), [(K, PADDED), (K.at[0, 3].set(jnp.nan), Causal())], ids=["blind", "nan"])
def test_rows_without_a_meaning_give_a_forgetting_bias_no_gradient_by_their_sum(k, mask):
    def loss(params, backend):
        return jnp.sum(log_sums(params, backend, k, mask) * jnp.arange(6.0)[None, None])

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    got, wanted = (gradient(FADING, backend) for backend in ("chunked", "reference"))
    for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.exhaustive
def test_the_second_derivative_of_a_forgetting_bias_counts_each_sum_once():
    def bent(b, backend):
        return jnp.sum(jnp.sin(log_sums({**FADING, "b": b}, backend, mask=Causal())))

    second = jax.jit(jax.jacrev(jax.grad(bent)), static_argnums=1)
    got, wanted = (second(FADING["b"], backend) for backend in ("chunked", "reference"))
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("width", [2, 8])
@BOTH
def test_values_may_be_of_another_width(backend, width):
    v = jax.random.normal(jax.random.key(7), (1, 6, 2, width))
    out = attention(Q, K, v, backend=backend)[0]
    halves = jnp.concatenate(
        [attention(Q, K, jnp.tile(v, 4)[..., i : i + 4], backend=backend)[0][..., :1] for i in range(width)], axis=-1
    )
    np.testing.assert_allclose(out, halves, atol=1e-6)


@BOTH
def test_an_infinite_key_or_query_is_told_and_not_taken_for_a_masked_one(backend):
    q, k = -jnp.ones((1, 2, 1, 4)), jnp.ones((1, 2, 1, 4)).at[0, 0].set(jnp.inf)
    v = jnp.ones((1, 2, 1, 4))
    assert np.isnan(attend(q, k, v, backend=backend)).all()
    np.testing.assert_array_equal(np.isnan(attend(k, q, v, backend=backend))[0, :, 0, 0], [True, False])


@BOTH
def test_a_query_of_nan_in_padding_leaves_a_trained_temperature_alone(backend):
    def loss(params, q):
        return attend(q, K, V, encoding=ScalableSoftmax(), params=params, mask=PADDED, backend=backend)[:, 2:].sum()

    params = {"scale": jnp.array([0.4, 0.5])}
    gradient = jax.jit(jax.grad(loss))
    got, wanted = (gradient(params, q)["scale"] for q in (Q.at[:, 0].set(jnp.nan), Q))
    np.testing.assert_array_equal(got, wanted)


@first_of("mark", ["key", "value", "position"], keep=2)
@pytest.mark.parametrize("length", [6, 300])
def test_linear_attention_tells_a_mark_to_those_who_see_it(mark, length):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, length, 2, 4))
    at = jnp.arange(length)
    clean = linear(q, k, v, encoding=Rope(), positions=at)[0]
    place = length // 2
    if mark == "position":
        at = at.at[place].set(-1)
    k, v = (x.at[:, place].set(jnp.nan) if mark == name else x for x, name in ((k, "key"), (v, "value")))
    out, state = linear(q, k, v, encoding=Rope(), positions=at)
    np.testing.assert_allclose(out[:, :place], clean[:, :place], atol=1e-5)
    assert np.isnan(out[:, place:]).all() and np.isfinite(state.products).all()
    later = linear(q[:, :1], k[:, :1], v[:, :1], encoding=Rope(), state=state)[0]
    assert np.isnan(later).all()  # The state remembers what its document holds.


def test_padding_reaches_no_row_of_linear_attention_forward_or_backward():
    at = jnp.array([[-1, -1, 0, 1, 2, 3]])

    def loss(q, k, v, **more):
        return jnp.sum(linear_attend(q, k, v, encoding=Rope(), **more)[0][:, -4:] ** 2)

    dirty = [x.at[:, :2].set(jnp.nan) for x in (Q, K, V)]
    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))
    got = gradients(*dirty, positions=at, mask=PADDED)
    wanted = gradients(*(x[:, 2:] for x in (Q, K, V)))
    for a, b in zip(got, wanted, strict=True):
        assert (np.asarray(a)[:, :2] == 0).all()
        np.testing.assert_allclose(a[:, 2:], b, atol=1e-5)


@pytest.mark.parametrize(
    "size",
    [
        jnp.array([1, 1, 9, 9]),
        np.array([2]),
        jnp.float32(2.5),
        jnp.bool_(True),
        jnp.int32(0),
        jnp.int32(-3),
        None,
        2**40,
    ],
    ids=str,
)
def test_a_window_is_one_whole_number(size):
    with pytest.raises(InputError, match="Window got size"):
        attend(Q, K, V, mask=Causal() & Window(size))


@pytest.mark.parametrize(
    "call",
    [
        lambda: attend(Q, K, V, mask=Segments(np.array([[1, 1, 2**32 + 1, 1, 1, 1]])) & Causal()),
        lambda: linear_attend(Q, K, V, mask=Segments(np.array([[1.0, 1, 1.5, 1.5, 2, 2]])) & Causal()),
        lambda: attend(Q, K, V, encoding=Rope(), q_positions=np.array([-(2**32), 1, 2, 3, 4, 5])),
        lambda: positions.check([0, 1, 2**31]),
        lambda: attention(Q[:, :2], K, V, q_offset=1.5),
        lambda: attention(Q, K, V, q_offset=True),
        lambda: attention(Q, K, V[:, :3]),
        lambda: attention(Q[:, :2], K[:, :4], V[:, :4], q_offset=3, mask=Segments(jnp.array([[1, 1, 2, 2]]))),
        lambda: attention(Q.astype(int), K, V),
    ],
)
def test_what_would_wrap_or_be_cut_is_refused(call):
    with pytest.raises(InputError):
        call()


def test_an_array_of_more_queries_than_keys_is_a_mask_whatever_it_allows():
    for allowed in (np.tril(np.ones((6, 3), bool), -2), np.zeros((6, 3), bool), np.ones((6, 3), bool)):
        out = attend(Q, K[:, :3], V[:, :3], mask=allowed)
        assert (np.asarray(out[0, ~allowed.any(1)]) == 0).all() and np.isfinite(out).all()


def test_a_refusal_of_a_large_mask_is_one_line():
    with pytest.raises(InputError) as said:
        attend(Q, K, V, encoding=Alibi(), mask=np.ones((6, 6), bool))
    assert "\n" not in str(said.value)


@dataclass(frozen=True)
class Fenced(RelativeBias):
    """What stands nearer than `least` is ruled out by the bias itself, as users write masks into biases."""

    least: int = 2

    def init(self, key, dims):
        return {"slope": jnp.float32(0.5)}

    def by_distance(self, params, distance, head):
        return jnp.where(distance >= self.least, -params["slope"] * distance.astype(jnp.float32), -jnp.inf)


@first_of("backend", ["chunked", "reference", "fused"], keep=1)
def test_a_row_that_a_bias_leaves_nothing_is_blind(backend):
    def attended(x, params):
        return attend(*x, mask=Full(), encoding=Fenced(), params=params, backend=backend)

    x, params = jnp.stack([Q, K, V]), Fenced().init(None, Dims(2, 4))
    out = attended(x, params)
    assert (out[:, :2] == 0).all() and (out[:, 2] == V[:, 0]).all()
    gradients = jax.grad(lambda *given: (attended(*given) ** 2).sum(), argnums=(0, 1))(x, params)
    wanted = jax.grad(lambda x: (masked(x) ** 2).sum())(x)
    for gradient in jax.tree.leaves(gradients):
        assert jnp.isfinite(gradient).all()
    np.testing.assert_allclose(gradients[0], wanted, atol=1e-5)


def masked(x):
    """The same by a mask: a query sees the keys that stand two places or more before it."""
    rows = jnp.arange(6)
    return attend(*x, mask=rows[:, None] - rows[None] >= 2, encoding=Alibi(given_slopes=(0.5,)))
