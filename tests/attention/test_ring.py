"""The ring: equal to the definition on any number of devices, linear in memory, and each device with its share."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from posjax import Causal, CoPE, Fire, Full, Rope, Segments, T5Bias, Window, attend
from posjax.attention import blocks, describe, reference, ring
from posjax.attention.jobs import job
from posjax.attention.ring import facing, plan as ring_plan, travel
from tests.attention.ring_program import CASES, DIMS, errors, mesh_of, value_and_gradients
from tests.attention.test_memory import shapes
from tests.cases import first_of, wide

ROOT = Path(__file__).resolve().parents[2]
MORE = {
    4: (
        "context=4:NoPE causal",
        "context=4:T5, a window both ways",
        "context=4:Fire",
        "context=4:each row its positions",
        "data=2,context=2:chain packed",
    ),
    8: (
        "context=8:T5",
        "context=8:Alibi, a window",
        "context=8:Kerple packed, contiguous",
        "fsdp=2,tensor=2,context=2:each head its bias",
        "data=2,other=2,context=2:a rule of a user's own",
        "tensor=4,context=2:T5 full",
    ),
}


@pytest.fixture
def two(monkeypatch):
    """A ring of two devices, and blocks small enough for several on each."""
    monkeypatch.setattr(blocks, "BLOCK", 8)
    return mesh_of(context=2)


@pytest.mark.parametrize("name", wide(CASES, list(CASES)[::8]))
def test_two_devices_equal_one(name, two, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", CASES[name].block)
    assert max(errors(CASES[name], two)) < 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("count", wide(MORE, [4]))
def test_more_devices_equal_one(count):
    flags = re.sub(r"device_count=\d+", f"device_count={count}", os.environ["XLA_FLAGS"])
    strict = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.attention.ring_program", *MORE[count]]
    done = subprocess.run(
        command,
        env={**os.environ, **strict, "XLA_FLAGS": flags},
        cwd=ROOT,
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [float(line.split()[0]) for line in done.stdout.splitlines()]
    assert len(found) == len(MORE[count]) and max(found) < 1, done.stdout


def forget_a_step(monkeypatch):
    plan_for = ring_plan.plan_for

    def shorter(*arguments):
        plan, spans = plan_for(*arguments)
        return replace(plan, steps=plan.steps - 1), spans

    monkeypatch.setattr(ring, "plan_for", shorter)


def forget_where_keys_come_from(monkeypatch):
    monkeypatch.setattr(facing.Onward, "allowed", lambda self, q_index, k_index: self.mask.allowed(q_index, k_index))


def forget_the_distance(monkeypatch):
    corner = facing.Facing._corner

    def nowhere(self, j):
        return corner(replace(self, place=self.place._replace(k_part=self.place.q_part)), j)

    monkeypatch.setattr(facing.Facing, "_corner", nowhere)


def leave_positions_behind(monkeypatch):
    monkeypatch.setattr(ring, "with_keys", lambda bias, k_positions: bias)
    lay, here = travel.lay, ring.bias_here

    def stay(plan, bias, heads):
        laid, k_positions = here(plan, bias, heads)
        return replace(laid, k_positions=lay(plan, bias.k_positions)), k_positions

    monkeypatch.setattr(ring, "bias_here", stay)


def forget_to_go_home(monkeypatch):
    send = travel.send
    monkeypatch.setattr(travel, "send", lambda plan, arrays, distance: send(plan, arrays, max(distance, 0)))


@first_of(
    ("fault", "name"),
    [
        (forget_a_step, "NoPE full"),
        (forget_where_keys_come_from, "NoPE causal"),
        (forget_the_distance, "T5 full"),
        (leave_positions_behind, "each row its positions"),
        (forget_to_go_home, "NoPE nearest"),
    ],
    keep=2,
)
def test_a_planted_fault_is_noticed(fault, name, two, monkeypatch):
    # One step of the ring, after which the gradients of keys and values are not where they belong.
    nearest = replace(CASES["NoPE causal"], mask=lambda: Window(1), constant=True)
    fault(monkeypatch)
    assert max(errors(CASES.get(name, nearest), two)) > 10


@pytest.mark.exhaustive
def test_bfloat16_in_and_out(two):
    case = CASES["Kerple packed, contiguous"]
    wide = value_and_gradients(case, reference.attention)
    with jax.set_mesh(two):
        narrow = value_and_gradients(case, ring.attention, "bfloat16")
    kinds = [jnp.bfloat16, jnp.float32, *[jnp.bfloat16] * 3]
    assert [x.dtype for x in narrow[:5]] == kinds and all(x.dtype == jnp.float32 for x in narrow[5:])
    same = value_and_gradients(case, reference.attention, "bfloat16")
    for got, other, exact in zip(narrow, same, wide, strict=True):
        scale = np.max(np.abs(np.asarray(exact, np.float32)))
        assert np.max(np.abs(np.asarray(got, np.float32) - np.asarray(other, np.float32))) < 0.02 * scale


@pytest.mark.exhaustive
def test_queries_and_keys_may_be_of_other_types(two):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 16, 2, 8))

    def loss(q, k, v):
        return jnp.sum(attend(q, k, v, encoding=Rope()).astype(jnp.float32) ** 2)

    gradient = jax.jit(jax.grad(loss, (0, 1, 2)))
    wanted = gradient(q.astype(jnp.bfloat16), k, v)
    with jax.set_mesh(two):
        found = gradient(q.astype(jnp.bfloat16), k, v)
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got.astype(jnp.float32), want.astype(jnp.float32), atol=2e-2)


@pytest.mark.exhaustive
def test_inside_a_checked_shard_map_another_backend_is_taken():
    x = jax.random.normal(jax.random.key(0), (2, 8, 2, 4))

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(attend(x, x, x) ** 2))(x)

    rows = PartitionSpec("data")
    # Of one part, so that two devices have a ring beside it.
    with jax.set_mesh(mesh_of(data=1, context=2)):
        inside = jax.shard_map(gradient, in_specs=rows, out_specs=rows, axis_names={"data"})
        np.testing.assert_allclose(jax.jit(inside)(x), gradient(x), atol=1e-5)


def test_the_same_bits_every_time(two):
    with jax.set_mesh(two):
        first, again = (value_and_gradients(CASES["chain packed"], ring.attention) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.exhaustive
def test_what_the_mask_rules_out_is_not_computed(two):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 96, 2, 4))
    poisoned = v.at[:, 48:].set(jnp.nan)  # Zero times NaN would show in every row of a block that is computed.
    with jax.set_mesh(two):
        out, _ = jax.jit(ring.attention)(q, k, poisoned, None, Causal())
        assert np.isfinite(out[:, :48]).all()
        early = v.at[:, :8].set(jnp.nan)
        out, _ = jax.jit(lambda *qkv: ring.attention(*qkv, None, Causal() & Window(9)))(q, k, early)
        assert np.isfinite(out[:, 16:]).all() and np.isnan(out[:, :16]).any()


@pytest.mark.exhaustive
def test_it_composes_with_vmap_and_remat(two):
    arrays = jax.random.normal(jax.random.key(0), (3, 2, 1, 16, 2, 4))

    def loss(backend):
        form = jax.vmap(jax.checkpoint(lambda *qkv: backend(*qkv, None, Causal())[0]))
        return jax.jit(jax.grad(lambda *qkv: jnp.sum(form(*qkv) ** 2), (0, 1, 2)))

    expected = loss(reference.attention)(*arrays)
    with jax.set_mesh(two):
        for a, b in zip(loss(ring.attention)(*arrays), expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.exhaustive
def test_it_runs_outside_jit_and_inside_a_shard_map_of_the_batch(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)
    x = jax.random.normal(jax.random.key(0), (2, 16, 2, 4))
    expected, _ = reference.attention(x, x, x, None, Causal())
    with jax.set_mesh(mesh_of(context=2)):
        np.testing.assert_allclose(ring.attention(x, x, x, None, Causal())[0], expected, atol=1e-5)
    rows = PartitionSpec("data")
    with jax.set_mesh(mesh_of(data=2, context=1)):
        inside = jax.shard_map(
            lambda x: ring.attention(x, x, x, None, Causal())[0],
            in_specs=rows,
            out_specs=rows,
            axis_names={"data"},
            check_vma=False,
        )
        np.testing.assert_allclose(jax.jit(inside)(x), expected, atol=1e-5)


# Each device has its share -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("devices", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("blocks", [1, 3])
def test_the_balanced_order_gives_each_device_the_same_work(devices, blocks):
    spans, places = ring_plan.spans_of(Causal(), 2 * devices, 8 * blocks, 8), ring_plan.places_of(devices, 2)
    assert sorted(places.ravel()) == list(range(2 * devices))
    whole = 2 * devices * blocks
    assert ring_plan.work_of(spans, places).sum() * devices == whole * (whole + 1) // 2, "the lower triangle, no more"


@pytest.mark.parametrize(
    ("mask", "parts", "steps"),
    [
        (Causal(), 2, 8),
        (Full(), 1, 8),
        (Causal() & Window(64), 1, 2),
        (Causal() & Window(65), 1, 2),
        (Window(2), 1, 8),
        (Causal() & Window(200), 1, 5),
        (Causal() & Segments(jnp.ones((1, 512), jnp.int32)), 2, 8),
    ],
    ids=str,
)
def test_the_order_and_the_number_of_steps_follow_the_mask(mask, parts, steps, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)
    mesh = jax.sharding.AbstractMesh((8,), ("context",), (jax.sharding.AxisType.Auto,))
    like = jax.ShapeDtypeStruct((1, 512, 2, 4), jnp.float32)
    with jax.sharding.use_abstract_mesh(mesh):
        plan, _ = ring_plan.plan_for(like, like, mask)
    assert (plan.parts, plan.steps) == (parts, steps)


def trained(encoding, S, mesh):
    """A pass forward and backward, and the arguments it takes, split over the context."""
    at = None if isinstance(encoding, T5Bias) else jnp.arange(S, dtype=jnp.int32)

    def loss(params, *qkv):
        joined = encoding.join(params, encoding.constants(DIMS))
        bias = describe(encoding, joined, DIMS.heads, at, at, (S, S), 0)
        return ring.attention(*qkv, bias, Causal())[0].sum()

    split = NamedSharding(mesh, PartitionSpec(None, "context"))
    like = jax.ShapeDtypeStruct((1, S, DIMS.heads, DIMS.head_size), jnp.float32, sharding=split)
    return jax.grad(loss, (0, 1, 2, 3)), (jax.eval_shape(lambda: encoding.init(jax.random.key(0), DIMS)), *[like] * 3)


@pytest.mark.parametrize("encoding", [T5Bias(), Fire()], ids=str)
def test_no_intermediate_has_two_axes_as_long_as_a_part(encoding):
    mesh, S = mesh_of(context=2), 4096
    with jax.set_mesh(mesh):
        function, arguments = trained(encoding, S, mesh)
        found = list(shapes(jax.make_jaxpr(function)(*arguments).jaxpr))
    assert [shape for shape in found if sum(size >= S // 4 for size in shape) >= 2] == []
    assert [shape for shape in found if sum(size >= blocks.BLOCK for size in shape) >= 2], "blocks were looked at"


@pytest.mark.exhaustive
def test_memory_of_a_device_grows_linearly_and_nothing_is_gathered():
    mesh = mesh_of(context=2)

    def compiled(S):
        function, arguments = trained(T5Bias(), S, mesh)
        return jax.jit(function).lower(*arguments).compile()

    with jax.set_mesh(mesh):
        small, large = compiled(4096), compiled(16384)
    sizes = [one.memory_analysis().temp_size_in_bytes for one in (small, large)]
    assert math.log(sizes[1] / sizes[0], 4) < 1.2
    assert "all-gather" not in large.as_text() and "collective-permute" in large.as_text()


# What it refuses -----------------------------------------------------------------------------------------------------
def refused(q, k, bias=None, q_offset=0, **axes):
    with jax.set_mesh(mesh_of(**(axes or {"context": 2}))):
        return ring.refuse(job(q, k, bias, Causal(), q_offset)) or ""


def test_what_it_cannot_do_is_refused_with_the_reason():
    x, one = jnp.ones((1, 8, 2, 4)), jnp.ones((1, 1, 2, 4))
    assert not refused(x, x) and not refused(x, x, context=1) and not refused(x, x, data=2, context=1)
    assert "7 tokens do not divide among the 2 devices" in refused(x[:, :7], x[:, :7])
    assert "1 queries, 8 keys and a q_offset that is 7" in refused(one, x, q_offset=7)
    assert "a q_offset that is 3" in refused(x, x, q_offset=3)
    assert "a q_offset that is known at run time only" in refused(x, x, q_offset=jnp.int32(0))
    assert "found the axes ('data',): run under jax.set_mesh" in refused(x, x, data=2)
    assert "found the axes ()" in (ring.refuse(job(x, x, None, Causal(), 0)) or "")
    cope = CoPE()
    params = cope.join(cope.init(jax.random.key(0), DIMS), cope.constants(DIMS))
    assert "scores content" in refused(x, x, describe(cope, params, 2, None, None, (8, 8), 0))


def test_a_mesh_of_another_kind_is_refused():
    x, spec, why = jnp.ones((1, 8, 2, 4)), PartitionSpec(None, "context"), []

    def inside(x):
        why.append(ring.refuse(job(x, x, None, Causal(), 0)))
        return x

    with jax.set_mesh(mesh_of(context=2)):
        jax.shard_map(inside, in_specs=spec, out_specs=spec)(x)
    with jax.set_mesh(jax.make_mesh((2,), ("context",), (jax.sharding.AxisType.Explicit,))):
        inside(x)
    assert "already inside a shard_map" in why[0] and "Explicit axes" in why[1]
