"""A step over a cache is the definition over the same keys, whatever marks these have."""

import jax
import jax.numpy as jnp
import numpy as np

from posjax import Alibi, Causal, Chunked, Full, Segments, Window
from posjax.attention import attention, describe
from posjax.attention.over_cache import FEW, attention_over, folded, kept, unfolded
from tests.cases import first_of

B, S, N, K, H, U = 2, 20, 6, 3, 4, 5
KEYS = jax.random.split(jax.random.key(0), 3)
Q = jax.random.normal(KEYS[0], (B, S, N, H))
KEY = jax.random.normal(KEYS[1], (B, S, K, H))
VALUE = jax.random.normal(KEYS[2], (B, S, K, U))
DOCUMENTS = Causal() & Segments(jnp.array([[0] * 3 + [1] * 8 + [2] * 9, [1] * 20]))
MARKED = {
    "none": (KEY, VALUE),
    "keys": (KEY.at[0, 2].set(jnp.nan).at[1, 4, 1].set(-jnp.inf).at[0, 18].set(jnp.inf), VALUE),
    "values": (KEY, VALUE.at[0, 2].set(jnp.nan).at[1, 4, 1, 0].set(jnp.inf).at[0, 18].set(jnp.nan)),
}
MASKS = [Causal(), DOCUMENTS, Causal() & Window(4), Chunked(5), Full()]


@first_of("marks", MARKED, keep=1)
@first_of(("mask", "queries"), [(DOCUMENTS, 3), *((mask, 1) for mask in MASKS), (DOCUMENTS, FEW + 1)], keep=1)
def test_it_is_the_definition(mask, queries, marks):
    k, v = MARKED[marks]
    first = 2
    q = Q[:, :queries].at[1, 0, 2].set(jnp.inf)
    slopes = describe(Alibi("symmetric"), {}, N, None, None, (queries, S), first)
    for bias, more in ((slopes, {}), (None, {"softcap": 3.0, "sinks": jnp.arange(float(N))})):
        told = {"bias": bias, "mask": mask, "q_offset": first} | more
        wanted, _ = attention(q, k, v, backend="reference", **told)
        np.testing.assert_allclose(attention_over(q, kept(k, v), **told), wanted, atol=1e-6)


def test_keys_lie_in_lines_and_come_back():
    np.testing.assert_array_equal(unfolded(folded(KEY), B), KEY)
    assert folded(KEY).shape == (B * K, S, H)
    np.testing.assert_array_equal(folded(KEY)[K + 1], KEY[1, :, 1])
