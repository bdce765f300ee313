"""What `attend` is given is held to its tokens: small arrays, masks, ids and encodings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import Causal, Full, Global, InputError, Rope, Segments, Window, attend
from tests.cases import INTERPRETED, wide
from tests.ways import assert_close, each_backend

X = jnp.ones((2, 5, 2, 8))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"q_positions": jnp.arange(4)}, r"q_positions have shape \(4,\) for 2 rows of 5 tokens"),
        ({"k_positions": jnp.arange(1)}, r"k_positions have shape \(1,\)"),
        ({"q_positions": jnp.zeros((3, 5), jnp.int32)}, r"\[5\] or \[2, 5\]"),
        ({"q_positions": np.full(5, 2**31)}, "positions of int32"),
        ({"mask": None}, "mask is None"),
        ({"mask": jnp.ones((5, 5))}, "mask is float32"),
        ({"mask": jnp.ones((4, 5), bool)}, r"\[5, 5\] or \[2, 5, 5\]"),
        ({"mask": Causal() & Segments(jnp.ones((2, 3), jnp.int32))}, r"Segments got ids of shape \(2, 3\)"),
        ({"mask": Causal() & Segments(jnp.ones((2, 5)))}, "type float32"),
        ({"mask": Causal() & Segments(jnp.ones((3, 5), jnp.int32))}, "B of 2 or 1"),
        ({"encoding": Rope}, r"a value, such as Rope\(\)"),
        ({"encoding": None}, "encoding is None"),
    ],
)
def test_small_arrays_are_held_to_the_tokens(arguments, said):
    with pytest.raises(posjax.InputError, match=said):
        attend(X, X, X, **{"encoding": Rope(), **arguments})


def test_whole_numbers_and_queries_without_a_place_are_refused():
    with pytest.raises(posjax.InputError, match="q is int32"):
        attend(X.astype(int), X, X)
    with pytest.raises(posjax.InputError, match="q_positions and k_positions"):
        attend(X, X[:, :3], X[:, :3], encoding=Rope(), mask=Full())
    with pytest.raises(posjax.InputError, match="Window got size=0"):
        Window(np.int32(0))


class Unregistered(posjax.Mask):
    """A mask of one's own that JAX does not know."""


def test_a_mask_that_is_no_pytree_says_so():
    with pytest.raises(posjax.InputError, match="register_dataclass"):
        attend(X, X, X, mask=Unregistered())


@each_backend
@pytest.mark.parametrize("length", wide([5, 256, 257], [5]))
def test_boolean_arrays_are_masks_and_ids_may_be_boolean(backend, length):
    x = jax.random.normal(jax.random.key(0), (2, length, 2, 8))
    below = jnp.tril(jnp.ones((length, length), bool))
    if backend not in INTERPRETED:
        assert_close(attend(x, x, x, mask=below, backend=backend), attend(x, x, x))
    real = np.arange(length)[None] >= np.array([[0], [3]])
    for ids in (real, jnp.asarray(real), real.astype(np.int64)):
        assert_close(
            attend(x, x, x, mask=Causal() & Segments(ids), backend=backend),
            attend(x, x, x, mask=Causal() & (real[:, None] & real[:, :, None]), backend="reference"),
        )


@pytest.mark.exhaustive
@each_backend
def test_queries_and_keys_of_other_sequences_have_ids_of_their_own(backend):
    q, k = jax.random.normal(jax.random.key(0), (1, 6, 2, 8)), jax.random.normal(jax.random.key(1), (1, 9, 2, 8))
    for first, second in ((q, k), (k, q)):
        T, S = first.shape[1], second.shape[1]
        q_ids, k_ids = jnp.arange(T)[None] // 3 + 1, jnp.arange(S)[None] // 3 + 1
        got = attend(first, second, second, mask=Segments(q_ids, k_ids), backend=backend)
        dense = q_ids[:, :, None] == k_ids[:, None, :]
        assert_close(got, attend(first, second, second, mask=dense, backend="reference"))


def test_numbers_of_64_bits_that_are_known_late_do_not_wrap():
    x = jnp.ones((1, 5, 2, 8))
    with jax.enable_x64(True):
        for rule in (Window, posjax.Chunked, posjax.First):
            run = jax.jit(lambda size, rule=rule: attend(x, x, x, mask=Causal() & rule(size)))
            np.testing.assert_array_equal(run(2**32 + 1), attend(x, x, x))
        ids = jnp.arange(5)[None] + 1
        assert ids.dtype == jnp.int64
        with pytest.raises(posjax.InputError, match=r"queries of int64.*astype\(jnp.int32\)"):
            jax.jit(lambda ids: attend(x, x, x, mask=Causal() & Segments(ids)))(ids)
        assert_close(attend(x, x, x, mask=Causal() & Segments(ids)), x)


def test_an_array_means_the_same_where_it_is_known_and_where_it_is_not():
    """Of more queries than keys: what the array holds says nothing of where the first query stands."""
    pairs = np.zeros((5, 3), bool)
    pairs[3:, 0] = True
    pairs[4, 1] = True
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 5, 2, 4))

    def run(pairs):
        return attend(q, k[:, :3], v[:, :3], mask=Window(2) & pairs, backend="reference")

    np.testing.assert_array_equal(run(pairs), jax.jit(run)(pairs))

    def rotated(pairs):
        return attend(q, k[:, :3], v[:, :3], encoding=Rope(), mask=pairs)

    for either in (rotated, jax.jit(rotated)):
        with pytest.raises(InputError, match="another sequence"):
            either(pairs)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mask": Segments([[1, 2], [1]])}, "Segments got queries"),
        ({"mask": Causal() & Global([[True], [True, False]])}, "Global got tokens"),
        ({"backend": ["chunked"]}, "is unknown: needed is 'auto'"),
    ],
)
def test_lists_that_are_no_array_and_no_name_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        attend(*jnp.ones((3, 1, 5, 2, 4)), **wrong)
