"""A rule says in one description how a parameter is read and how it is written, whole or in parts."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from posjax.errors import InputError
from posjax.interop.rules import Part, Weight, compose, require_covered
from posjax.interop.sources import everything
from tests.interop.sources import Held, counted

N, K, H, D, F, V = 6, 3, 4, 5, 7, 9
G = N // K

SINGLE = {
    "linear": (Weight("w", "F D -> D F"), (D, F), lambda w: w.T),
    "conv1d": (Weight("w", "D F -> D F"), (D, F), lambda w: w),
    "query": (Weight("w", "(N H) D -> D N H"), (D, N, H), lambda w: w.reshape(N, H, D).transpose(2, 0, 1)),
    "query, conv1d": (Weight("w", "D (N H) -> D N H"), (D, N, H), lambda w: w.reshape(D, N, H)),
    "query bias": (Weight("w", "(N H) -> N H"), (N, H), lambda w: w.reshape(N, H)),
    "out": (Weight("w", "D (N H) -> N H D"), (N, H, D), lambda w: w.T.reshape(N, H, D)),
    "out, conv1d": (Weight("w", "(N H) D -> N H D"), (N, H, D), lambda w: w.reshape(N, H, D)),
    "norm": (Weight("w", "D -> D"), (D,), lambda w: w),
    "table": (Weight("w", "B N -> N B"), (N, V), lambda w: w.T),
    "pairs": (
        Weight("w", "(N H two=2) D -> D N (two H)"),
        (D, N, H),
        lambda w: np.concatenate([w.reshape(N, H, D)[:, ::2], w.reshape(N, H, D)[:, 1::2]], 1).transpose(2, 0, 1),
    ),
}
"""Rule, our shape, and what ours is of theirs, by hand."""


def heads(w, first, count):
    """The rows of some heads."""
    return w.reshape(-1, H, *w.shape[1:])[first : first + count]


def turned(w):
    """From [heads, H, D] to ours."""
    return w.transpose(2, 0, 1)


CONCAT = ("(part H) D -> D part H", N + 2 * K)
FUSED = {
    "queries, keys, values": [
        (Weight("w", CONCAT[0], Part(0, N, CONCAT[1])), (D, N, H), lambda w: turned(heads(w, 0, N))),
        (Weight("w", CONCAT[0], Part(N, K, CONCAT[1])), (D, K, H), lambda w: turned(heads(w, N, K))),
        (Weight("w", CONCAT[0], Part(N + K, K, CONCAT[1])), (D, K, H), lambda w: turned(heads(w, N + K, K))),
    ],
    "queries, keys, values, conv1d": [
        (Weight("w", "D (part H) -> D part H", Part(0, N, 3 * N)), (D, N, H), lambda w: turned(heads(w.T, 0, N))),
        (Weight("w", "D (part H) -> D part H", Part(N, N, 3 * N)), (D, N, H), lambda w: turned(heads(w.T, N, N))),
        (
            Weight("w", "D (part H) -> D part H", Part(2 * N, N, 3 * N)),
            (D, N, H),
            lambda w: turned(heads(w.T, 2 * N, N)),
        ),
    ],
    "by group": [
        (
            Weight("w", "(K part H) D -> D (K part) H", Part(0, G, G + 2)),
            (D, N, H),
            lambda w: turned(w.reshape(K, G + 2, H, D)[:, :G].reshape(N, H, D)),
        ),
        (
            Weight("w", "(K part H) D -> D (K part) H", Part(G, 1, G + 2)),
            (D, K, H),
            lambda w: turned(w.reshape(K, G + 2, H, D)[:, G]),
        ),
        (
            Weight("w", "(K part H) D -> D (K part) H", Part(G + 1, 1, G + 2)),
            (D, K, H),
            lambda w: turned(w.reshape(K, G + 2, H, D)[:, G + 1]),
        ),
    ],
    "by head, biases": [
        (Weight("w", "(N part H) -> (N part) H", Part(i, 1, 3)), (N, H), lambda w, i=i: w.reshape(N, 3, H)[:, i])
        for i in range(3)
    ],
    "gate and up": [
        (Weight("w", "part D -> D part", Part(i * F, F, 2 * F)), (D, F), lambda w, i=i: w[i * F : (i + 1) * F].T)
        for i in range(2)
    ],
    "rows that nothing uses": [
        (Weight("w", "part D -> part D", Part(0, 2, V + 2)), (2, D), lambda w: w[:2]),
        (Weight("w", "part D -> part D", Part(2, V, V + 2)), (V, D), lambda w: w[2:]),
    ],
}
"""The rules that share one tensor of theirs."""
ALL = {name: [row] for name, row in SINGLE.items()} | FUSED


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_what_is_read_is_theirs_by_hand_and_is_written_back(name, dtype):
    rows = ALL[name]
    shapes = {rule.stored_shape(shape) for rule, shape, _ in rows}
    assert len(shapes) == 1
    theirs = counted(*shapes.pop(), dtype=np.uint16).view(np.uint16).astype(np.float32).astype(dtype)
    source = Held(w=theirs)
    pieces = []
    for rule, shape, by_hand in rows:
        rule.check(source.tensors, shape)
        ours = rule.read(source, shape, everything(shape))
        assert ours.dtype == dtype and ours.shape == shape
        np.testing.assert_array_equal(ours, by_hand(theirs))
        pieces.append((rule, ours))
    # In whatever order they come.
    np.testing.assert_array_equal(compose(pieces[::-1]), theirs)


def stretches(size):
    return [slice(i, j) for i in range(size) for j in range(i + 1, size + 1)]


@pytest.mark.parametrize("name", ALL)
def test_a_part_is_the_part_of_the_whole(name):
    for rule, shape, _ in ALL[name]:
        source = Held(w=counted(*rule.stored_shape(shape)))
        whole = rule.read(source, shape, everything(shape))
        indices = list(itertools.product(*map(stretches, shape)))
        # All where they are few; else a share that no axis divides, so that it meets every kind.
        for index in indices[:: max(1, len(indices) // 997)]:
            np.testing.assert_array_equal(rule.read(source, shape, index), whole[index])


@pytest.mark.parametrize("name", ["linear", "query", "out", "queries, keys, values", "gate and up", "by group"])
def test_a_part_by_heads_is_all_that_is_read_for_it(name):
    rule, shape, _ = ALL[name][0]
    axis = max(range(len(shape)), key=lambda i: shape[i] in (N, F))
    index = tuple(slice(0, 2) if i == axis else slice(None) for i in range(len(shape)))
    source = Held(w=counted(*rule.stored_shape(shape)))
    ours = rule.read(source, shape, index)
    assert source.asked == ours.size


def test_several_groups_are_read_whole():
    rule, shape, _ = FUSED["by group"][1]
    source = Held(w=counted(*rule.stored_shape(shape)))
    rule.read(source, shape, (slice(None), slice(0, 2), slice(None)))
    assert source.asked == D * 2 * (G + 2) * H


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({}, "no tensor 'w'"),
        ({"w": counted(8, 5)}, r"shape \[8, 5\] and needed is \[24, 5\]"),
        ({"w": counted(24, 5, dtype=np.int8)}, "quantised"),
    ],
)
def test_what_cannot_make_ours_is_named(stored, words):
    with pytest.raises(InputError, match=words):
        Weight("w", "(N H) D -> D N H").check(Held(**stored).tensors, (D, N, H))


@pytest.mark.parametrize("shape", [(D, N), (D, N, H + 1)])
def test_a_shape_that_the_layout_does_not_have_is_refused(shape):
    with pytest.raises(InputError, match="no such"):
        Weight("w", "(N H two=2) D -> D N (two H)").stored_shape(shape)


@pytest.mark.parametrize(
    ("layout", "part"), [("N D -> D H", None), ("part D -> D part", None), ("N D -> D N", Part(0, 1, 3))]
)
def test_a_layout_that_is_no_exchange_of_axes_is_refused(layout, part):
    with pytest.raises(InputError, match="no exchange"):
        Weight("w", layout, part)


@pytest.mark.parametrize("parts", [[(0, 2), (3, 2)], [(0, 3), (2, 3)], [(0, 2)], [(1, 4)]])
def test_parts_that_leave_a_gap_or_overlap_are_refused(parts):
    pieces = [(Weight("w", "part D -> part D", Part(at, size, 5)), counted(size, D)) for at, size in parts]
    with pytest.raises(InputError, match="gap"):
        compose(pieces)


def test_two_parameters_for_one_whole_tensor_are_refused():
    with pytest.raises(InputError, match="gap or overlap"):
        compose([(Weight("w", "D -> D"), counted(D))] * 2)


@pytest.mark.parametrize("index", [(slice(None),), (slice(None), slice(0, 4, 2))])
def test_indices_that_are_no_slices_are_refused(index):
    with pytest.raises(InputError, match=r"strides|one for each"):
        Weight("w", "F D -> D F").read(Held(w=counted(F, D)), (D, F), index)


def test_every_tensor_is_read_and_all_of_it():
    rules = [rule for name in ("queries, keys, values",) for rule, _, _ in ALL[name]]
    # A tied tensor is read twice, and buffers hold no weights.
    tied = [Weight("embedding", "V D -> V D"), Weight("embedding", "V D -> D V")]
    require_covered(["w", "embedding", "layers.0.inv_freq"], [*rules, *tied], ignored=["*.inv_freq"])
    with pytest.raises(InputError, match=r"1 tensors are no part of the model .*, layers\.0\.bias:"):
        require_covered(["w", "layers.0.bias"], rules)
    with pytest.raises(InputError, match="gap"):
        require_covered(["w"], rules[1:])
