"""Each device holds its part of a parameter, read in pieces of which no more is asked for than it holds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posjax.interop import placing
from posjax.interop.placing import place
from posjax.interop.rules import Part, Weight
from tests.interop.sources import Held, counted

N, H, D = 6, 4, 8
RULE = Weight("w", "(N H) D -> D N H")
SHAPE = (D, N, H)
THEIRS = counted(N * H, D).astype(ml_dtypes.bfloat16)
OURS = THEIRS.reshape(N, H, D).transpose(2, 0, 1)


def wanted(*spec, dtype=jnp.bfloat16):
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))
    return jax.ShapeDtypeStruct(SHAPE, dtype, sharding=NamedSharding(mesh, PartitionSpec(*spec)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("piece", [1, 100, 2**20])
@pytest.mark.parametrize("spec", [(None, "x", None), ("x", None, None), (None, None, "x"), ()])
def test_each_device_is_given_its_part_in_the_type_that_is_asked_for(monkeypatch, spec, piece, dtype):
    monkeypatch.setattr(placing, "PIECE", piece)
    source = Held(w=THEIRS)
    asked = wanted(*spec, dtype=dtype)
    placed = place(source, RULE, asked)
    assert placed.sharding == asked.sharding and placed.dtype == dtype
    np.testing.assert_array_equal(placed, OURS.astype(dtype))
    for shard in placed.addressable_shards:
        np.testing.assert_array_equal(shard.data, OURS[shard.index].astype(dtype))
    # Nothing is read twice, neither where devices share it nor between two pieces.
    if spec != (None, None, "x"):
        assert source.asked == THEIRS.size


def test_float32_is_rounded_as_numpy_and_jax_round_it():
    theirs = np.random.default_rng(0).standard_normal((N * H, D), np.float32)
    placed = place(Held(w=theirs), RULE, wanted())
    np.testing.assert_array_equal(placed, jnp.asarray(theirs.reshape(N, H, D).transpose(2, 0, 1)).astype(jnp.bfloat16))


@pytest.mark.parametrize("piece", [1, 40, 2**20])
def test_a_part_of_a_shared_tensor_is_placed(monkeypatch, piece):
    monkeypatch.setattr(placing, "PIECE", piece)
    rule = Weight("w", "(K part H) D -> D (K part) H", Part(0, 2, 4))
    theirs = counted(3 * 4 * H, D)
    ours = theirs.reshape(3, 4, H, D)[:, :2].reshape(N, H, D).transpose(2, 0, 1)
    np.testing.assert_array_equal(place(Held(w=theirs), rule, wanted("x", dtype=jnp.float32)), ours)


def test_without_a_sharding_the_first_device_has_it():
    placed = place(Held(w=counted(4)), Weight("w", "D -> D"), jax.ShapeDtypeStruct((4,), jnp.float32))
    assert placed.devices() == {jax.devices()[0]}


def test_what_is_donated_takes_nothing_from_another_device():
    placed = place(Held(w=THEIRS), RULE, wanted(dtype=jnp.float32))
    first, second = (shard.data for shard in placed.addressable_shards)
    jax.block_until_ready(jax.jit(lambda x: x * 0, donate_argnums=0)(first))
    np.testing.assert_array_equal(second, OURS.astype(np.float32))
