"""Masks are rules: what they allow, as dense tables, and that a backend may trust what they let it skip."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import Causal, Chunked, First, Full, Global, InputError, Mask, Segments, Window, attend, prefix
from posjax.attention import as_mask, blocks
from posjax.attention.given_masks import held
from posjax.attention.masks import Both
from posjax.attention.ring.plan import spans_of
from posjax.attention.visits import BlockGrid, visited_pairs
from tests.attention.ring_program import mesh_of
from tests.cases import BACKEND_NAMES, first_of
from tests.ways import assert_close

SIZE = 7
INDEX = np.arange(SIZE)
SEGMENTS = np.array([[0, 0, 1, 1, 2, 2, 2], [3, 3, 3, 1, 1, 0, 0]])
CHOSEN = np.isin(INDEX, [[0, 0], [2, 6]]).reshape(1, SIZE) & np.array([[True], [False]])
D = INDEX[:, None] - INDEX[None, :]

RULES = [
    (Full(), np.ones((1, SIZE, SIZE), bool)),
    (Causal(), (D >= 0)[None]),
    *((Window(n), (np.abs(D) < n)[None]) for n in (1, 2, 3, SIZE)),
    *((Causal() & Window(n), ((D >= 0) & (n > D))[None]) for n in (1, 2, 4)),
    *((First(n), np.broadcast_to(n > INDEX, (1, SIZE, SIZE))) for n in (0, 2, SIZE)),
    (First(jnp.array([1, 4])), np.broadcast_to(np.array([[[1]], [[4]]]) > INDEX, (2, SIZE, SIZE))),
    *((Chunked(n), (INDEX[:, None] // n == INDEX // n)[None]) for n in (1, 3, SIZE)),
    (Global(jnp.asarray(CHOSEN)), CHOSEN[:, :, None] | CHOSEN[:, None]),
    *((prefix(n), ((D >= 0) | (n > INDEX) & (INDEX[:, None] < n))[None]) for n in (0, 1, 4)),
    (Causal() & (Window(2) | First(2)), ((D >= 0) & ((D < 2) | (INDEX < 2)))[None]),
    (Segments(jnp.asarray(SEGMENTS)), (SEGMENTS[:, :, None] == SEGMENTS[:, None]) & (SEGMENTS[:, None] != 0)),
]


def dense(mask: Mask, q: np.ndarray = INDEX, k: np.ndarray = INDEX) -> np.ndarray:
    allowed = mask.allowed(jnp.asarray(q), jnp.asarray(k))
    return np.ones((1, len(q), len(k)), bool) if allowed is None else np.asarray(allowed)


@pytest.mark.parametrize(("mask", "expected"), RULES, ids=lambda x: repr(x) if isinstance(x, Mask) else "")
def test_a_rule_is_its_table_and_that_of_every_tile(mask, expected):
    np.testing.assert_array_equal(dense(mask), expected)
    rows, columns = slice(2, 6), slice(1, 4)
    np.testing.assert_array_equal(dense(mask, INDEX[rows], INDEX[columns]), expected[:, rows, columns])


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(RULES)), 2)))
def test_and_intersects(first, second):
    (a, expected_a), (b, expected_b) = RULES[first], RULES[second]
    for both in (a & b, b & a):
        np.testing.assert_array_equal(dense(both), np.broadcast_to(expected_a & expected_b, dense(both).shape))
        assert both.causal == (a.causal or b.causal)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(RULES)), 2)))
def test_or_unites(first, second):
    (a, expected_a), (b, expected_b) = RULES[first], RULES[second]
    for either in (a | b, b | a):
        union = expected_a | expected_b
        np.testing.assert_array_equal(np.broadcast_to(dense(either), union.shape), union)
        assert either.causal == (a.causal and b.causal)


def stretches() -> list[tuple[int, int]]:
    return [(first, last) for first in range(SIZE) for last in range(first, SIZE)]


@pytest.mark.parametrize(("mask", "expected"), RULES, ids=lambda x: repr(x) if isinstance(x, Mask) else "")
def test_a_block_with_an_allowed_pair_is_never_skipped_and_others_are(mask, expected):
    exact = not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(mask))
    for (a, b), (c, d) in itertools.product(stretches(), stretches()):
        holds = bool(expected[:, a : b + 1, c : d + 1].any())
        skipped = not mask.may_see(a, b, c, d)
        assert not (holds and skipped), (a, b, c, d)
        assert holds or skipped or not exact or isinstance(mask, Both), (a, b, c, d)


@pytest.mark.parametrize(("mask", "expected"), RULES, ids=lambda x: repr(x) if isinstance(x, Mask) else "")
def test_at_run_time_too_no_block_with_an_allowed_pair_is_skipped(mask, expected):
    for rows, columns in ((2, 3), (3, 2), (1, 7)):
        q_blocks = np.minimum(np.arange(-(-SIZE // rows) * rows), SIZE - 1).reshape(-1, rows)
        k_blocks = np.minimum(np.arange(-(-SIZE // columns) * columns), SIZE - 1).reshape(-1, columns)
        visible = mask.visible(jnp.asarray(q_blocks), jnp.asarray(k_blocks))
        holds = expected.any(0)[q_blocks[:, None, :, None], k_blocks[None, :, None, :]].any((2, 3))
        assert visible is None or (np.asarray(visible) >= holds).all()


@pytest.mark.parametrize(
    "mask",
    [Causal() & (Window(9) | First(4)), prefix(20), Causal() & Chunked(16), Window(3) | First(9), Chunked(12)],
    ids=repr,
)
def test_blocks_are_skipped_where_a_union_leaves_them_empty(mask):
    size, block, parts = 64, 8, 4
    index = np.arange(size)
    seen = dense(mask, index, index)[0].reshape(8, 8, 8, 8).any((1, 3))
    assert 0 < seen.sum() < seen.size
    np.testing.assert_array_equal(visited_pairs(mask, 0, BlockGrid(size, size, block, block)), np.argwhere(seen))
    # On a ring what is skipped is skipped at every place, so all that is seen is among what is visited.
    spans = spans_of(mask, parts, size // parts, block)
    for q_block, k_block in np.argwhere(seen):
        first, end = spans[q_block // 2 - k_block // 2 + parts - 1, q_block % 2]
        assert first <= k_block % 2 < end


NEW = {
    "sinks of a window": Causal() & (Window(5) | First(3)),
    "prefix by row": prefix(jnp.array([3, 9])) & Segments(jnp.array([[1] * 12, [0, 0] + [1] * 10])),
    "chunks": Causal() & Chunked(5),
    "both ways": Window(2) | Global(jnp.arange(12)[None] % 7 == 0),
    "an array": np.eye(12, dtype=bool) | Causal() & Window(jnp.int32(3)),
}


@first_of("backend", [*(name for name in BACKEND_NAMES if name != "reference"), "ring"], keep=1)
@first_of("name", NEW, keep=2)
def test_every_backend_sees_what_the_table_says(name, backend, monkeypatch):
    mask = NEW[name]
    monkeypatch.setattr(blocks, "BLOCK", 4)
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 12, 2, 4))

    def run(mask, backend):
        def loss(*qkv):
            return jnp.sum(jnp.sin(attend(*qkv, mask=mask, backend=backend)))

        return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))

    index = np.arange(12)
    table = as_mask(np.broadcast_to(dense(held(mask, {"B": 2, "T": 12, "S": 12}, 0), index, index), (2, 12, 12)))
    wanted = run(table, "reference")(q, k, v)
    if backend == "ring":
        with jax.set_mesh(mesh_of(context=2)):
            assert_close(run(mask, backend)(q, k, v), wanted)
        return
    assert_close(run(mask, backend)(q, k, v), wanted)
    if mask.causal and name != "an array":
        last = attend(q[:, -2:], k, v, mask=mask, backend=backend)
        assert_close(last, attend(q, k, v, mask=table, backend="reference")[:, -2:])


def test_a_mask_reads_as_it_was_written():
    a, b, c = Causal(), Window(2), First(1)
    for mask in (a & b, a | b, a & (b | c), (a | b) & c, a | (b & c), a & (b & c), a | (b | c), (a & b) | (c | a) & b):
        assert eval(repr(mask), vars(posjax)) == mask


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (lambda: First(-1), "First got size=-1: needed is a whole number of tokens, 0 or more"),
        (lambda: Chunked(0), "Chunked got size=0: needed is a whole number of tokens, 1 or more"),
        (lambda: Chunked(2.0), "Chunked got size=2.0"),
        (lambda: First(jnp.ones(2)), r"First got size=an array of float32 and shape \(2,\).*integers \[2\]"),
        (lambda: prefix(jnp.arange(3)), r"shape \(3,\)"),
        (lambda: prefix(jnp.array([1, -1])), "First got size"),
        (lambda: Chunked(jnp.array([2, 2])), "Chunked got size"),
        (lambda: Global(jnp.ones((2, 4), bool)), r"Global got tokens of bool and shape \(2, 4\) for 5 queries among 5"),
        (lambda: Global(jnp.ones((2, 5))), "Global got tokens of float32"),
    ],
)
def test_sizes_and_tokens_are_held_to_the_call(mask, said):
    x = jnp.ones((2, 5, 2, 4))
    with pytest.raises(InputError, match=said):
        attend(x, x, x, mask=Causal() & (Window(3) | mask()))


def test_a_window_of_unknown_size_skips_nothing():
    assert Window(jnp.int32(1)).may_see(0, 1, 90, 99) and not Window(1).may_see(0, 1, 90, 99)


def test_segments_may_differ_between_queries_and_keys():
    mask = Segments(jnp.array([[1, 2]]), jnp.array([[1, 0, 2, 2]]))
    np.testing.assert_array_equal(dense(mask, np.arange(2), np.arange(4)), [[[1, 0, 0, 0], [0, 0, 1, 1]]])


def test_both_without_a_rule_is_none():
    assert (Full() & Full()).allowed(jnp.arange(2), jnp.arange(2)) is None


def test_numbers_and_arrays_in_a_mask_are_data():
    assert jax.tree.leaves(Causal() & Window(3)) == [3]
    traces = []

    @jax.jit
    def count(mask):
        traces.append(mask)
        return mask.allowed(jnp.arange(4), jnp.arange(4)).sum()

    assert [int(count(Causal() & Window(n))) for n in (1, 2, 4)] == [4, 7, 10] and len(traces) == 1


@pytest.mark.parametrize("size", [0, -2])
def test_a_window_without_the_query_is_refused(size):
    with pytest.raises(InputError, match=f"Window got size={size}: needed is a whole number of tokens, 1 or more"):
        Window(size)


def test_and_takes_masks_alone():
    for other in (3, None, Causal):
        with pytest.raises(InputError, match="needed is a mask such as"):
            Causal() | other
        with pytest.raises(InputError, match="needed is a mask such as"):
            Causal() & other
        with pytest.raises(InputError, match="needed is a mask such as"):
            other & Causal()


def test_a_mask_that_defines_no_rule_says_so():
    with pytest.raises(NotImplementedError, match="Mask defines no rule"):
        Mask().allowed(jnp.arange(1), jnp.arange(1))
    assert Mask().may_see(0, 1, 5, 6) and not Mask().causal
