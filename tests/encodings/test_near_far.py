"""Two encodings by distance: Self-Extend and ReRoPE against oracles, and any two against both scores and a choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import (
    Alibi,
    AxialRope,
    Chunks,
    Dims,
    InputError,
    NoPE,
    Pinned,
    Regrouped,
    Rope,
    Shaw,
    Wrapped,
    attend,
    near_far,
)
from posjax.encodings import NearFar, Pairs
from tests import content_oracles as content

AT = np.array([0, 1, 2, 3, 7, 8, 15, 16, 17, 40])
WINDOW = 6


def scores(encoding, q, k, at=AT) -> np.ndarray:
    params = encoding.join(None, encoding.constants(Dims(q.shape[1], q.shape[2])))
    places, index = jnp.asarray(at, jnp.int32), jnp.arange(len(at))
    q, k = (encoding.rotate(params, jnp.asarray(x)[None], places, role)[0] for x, role in ((q, "query"), (k, "key")))
    return np.asarray(encoding.score(params, q, k, Pairs(places, places, index, index)))


def rows(heads: int, size: int) -> np.ndarray:
    return np.float32(np.random.default_rng(size).normal(size=(2, len(AT), heads, size)))


@pytest.mark.holds(near_far, Regrouped, to=content.self_extend)
@pytest.mark.parametrize("sizes", [(3, 8), (6, 16)])
@pytest.mark.parametrize(("group", "window"), [(2, 6), (4, 6), (3, 1), (1, 4)])
def test_self_extend_matches_the_oracle(sizes, group, window):
    q, k = rows(*sizes)
    encoding = near_far(window, Rope(), Regrouped(Rope(), group=group, shift=window - window // group))
    expected = content.self_extend(window, group, 10_000.0, q, k, AT, AT)
    seen = np.tril(np.ones((len(AT),) * 2, bool))
    np.testing.assert_allclose(scores(encoding, q, k)[:, seen], expected[:, seen], atol=1e-5)


@pytest.mark.holds(near_far, Pinned, to=content.rerope)
@pytest.mark.parametrize("window", [1, 6, 100])
def test_rerope_matches_the_oracle(window):
    q, k = rows(3, 8)
    got = scores(near_far(window, Rope(500.0), Pinned(Rope(500.0), distance=window)), q, k)
    seen = np.tril(np.ones((len(AT),) * 2, bool))
    np.testing.assert_allclose(got[:, seen], content.rerope(window, 500.0, q, k, AT, AT)[:, seen], atol=1e-5)


@pytest.mark.holds(near_far, Wrapped, to=content.dual_chunk)
@pytest.mark.parametrize(("chunk", "trained"), [(4, 6), (4, 5), (7, 14), (16, 20), (64, 128)])
def test_dual_chunk_attention_is_a_composition(chunk, trained):
    q, k = rows(3, 8)
    beyond = near_far(
        Chunks(chunk, 2),
        Wrapped(Rope(), chunk, shift=chunk, most=trained - 1),
        Wrapped(Rope(), chunk, shift=trained - 1, most=trained - 1),
    )
    got = scores(near_far(Chunks(chunk), Rope(), beyond), q, k)
    seen = np.tril(np.ones((len(AT),) * 2, bool))
    expected = content.dual_chunk(chunk, trained, 10_000.0, q, k, AT, AT)
    np.testing.assert_allclose(got[:, seen], expected[:, seen], atol=1e-5)


def test_wrapped_positions_start_anew_and_queries_stand_ahead():
    at = jnp.arange(7)
    assert Wrapped(Rope(), 3, shift=2).moved(at, "query").tolist() == [2, 3, 4, 2, 3, 4, 2]
    assert Wrapped(Rope(), 3, shift=2).moved(at, "key").tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert Wrapped(Rope(), 3, shift=2, most=3).moved(at, "query").tolist() == [2, 3, 3, 2, 3, 3, 2]


@pytest.mark.parametrize("fields", [dict(size=0), dict(size=4, shift=-1), dict(size=4, most=2)])
def test_wrapped_refuses_what_cannot_be(fields):
    with pytest.raises(InputError, match="needed are a size"):
        Wrapped(Rope(), **fields)


def test_chunks_refuse_less_than_one():
    for size, count in ((0, 1), (4, 0)):
        with pytest.raises(InputError, match="needed are 1 or more"):
            Chunks(size, count)


@pytest.mark.holds(near_far, to=content.near_far)
def test_it_chooses_between_both_scores_by_distance_in_positions():
    q, k = rows(3, 8)
    for near, far in ((Rope(), NoPE()), (NoPE(), Rope(100.0)), (Rope(layout="interleaved"), Rope(50.0, fraction=0.5))):
        expected = content.near_far(scores(near, q, k), scores(far, q, k), WINDOW, AT, AT)
        np.testing.assert_allclose(scores(near_far(WINDOW, near, far), q, k), expected, atol=2e-6)


def test_pinned_is_relative_and_regrouped_is_not():
    q, k = rows(3, 8)
    pinned, regrouped = (near_far(WINDOW, Rope(), far) for far in (Pinned(Rope(), 6), Regrouped(Rope(), 4, 5)))
    assert pinned.relative and not regrouped.relative
    np.testing.assert_allclose(scores(pinned, q, k), scores(pinned, q, k, AT + 1001), atol=1e-5)
    assert np.abs(scores(regrouped, q, k) - scores(regrouped, q, k, AT + 1001)).max() > 1e-2


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_attend_within_the_window_is_the_near_one(backend):
    x = jax.random.normal(jax.random.key(0), (3, 2, 8, 6, 8))
    expected = attend(*x, encoding=Rope(), backend=backend)
    got = attend(*x, encoding=near_far(8, Rope(), Pinned(Rope(), 3)), backend=backend)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(attend(*x, encoding=near_far(3, Rope(), Pinned(Rope(), 3)), backend=backend) - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: near_far(0, Rope(), NoPE()), "window=0", "1 or more"),
        (lambda: near_far(4, Alibi(), Rope()), "Alibi(", "encodings that rotate"),
        (lambda: near_far(4, Rope(), Shaw()), "Shaw(", "encodings that rotate"),
        (lambda: near_far(4, Rope(), "far"), "'far'", "a value of Encoding"),  # type: ignore[arg-type]
        (lambda: Regrouped(Rope(), group=0), "group=0", "1 or more"),
        (lambda: Regrouped(Rope(), group=2, shift=-1), "shift=-1", "0 or more"),
        (lambda: Pinned(Rope(), distance=-1), "distance=-1", "0 or more"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_it_is_a_value():
    encoding = near_far(8, Rope(), Pinned(Rope(), 8))
    assert encoding == NearFar(8, Rope(), Pinned(Rope(), 8)) and encoding.scores_content
    assert AxialRope().coordinates == 2 and encoding.coordinates == 1


@pytest.mark.parametrize(
    "part",
    [
        posjax.Sinusoidal(),
        posjax.Learned(),
        posjax.Alibi(),
        posjax.AxialRope(),
        posjax.chain(posjax.PoSE(64), posjax.Rope()),
    ],
)
def test_parts_that_do_more_than_rotate_are_refused(part):
    with pytest.raises(posjax.InputError, match="do no more"):
        posjax.near_far(4, posjax.Rope(), part)


def test_what_the_parts_declare_holds_for_the_pair():
    pair = posjax.near_far(4, posjax.XPos(), posjax.Rope())
    assert pair.causal and pair.max_length == posjax.XPos().max_length
