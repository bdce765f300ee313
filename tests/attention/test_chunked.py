"""The chunked backend: equal to the definition in every shape, linear in memory, and blind to what masks rule out."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Alibi, Causal, Dims, Fire, Full, Mask, Segments, T5Bias, Window, attend, chain
from posjax.attention import attention, blocks, chunked, describe
from posjax.attention.biases import ByPosition
from posjax.attention.blocks import over_rows
from posjax.attention.visits import BlockGrid, visited_pairs
from tests.cases import first_of, wide

T5 = chain(T5Bias(8, 20, bidirectional=True), Alibi("symmetric"))
SEGMENTS = jnp.array([[1] * 4 + [2] * 6 + [0] * 3, [0] * 2 + [5] * 11])


def qkv(T: int, S: int, N: int = 4, K: int = 2) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(T * S), 3)
    return [jax.random.normal(key, (2, *shape, 4)) for key, shape in zip(keys, ((T, N), (S, K), (S, K)), strict=True)]


def value_and_gradients(sizes, mask, q_offset, at, backend):
    """Output, log-sum-exp, and the gradients of a random sum of both, for q, k, v and the bias's table."""
    T, S = sizes
    params = T5.join(T5.init(jax.random.key(3), Dims(heads=4)), T5.constants(Dims(heads=4)))
    arguments = (*qkv(T, S), params["0"]["table"])
    weights = jax.random.normal(jax.random.key(4), (2, T, 4, 4)), jax.random.normal(jax.random.key(5), (2, 4, T))

    def run(q, k, v, table):
        bias = describe(T5, {"0": {**params["0"], "table": table}, "1": params["1"]}, 4, *at, sizes, q_offset)
        out, lse = attention(q, k, v, bias=bias, mask=mask, q_offset=q_offset, backend=backend)
        lse = jnp.where(lse > -1e29, lse, 0.0)  # Of a row that sees nothing only the sign is defined.
        return jnp.vdot(out, weights[0]) + jnp.vdot(lse, weights[1]), (out, lse)

    (_, aux), gradients = jax.jit(jax.value_and_grad(run, (0, 1, 2, 3), has_aux=True))(*arguments)
    return *aux, *gradients


CASES = [  # T, S, BLOCK, mask
    (13, 13, 4, Causal()),
    (13, 13, 5, Full()),
    (9, 9, 100, Causal()),
    (5, 12, 4, Causal()),
    (12, 5, 3, Full()),
    (1, 11, 4, Causal()),
    (13, 13, 3, Causal() & Window(4)),
    (10, 10, 4, Window(2)),
    (13, 13, 4, Causal() & Segments(SEGMENTS)),
    (7, 3, 2, Causal()),  # The first queries come before every key.
]


@pytest.mark.parametrize("explicit", [False, True], ids=["by distance", "by position"])
@pytest.mark.parametrize("case", wide(range(len(CASES)), (0, 4, 9)))
def test_it_equals_the_reference(case, explicit, monkeypatch):
    T, S, block, mask = CASES[case]
    monkeypatch.setattr(blocks, "BLOCK", block)
    at = (None, None)
    if explicit:  # A line of positions for each row, with gaps.
        at = tuple(jnp.stack([3 * jnp.arange(n), 50 - jnp.arange(n)]) for n in (T, S))
    got, expected = (value_and_gradients((T, S), mask, S - T, at, b) for b in ("chunked", "reference"))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EveryOther(Mask):
    """A rule of a user's own, one number for each row of the batch."""

    rest: jax.Array

    def allowed(self, q_index, k_index):
        return (q_index[None, :, None] + k_index[None, None, :]) % 3 != self.rest[:, None, None]


@first_of("heads", [1, 2], ids=["a head at once", "a row at once"], keep=1)
@first_of(
    "mask",
    [
        Causal(),
        Causal() & Segments(SEGMENTS),
        Full() & EveryOther(jnp.array([0, 1])),
        Window(5) & Segments(SEGMENTS[:1]),
    ],
    ids=["causal", "packed", "own", "shared"],
    keep=2,
)
def test_parts_of_the_batch_and_the_heads_equal_the_whole(mask, heads, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4)
    expected = value_and_gradients((13, 13), mask, 0, (None, None), "reference")
    monkeypatch.setattr(chunked, "TILE", 4 * 4 * 2 * heads)
    q, k, _ = qkv(13, 13)
    assert chunked.cut_of(q, k, None, mask) == (4, 4, 1, heads)
    for a, b in zip(value_and_gradients((13, 13), mask, 0, (None, None), "chunked"), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_how_much_is_computed_at_once(monkeypatch):
    def cut(B, T, N, K, mask=None, bias=None):
        q, k = (jax.ShapeDtypeStruct((B, T, n, 64), jnp.float32) for n in (N, K))
        return chunked.cut_of(q, k, bias, mask or Causal())

    assert cut(1, 1024, 4, 4) == (256, 256, 1, 4), "short ones waste less with narrow blocks"
    assert cut(1, 4096, 4, 4) == (512, 512, 1, 4)
    assert cut(1, 4096, 4, 4, Causal() & Window(9)) == (256, 256, 1, 4), "nor do wide blocks suit a window"
    assert cut(3, 4096, 8, 8) == (512, 512, 1, 4), "half of the heads of a row"
    assert cut(3, 4096, 12, 4) == (512, 512, 1, 1), "whole groups of queries"
    assert cut(1, 4096, 32, 4) == (256, 256, 1, 2), "large groups take narrow blocks"
    assert cut(32, 256, 4, 4) == (256, 256, 4, 4), "rows of the batch together"
    assert cut(7, 256, 4, 4) == (256, 256, 1, 4), "as many each time"
    at = jnp.arange(4096)[None]
    shared = ByPosition({}, at, at, Fire(), 8)
    assert cut(3, 4096, 8, 8, bias=shared) == (256, 256, 3, 8), "rows share the tiles of a bias by position"
    monkeypatch.setattr(chunked, "here", lambda: ("gpu", "any"))
    assert cut(32, 4096, 8, 8) == (256, 256, 32, 8), "all at once where there are no such caches"


def test_wide_blocks_equal_narrow_ones(monkeypatch):
    expected = value_and_gradients((13, 13), Causal(), 0, (None, None), "reference")
    for module, name, value in ((blocks, "BLOCK", 4), (chunked, "WIDE", 7), (chunked, "LONG", 12)):
        monkeypatch.setattr(module, name, value)
    q, k, _ = qkv(13, 13)
    assert chunked.cut_of(q, k, None, Causal())[:2] == (7, 7)
    for a, b in zip(value_and_gradients((13, 13), Causal(), 0, (None, None), "chunked"), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@first_of("block", [3, 100], keep=1)
def test_a_step_of_decoding_takes_a_traced_start(block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    S, (q, k, v) = 10, qkv(10, 10)
    params = T5.join(T5.init(jax.random.key(3), Dims(heads=4)), T5.constants(Dims(heads=4)))

    @jax.jit
    def step(q, q_offset):
        bias = describe(T5, params, 4, None, None, (1, S), q_offset)
        return attention(q, k, v, bias=bias, mask=Causal(), q_offset=q_offset, backend="chunked")

    whole = attention(q, k, v, bias=describe(T5, params, 4, None, None, (S, S), 0), mask=Causal(), backend="reference")
    for t in range(S):  # What the cache holds past the token is not seen.
        out, lse = step(q[:, t : t + 1], t)
        np.testing.assert_allclose(out[:, 0], whole[0][:, t], atol=2e-6)
        np.testing.assert_allclose(lse[..., 0], whole[1][..., t], atol=2e-6)


@pytest.mark.exhaustive
def test_a_traced_window_equals_a_static_one_and_does_not_trace_again(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4)
    arrays, traces = qkv(11, 11), []

    @jax.jit
    def run(mask, *arrays):
        traces.append(mask)
        return attention(*arrays, mask=mask, backend="chunked")[0]

    for n in (1, 3, 11):
        mask = Causal() & Window(n)
        np.testing.assert_allclose(run(mask, *arrays), attention(*arrays, mask=mask, backend="reference")[0], atol=2e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_causal_visits_the_lower_triangle_of_blocks(n):
    assert len(visited_pairs(Causal(), 0, BlockGrid(8 * n, 8 * n, 8, 8))) == n * (n + 1) // 2
    assert len(visited_pairs(Full(), 0, BlockGrid(8 * n, 8 * n, 8, 8))) == n * n
    assert len(visited_pairs(Causal(), 8 * n, BlockGrid(8, 16 * n, 8, 8))) == n + 1, "a chunk sees its past and itself"


def test_a_window_visits_a_band():
    def visited(n, size):
        return len(visited_pairs(Causal() & Window(size), 0, BlockGrid(8 * n, 8 * n, 8, 8)))

    assert [visited(n, 8) for n in (1, 2, 10, 100)] == [1, 3, 19, 199]
    assert visited(100, 1) == 100 and visited(100, 10) == 2 * 100 - 1 + 98


def test_a_traced_start_visits_every_block():
    count = jax.eval_shape(
        lambda q_offset: jnp.zeros(len(visited_pairs(Causal(), q_offset, BlockGrid(1, 40, 1, 8)))), 3
    ).shape[0]
    assert count == 5 and len(visited_pairs(Causal(), 3, BlockGrid(1, 40, 1, 8))) == 1


def test_blocks_are_at_most_as_asked_and_nearly_full():
    for length in range(1, 2000, 7):
        block = blocks.block_size(length)
        number = -(-length // block)
        assert block <= blocks.BLOCK and number * block - length < number
        assert number == -(-length // blocks.BLOCK)


HIDDEN = jnp.array([[1] * 9 + [2] * 10 + [0] * 6 + [3] * 7, [1] * 16 + [2] * 3 + [3] * 13])
"""Segments of which some blocks of eight tokens are foreign to each other in both rows."""


@first_of(
    ("mask", "T", "q_offset"),
    [
        (Causal() & Segments(HIDDEN), 32, 0),
        (Causal(), 8, jnp.int32(11)),
        (Window(jnp.int32(5)) & Causal(), 32, 0),
        (Segments(HIDDEN), 32, 0),
        (Window(3) & Causal() & Segments(HIDDEN), 8, jnp.int32(16)),
    ],
    ids=["segments", "q_offset", "window", "both ways", "all"],
    keep=2,
)
def test_blocks_that_run_time_rules_out_are_not_computed(mask, T, q_offset, monkeypatch):
    """Forward and backward, each block whose logits are taken says so."""
    plain, visited = chunked._scores, set()

    def watched(grid, q, k, visits, tile, i, j):
        jax.debug.callback(lambda i, j: visited.add((int(i), int(j))), i, j)
        return plain(grid, q, k, visits, tile, i, j)

    monkeypatch.setattr(chunked, "_scores", watched)
    monkeypatch.setattr(blocks, "BLOCK", 8)
    q, k, v = qkv(T, 32)
    params = T5.join(T5.init(jax.random.key(3), Dims(heads=4)), T5.constants(Dims(heads=4)))
    seen = (
        np.asarray(mask.allowed(q_offset + jnp.arange(T), jnp.arange(32))).any(0).reshape(T // 8, 8, 4, 8).any((1, 3))
    )
    assert 0 < seen.sum() < seen.size

    def run(q, mask, q_offset):
        bias = describe(T5, params, 4, None, None, (T, 32), q_offset)
        return attention(q, k, v, bias=bias, mask=mask, q_offset=q_offset, backend="chunked")[0].sum()

    for function in (run, jax.grad(run)):
        visited.clear()
        jax.block_until_ready(jax.jit(function)(q, mask, q_offset))
        jax.effects_barrier()
        assert visited == set(map(tuple, np.argwhere(seen).tolist()))


@first_of("size", [1, 7, 2**31 - 2, 2**31 - 1], keep=2)
def test_a_traced_window_may_be_as_wide_as_it_likes(size, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)
    arrays = qkv(37, 37)
    run = jax.jit(lambda mask, *arrays: attention(*arrays, mask=mask, backend="chunked")[0])
    for mask in (Causal() & Window(jnp.int32(size)), Window(jnp.int32(size))):
        np.testing.assert_allclose(run(mask, *arrays), attention(*arrays, mask=mask, backend="reference")[0], atol=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_results_repeat_to_the_bit(dtype, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)
    arrays = [x.astype(dtype) for x in qkv(40, 40)]
    params = T5.join(T5.init(jax.random.key(3), Dims(heads=4)), T5.constants(Dims(heads=4)))

    @jax.jit
    def run(table, *arrays):
        bias = describe(T5, {"0": {**params["0"], "table": table}, "1": params["1"]}, 4, None, None, (40, 40), 0)
        return jax.value_and_grad(
            lambda *x: attention(*x, bias=bias, backend="chunked")[0].astype(jnp.float32).sum(), (0, 1, 2)
        )(*arrays)

    first, again = (jax.tree.leaves(run(params["0"]["table"], *arrays)) for _ in range(2))
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("rows", range(1, 8))
def test_the_sum_over_rows(rows):
    x = jnp.arange(rows * 3.0).reshape(rows, 3) ** 2
    np.testing.assert_array_equal(over_rows(x), np.asarray(x).sum(0, keepdims=True))


def test_a_gradient_of_float16_is_no_worse_than_the_references():
    """What one pair of many gives is below the smallest numbers of float16, and the sum of all is not."""
    keys = jax.random.split(jax.random.key(0), 4)
    *arrays, cotangent = (jax.random.normal(key, (1, 512, 1, 8), jnp.float16) for key in keys)
    cotangent = cotangent * jnp.float16(1e-4)

    @partial(jax.jit, static_argnums=0)
    def pulled(backend, cotangent, *arrays):
        return jax.vjp(partial(attend, backend=backend), *arrays)[1](cotangent)

    exact = pulled("reference", cotangent.astype(jnp.float32), *(x.astype(jnp.float32) for x in arrays))
    errors = {}
    for backend in ("reference", "chunked"):
        found = pulled(backend, cotangent, *arrays)
        errors[backend] = [np.linalg.norm(a.astype(jnp.float32) - b) for a, b in zip(found, exact, strict=True)]
    assert (np.array(errors["chunked"]) < 1.5 * np.array(errors["reference"])).all(), errors
