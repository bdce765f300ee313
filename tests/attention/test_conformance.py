"""Backends made for other machines, here by their stand-ins: every encoding they accept, outputs and all gradients."""

import itertools
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import Causal, Full, Segments, Window
from posjax.attention import BACKENDS, Backend, cudnn, splash
from posjax.encodings import Encoding
from tests.cases import CHAINS, DIMS, ENCODINGS, FEW, in_turn, params_of, short

pytestmark = pytest.mark.exhaustive

T = 128
SEGMENTS = jnp.array([[1] * 60 + [2] * 60 + [0] * 8, [3] * 128], jnp.int32)


@pytest.fixture(autouse=True)
def anywhere(monkeypatch):
    """Splash interpreted, what is asked of cuDNN computed by XLA, and a mesh for the ring."""

    def interpreted(*call):
        return splash.call(*call, interpret=True), None

    def by_xla(q, k, v, bias, mask, q_offset, scoring):
        return cudnn.call(q, k, v, bias, mask, "xla", scoring), None

    here = {
        "splash": Backend(interpreted, lambda job: splash.refuse(replace(job, platform="tpu"))),
        "cudnn": Backend(by_xla, lambda job: cudnn.refuse(replace(job, platform="gpu", dtype="bfloat16"))),
    }
    for name, backend in here.items():
        monkeypatch.setitem(BACKENDS, name, backend)
    with jax.set_mesh(jax.make_mesh((2,), ("context",), (jax.sharding.AxisType.Auto,))):
        yield


def both(encoding: Encoding, backend: str, mask: posjax.Mask, at: jax.Array | None):
    """Output and gradients by a backend."""
    leaves, structure = jax.tree.flatten(params_of(encoding))
    trained = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, c = (jax.random.normal(key, (2, T, n, DIMS.head_size)) for key, n in zip(keys, (6, 3, 3, 6), strict=True))

    @jax.jit
    def run(*arguments):
        def out(q, k, v, *some):
            own = dict(zip(trained, some, strict=True))
            params = structure.unflatten([own.get(i, leaf) for i, leaf in enumerate(leaves)])
            return posjax.attend(
                q, k, v, q_positions=at, k_positions=at, encoding=encoding, params=params, mask=mask, backend=backend
            )

        out, pull = jax.vjp(out, *arguments)
        return out, pull(c)

    return run(q, k, v, *(jnp.asarray(leaves[i]) for i in trained))


def given(encoding: Encoding, case: str) -> tuple[posjax.Mask, jax.Array | None]:
    """The mask and the positions of a case."""
    if case == "packed":
        return Causal() & Segments(SEGMENTS), posjax.positions.packed(SEGMENTS)
    if case == "window":
        return Causal() & Window(40), None
    return Causal() if encoding.causal else Full(), None


@lru_cache(maxsize=8)
def by_reference(encoding: Encoding, case: str):
    return both(encoding, "reference", *given(encoding, case))


@pytest.mark.parametrize(
    "encoding, backend, case",
    in_turn(itertools.product(ENCODINGS, ["ring", "splash", "cudnn"]), ["whole", "packed", "window"], [*FEW, *CHAINS]),
    ids=short,
)
def test_it_equals_the_reference(encoding, backend, case):
    if encoding.max_length is not None and encoding.max_length < T:
        return
    try:
        got = both(encoding, backend, *given(encoding, case))
    except NotImplementedError as why:
        pytest.skip(str(why))
    wanted = by_reference(encoding, case)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-5 * max(1.0, float(jnp.abs(b).max())))
