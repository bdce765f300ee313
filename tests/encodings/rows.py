"""What tests of `near_far` and its parts share: rows of queries and keys, and their scores."""

import jax.numpy as jnp
import numpy as np

from posjax import Dims, Pairs

AT = np.array([0, 1, 2, 3, 7, 8, 15, 16, 17, 40])
WINDOW = 6


def scores(encoding, q, k, at=AT) -> np.ndarray:
    params = encoding.join(None, encoding.constants(Dims(q.shape[1], q.shape[2])))
    places, index = jnp.asarray(at, jnp.int32), jnp.arange(len(at))
    q, k = (encoding.rotate(params, jnp.asarray(x)[None], places, role)[0] for x, role in ((q, "query"), (k, "key")))
    return np.asarray(encoding.score(params, q, k, Pairs(places, places, index, index)))


def rows(heads: int, size: int) -> np.ndarray:
    return np.float32(np.random.default_rng(size).normal(size=(2, len(AT), heads, size)))
