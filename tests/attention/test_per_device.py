"""Kernels that the compiler cannot split, on two devices: each on its own rows or heads, and nothing changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import Causal, Dims, Fire, NoPE, Segments, T5Bias, Window
from posjax.attention import describe, fused, reference, splash
from posjax.attention.per_device import per_device
from tests.cases import first_of, wide

SEGMENTS = jnp.array([[1] * 60 + [2] * 68, [0] * 3 + [5] * 125], jnp.int32)
N, K, H, T = 4, 2, 16, 128


def splash_here(*call):
    return splash.call(*call, interpret=True), None


def trained(way, encoding, mask, at):
    dims = Dims(N, H)
    constants = encoding.constants(dims)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, c = (jax.random.normal(key, (2, T, n, H)) for key, n in zip(keys, (N, K, K, N), strict=True))

    @jax.jit
    def run(params, q, k, v):
        def loss(params, q, k, v):
            bias = describe(encoding, encoding.join(params, constants), N, at, at, (T, T), 0)
            return jnp.vdot(way(q, k, v, bias, mask, 0)[0], c)

        return jax.value_and_grad(loss, (0, 1, 2, 3))(params, q, k, v)

    return run, (encoding.init(jax.random.key(3), dims), q, k, v)


@pytest.mark.exhaustive
@pytest.mark.parametrize("axis", wide(["data", "tensor", "pipeline"], ["tensor"]))
@first_of(
    ("kernel", "encoding", "mask", "at"),
    [
        (fused.attention, T5Bias(), Causal() & Segments(SEGMENTS), None),
        (fused.attention, Fire(hidden=4), Causal() & Window(50), jnp.stack([jnp.arange(T), 2 * jnp.arange(T)])),
        (splash_here, NoPE(), Causal() & Window(50) & Segments(SEGMENTS), None),
        (splash_here, posjax.Alibi(learned=True), Causal(), None),
    ],
    ids=["fused by distance", "fused by position", "splash", "splash with channels"],
    keep=1,
)
def test_two_devices_compute_what_one_does(kernel, encoding, mask, at, axis):
    run, arguments = trained(reference.attention, encoding, mask, at)
    wanted = run(*arguments)
    run, _ = trained(per_device(kernel), encoding, mask, at)
    mesh = jax.make_mesh((2,), (axis,), (jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        text = str(jax.make_jaxpr(run)(*arguments))
        got = run(*arguments)
    split = {"data": f"[1,{T},{N},{H}]", "tensor": f"[2,{T},{N // 2},{H}]"}.get(axis)
    assert "shard_map" in text and (split is None or split in text)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, float(jnp.abs(b).max())))


def test_without_a_mesh_it_is_left_as_it_is():
    run, arguments = trained(per_device(fused.attention), T5Bias(), Causal(), None)
    assert "shard_map" not in str(jax.make_jaxpr(run)(*arguments))
