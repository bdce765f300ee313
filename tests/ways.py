"""What the laws of use have in common: the encodings and backends, and attention as a function of all its arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import attend
from posjax.encodings import Encoding
from tests.cases import BACKEND_NAMES, CORE, DIMS, ENCODINGS, FEW, INTERPRETED, each_case, in_turn, short, wide

ALL = tuple(dict.fromkeys([*FEW, *ENCODINGS]))


def every(few, all_of):
    return pytest.mark.parametrize("encoding", wide(dict.fromkeys([*few, *all_of]), few), ids=short)


FAST = [name for name in BACKEND_NAMES if name != "reference"]
each_backend = pytest.mark.parametrize("backend", wide([*BACKEND_NAMES, *INTERPRETED], FAST))


def ways() -> list[tuple[Encoding, str]]:
    """A few encodings with every backend, each sort of them with those that are not interpreted, the rest in turn."""
    found = [(encoding, name) for encoding in FEW for name in (*BACKEND_NAMES, *INTERPRETED)]
    for i, encoding in enumerate(ENCODINGS):
        some = BACKEND_NAMES if encoding in CORE else [BACKEND_NAMES[i % len(BACKEND_NAMES)]]
        found += [(encoding, name) for name in some]
    return list(dict.fromkeys(found))


def quick(case: tuple) -> bool:
    return case[0] in FEW and {"reference", *INTERPRETED}.isdisjoint(case)


LENGTHS = in_turn([(encoding,) for encoding in ALL], [5, 257], FEW)
each_way = each_case("encoding, backend", ways(), quick)
one_way = each_case("encoding, backend", ways(), lambda case: case == next(filter(quick, ways())))


def setting(encoding, T, S=None, dtype="float32"):
    """Queries, keys and values, what is learned, and attention as a function of all of them."""
    S = T if S is None else S
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (
        jax.random.normal(key, (2, n, heads, DIMS.head_size), dtype)
        for key, n, heads in zip(keys, (T, S, S), (6, 3, 3), strict=True)
    )
    trained = encoding.init(jax.random.key(0), DIMS)

    def run(trained, q, k, v, backend, **more):
        try:
            return attend(q, k, v, encoding=encoding, params=trained, backend=backend, **more)
        except NotImplementedError as why:
            if backend not in INTERPRETED:
                raise
            pytest.skip(str(why))

    return trained, (q, k, v), run


def pulled(run, trained, arrays, *, compiled=True, **more):
    """The output, and the gradients of the sum of its squares: compiled whole, or one operation after the other."""

    def loss(trained, q, k, v):
        out = run(trained, q, k, v, **more)
        return jnp.sum(jnp.square(out.astype(jnp.float32))), out

    gradient = jax.grad(loss, (0, 1, 2, 3), has_aux=True)
    if compiled:
        gradient = jax.jit(gradient)
    gradients, out = gradient(trained, *arrays)
    return out, gradients


def assert_close(got, wanted, tolerance=2e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0.0)))
