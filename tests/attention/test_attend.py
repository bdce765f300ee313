"""`attend`: where tokens are when nothing is said, what does not compile again, and what it refuses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Alibi,
    Causal,
    Dims,
    Full,
    InputError,
    Interpolation,
    Learned,
    NoPE,
    Rope,
    T5Bias,
    Window,
    attend,
    chain,
)
from tests.cases import BACKEND_NAMES

BOTH = chain(Rope(), Alibi())


def qkv(T: int = 6, S: int = 6) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, (2, *s, 4)) for key, s in zip(keys, ((T, 6), (S, 3), (S, 3)), strict=True)]


run = partial(jax.jit, static_argnames=("encoding", "mask", "backend"))(attend)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_without_positions_queries_are_the_last_places(backend):
    q, k, v = qkv(4, 9)
    plain = run(q, k, v, encoding=BOTH, backend=backend)
    for q_at, k_at in (
        (jnp.arange(5, 9), None),
        (None, jnp.arange(9)),
        (jnp.arange(5, 9), jnp.arange(9)),
        (jnp.broadcast_to(jnp.arange(5, 9), (2, 4)), jnp.arange(9)),
        (jnp.arange(5, 9), jnp.broadcast_to(jnp.arange(9), (2, 9))),
    ):
        given = run(q, k, v, q_positions=q_at, k_positions=k_at, encoding=BOTH, backend=backend)
        np.testing.assert_allclose(given, plain, atol=2e-6)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_the_last_queries_alone_equal_the_end_of_the_full_pass(backend):
    q, k, v = qkv(9, 9)
    full = run(q, k, v, encoding=BOTH, backend=backend)
    np.testing.assert_allclose(run(q[:, 5:], k, v, encoding=BOTH, backend=backend), full[:, 5:], atol=2e-6)


def test_positions_move_the_scores_and_not_the_mask():
    q, k, v = qkv()
    at = jnp.array([5, 4, 3, 2, 1, 0])
    first = run(q, k, v, q_positions=at, k_positions=at, encoding=Rope(), mask=Causal())[:, 0]
    np.testing.assert_allclose(first, jnp.repeat(v[:, 0], 2, axis=1), atol=1e-6)


def test_each_row_has_its_own_positions():
    q, k, v = qkv()
    at = jnp.stack([jnp.arange(6), 3 * jnp.arange(6)])
    together = run(q, k, v, q_positions=at, k_positions=at, encoding=BOTH)
    for b in range(2):
        alone = run(*(x[b : b + 1] for x in (q, k, v)), q_positions=at[b], k_positions=at[b], encoding=BOTH)
        np.testing.assert_allclose(together[b], alone[0], atol=2e-6)


def test_unsigned_and_short_integers_are_positions():
    q, k, v = qkv()
    for kind in ("uint8", "int16"):
        at = jnp.arange(6, dtype=kind)
        np.testing.assert_allclose(
            run(q, k, v, q_positions=at, k_positions=at, encoding=BOTH), run(q, k, v, encoding=BOTH), atol=2e-6
        )


def test_values_that_need_no_training_need_no_parameters():
    q, k, v = qkv()
    params = BOTH.join(BOTH.init(jax.random.key(0), Dims(6, 4)), BOTH.constants(Dims(6, 4)))
    np.testing.assert_array_equal(run(q, k, v, encoding=BOTH), run(q, k, v, encoding=BOTH, params=params))


def test_sweeping_numbers_or_the_window_does_not_trace_again():
    arrays, dims, traces = qkv(), Dims(6, 4), []

    @jax.jit
    def sweep(constants, mask):
        traces.append(mask)
        return attend(*arrays, encoding=Rope(), params=constants, mask=mask)

    swept = (Rope(), Rope(base=50.0), Rope(schedule=Interpolation(4.0)))
    outputs = [sweep(encoding.constants(dims), Causal() & Window(n)) for encoding in swept for n in (2, 5)]
    assert len(traces) == 1
    expected = [run(*arrays, encoding=e, mask=Causal() & Window(n), backend="reference") for e in swept for n in (2, 5)]
    for got, want in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6)
    assert len({out.tobytes() for out in map(np.asarray, outputs)}) == 6


def wrong(**changes):
    q, k, v = qkv()
    given = dict(q=q, k=k, v=v) | changes
    return lambda: attend(given.pop("q"), given.pop("k"), given.pop("v"), **given)


x = jnp.zeros


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (wrong(q=x((2, 6, 4))), "q has shape (2, 6, 4)", "4 axes, [B, T, N, H]"),
        (wrong(k=x((3, 6, 3, 4)), v=x((3, 6, 3, 4))), "axis B is 3 here and 2", "make them equal"),
        (wrong(v=x((2, 5, 3, 4))), "v [B, S, K, U] has shape (2, 5, 3, 4): axis S is 5 here and 6", "make them equal"),
        (wrong(k=x((2, 6, 3, 8))), "axis H is 8 here and 4", "make them equal"),
        (wrong(k=x((2, 6, 4, 4)), v=x((2, 6, 4, 4))), "q has 6 heads and k has 4", "key-value heads divide"),
        (wrong(q_positions=jnp.arange(6.0)), "q_positions are float32", "posjax.positions.contiguous(length)"),
        (wrong(k_positions=jnp.arange(6.0, dtype="bfloat16")), "k_positions are bfloat16", "give int32"),
        (
            wrong(q_positions=x((1, 1, 6), int)),
            "q_positions have shape (1, 1, 6)",
            "[T], the same for all rows, or [B, T]",
        ),
        (wrong(encoding=Alibi(), mask=Full()), "mask Full()", "intersect it with Causal()"),
        (
            wrong(encoding=chain(Rope(), Alibi()), mask=Window(2)),
            "Window(size=2)",
            "or take the encoding's form for both",
        ),
        (wrong(encoding=T5Bias()), "T5Bias(", "params=encoding.init(key, Dims(heads=6, head_size=4, model_size=0))"),
        (wrong(encoding=chain(Rope(), T5Bias())), "learned parameters and none were given", "params=encoding.init"),
        (wrong(backend="flash"), "backend='flash' is unknown", "'auto' or one of reference, chunked"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_an_intersection_with_causal_suits_causal_encodings():
    for encoding, mask in ((Alibi(), Window(2) & Causal()), (NoPE(), Full())):
        out = jax.eval_shape(partial(attend, encoding=encoding, mask=mask), *qkv())
        assert out.shape == (2, 6, 6, 4)


def test_a_table_is_no_part_of_attention():
    params = Learned(8).init(jax.random.key(0), Dims(6, 4, 24))
    np.testing.assert_array_equal(run(*qkv(), encoding=Learned(8), params=params), run(*qkv()))
