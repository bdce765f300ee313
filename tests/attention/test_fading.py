"""A bias that is a running sum: blocks add it as the definition does, and at the end of a long text as exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Alibi, Causal, Dims, Forgetting, Rope, Segments, Window, attend, chain
from posjax.attention import attention, describe
from posjax.attention.biases import ByContent
from posjax.attention.fading import BetweenTokens, between_tokens
from tests.cases import first_of

FOX = Forgetting(keep=0.9)
IDS = np.random.default_rng(0).integers(0, 4, (2, 300))


def setting(T, S, encoding=FOX):
    keys = jax.random.split(jax.random.key(T), 3)
    shapes = ((2, T, 4, 8), (2, S, 2, 8), (2, S, 2, 8))
    arrays = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    return encoding.init(jax.random.key(1), Dims(4, 8)), arrays


@first_of(
    ("sizes", "mask", "encoding"),
    [
        ((300, 300), Causal(), FOX),
        ((1, 300), Causal(), FOX),
        ((40, 30), Causal(), FOX),
        ((40, 300), Causal() & Window(50), chain(Rope(), FOX)),
        ((300, 300), Causal() & Segments(IDS), FOX),
        ((30, 300), Causal() & Segments(IDS), FOX),
        ((300, 300), Causal() & (IDS[:, :, None] == IDS[:, None, :]), FOX),
        ((300, 300), Causal(), chain(FOX, Alibi())),
    ],
    ids=["square", "a step", "more queries", "window", "alternating documents", "their last", "an array", "two biases"],
    keep=2,
)
def test_it_equals_the_definition(sizes, mask, encoding):
    params, arrays = setting(*sizes, encoding)

    def both(backend):
        def run(params, *arrays):
            out = attend(*arrays, encoding=encoding, params=params, mask=mask, backend=backend)
            return jnp.sum(jnp.sin(jnp.arange(out.size, dtype=jnp.float32)) * out.ravel()), out

        return jax.jit(jax.grad(run, (0, 1, 2, 3), has_aux=True))(params, *arrays)

    for got, wanted in zip(*map(jax.tree.leaves, (both("chunked"), both("reference"))), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-5 * max(1.0, np.abs(wanted).max()))


def test_the_sums_of_rows_and_their_gradients_too():
    params, (q, k, v) = setting(300, 300)

    def run(params, backend):
        bias = describe(FOX, params, 4, None, None, (300, 300), 0)
        lse = attention(q, k, v, bias=bias, backend=backend)[1]
        return jnp.sum(jnp.sin(jnp.arange(lse.size, dtype=jnp.float32)) * lse.ravel()), lse

    gradient = jax.jit(jax.grad(run, has_aux=True), static_argnums=1)
    got, wanted = (gradient(params, backend) for backend in ("chunked", "reference"))
    for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-5 * max(1.0, np.abs(b).max()))


def kind_of_sum(mask):
    """The class of what blocks add, or None: traced only, as no number of it is looked at."""
    params, (q, k, _) = setting(300, 300)
    kinds: list[type | None] = []

    def look(params, q, k):
        bias = describe(FOX, params, 4, None, None, (300, 300), 0)
        assert isinstance(bias, ByContent)
        sums = between_tokens(bias, q, k, mask, 0)
        kinds.append(None if sums is None else type(sums[2]))

    jax.eval_shape(look, params, q, k)
    return kinds[0]


@pytest.mark.parametrize("mask", [Causal(), Causal() & Window(7), Segments(IDS) & Causal()], ids=str)
def test_masks_that_hide_nothing_between_take_the_sum(mask):
    assert kind_of_sum(mask) is BetweenTokens


@pytest.mark.parametrize(
    "mask",
    [Segments(IDS), Causal() & np.ones((300, 300), bool), Causal() & Segments(IDS) & Segments(IDS)],
    ids=["later", "array", "two"],
)
def test_other_masks_do_not(mask):
    assert kind_of_sum(mask) is None


def test_near_the_end_of_a_long_text_the_sum_is_as_exact_as_at_its_start():
    S = 2**16
    fading = jax.nn.log_sigmoid(jax.random.normal(jax.random.key(0), (S,)))
    params = {"w": jnp.zeros((1, 1)).at[0, 0].set(1.0), "b": jnp.zeros(1)}
    k = jnp.log(jnp.expm1(-fading))[None, :, None, None] * -1.0  # The key whose gate is that.

    @jax.jit
    def last_tile(k):
        bias = describe(Forgetting(), params, 1, None, None, (S, S), 0)
        assert isinstance(bias, ByContent)
        sums = between_tokens(bias, k, k, Causal(), 0)
        assert sums is not None
        return sums[2].tile(S - 64, S - 64, 64, 64)

    tile = np.asarray(last_tile(k))[0, 0]
    exact = np.cumsum(np.asarray(jax.nn.log_sigmoid(k[0, :, 0, 0]), np.float64))
    wanted = exact[S - 64 :, None] - exact[None, S - 64 :]
    assert np.abs(exact[-1]) > 4e4  # A single float32 would be off by thousandths here.
    np.testing.assert_allclose(tile, wanted, rtol=0, atol=2e-5)
