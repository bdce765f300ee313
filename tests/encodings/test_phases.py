"""The integer arithmetic that exact phases rest on."""

import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings import phases


def test_the_upper_word_of_a_product_is_exact():
    rng = np.random.default_rng(0)
    edges = [0, 1, 0xFFFF, 0x10000, 0x10001, 0x7FFFFFFF, 0x80000000, 0xFFFF0000, 0xFFFFFFFF]
    a, b = (np.array(x, np.uint32) for x in zip(*[(i, j) for i in edges for j in edges], strict=True))
    a, b = (np.concatenate([x, rng.integers(0, 2**32, 2000, dtype=np.uint32)]) for x in (a, b))
    expected = [int(i) * int(j) >> 32 for i, j in zip(a, b, strict=True)]
    np.testing.assert_array_equal(jax.jit(phases._high_word)(jnp.asarray(a), jnp.asarray(b)), expected)


def test_words_are_two_rows_of_unsigned_integers():
    turns = phases.fixed_point_turns(np.array([0.0, 1.0, 2 * np.pi]))
    assert turns.shape == (2, 3) and turns.dtype == np.uint32
    assert turns[:, 0].tolist() == [0, 0]
    cos, sin = phases.cos_sin(jnp.arange(5), jnp.asarray(turns))
    assert cos.shape == sin.shape == (5, 3) and cos.dtype == sin.dtype == jnp.float32
    np.testing.assert_allclose(cos[:, [0, 2]], 1.0, atol=1e-6)
