"""Hooks on a mesh of Explicit axes: what they return lies as what they were given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from posjax import Learned, NoPE, PoSE, Randomized, Rope, by_head, chain
from posjax.encodings.traits import defines, embeds
from posjax.mesh import explicit_axes
from tests.cases import DIMS, ENCODINGS, params_of, short, wide

B, T = 2, 6
AT = np.arange(B * T, dtype=np.int32).reshape(B, T)
MORE = (Learned(32), by_head(Rope(), NoPE()), by_head(Rope(), NoPE(), Rope(base=100.0)))
ROTATING = [e.at_length(T) for e in (*MORE, *ENCODINGS) if defines(e, "rotate") and e.coordinates == 1]
EMBEDDING = [e for e in (*MORE, *ENCODINGS) if embeds(e) and e.coordinates == 1]
MOVING = (Randomized(64), PoSE(64), chain(Randomized(64), Rope()))


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def lies_alike(function, *arrays: np.ndarray, over: PartitionSpec, axis: str):
    """The function on arrays that are split gives what it gives of whole ones, split as the first of them."""
    whole = jax.jit(function)(*arrays)
    mesh = jax.make_mesh((2,), (axis,), (AxisType.Explicit,))
    with jax.set_mesh(mesh):
        assert explicit_axes() == {axis}
        spread = [jax.device_put(x, NamedSharding(mesh, PartitionSpec(*over[: x.ndim]))) for x in arrays]
        for run in (function, jax.jit(function)):
            split = run(*spread)
            assert jax.typeof(split).sharding.spec[: len(over)] == tuple(over)
            np.testing.assert_allclose(split, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("encoding", wide(ROTATING, MORE), ids=short)
def test_heads_that_are_split_are_turned_where_they_lie(encoding):
    params = params_of(encoding)

    def turned(x):
        return encoding.rotate(params, x, jnp.asarray(AT), "query")

    lies_alike(turned, drawn(B, T, DIMS.heads, DIMS.head_size), over=PartitionSpec(None, None, "tensor"), axis="tensor")


@pytest.mark.parametrize("encoding", wide(EMBEDDING, MORE), ids=short)
def test_rows_that_are_split_are_embedded_where_they_lie(encoding):
    params = params_of(encoding)

    def embedded(x, at):
        return encoding.embed(params, x, at)

    lies_alike(embedded, drawn(B, T, DIMS.model_size), AT, over=PartitionSpec("data"), axis="data")


@pytest.mark.parametrize("encoding", wide(MOVING, MOVING[:1]), ids=short)
def test_rows_that_are_split_are_moved_where_they_lie(encoding):
    params = params_of(encoding)

    def moved(at):
        return encoding.move(params, at, jax.random.key(3))

    lies_alike(moved, AT, over=PartitionSpec("data"), axis="data")
