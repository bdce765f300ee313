"""Steps rehearsed for simulated devices; for a TPU's where libtpu is installed."""

import importlib.util
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from posjax import rehearsal
from posjax.attention import explain
from posjax.errors import InputError
from posjax.mesh import AXES
from posjax.models import Compute
from posjax.rehearsal import CHIPS, DeviceMemory, Work, topology
from posjax.rehearsal.operations import operations
from posjax.rehearsal.rehearse import attending, bytes_of, visited
from posjax.training import Devices, SeqToSeq
from tests.small import small
from tests.training.tiny import optax_promotes, patch_optax, train  # noqa: F401

MODEL = small(layers=4)
TPU = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu, of the extra tpu, is not installed"
)


def plan(**changes):
    return train(**{"devices": Devices(fsdp=2), "length": 16} | changes)


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch_optax(patch)
        return rehearsal.rehearse(plan(), MODEL, 64, jax.devices())


def test_a_device_holds_its_share(found):
    assert found.memory.parameters == found.size * 4 / 2
    # Both moments of Adam, and its count of steps.
    assert found.memory.optimizer == pytest.approx(2 * found.memory.parameters, abs=8)
    assert found.memory.total > found.memory.parameters * 3


@pytest.mark.exhaustive
def test_its_numbers_are_those_of_the_compiler_where_nothing_loops():
    trainer = plan().trainer(MODEL, 64)
    rows = jax.ShapeDtypeStruct((4, 16), "int32", sharding=None)
    batch = {"inputs": rows, "targets": rows, "weights": jax.ShapeDtypeStruct((4, 16), "float32")}
    with jax.set_mesh(trainer.mesh):
        compiled = trainer.jitted(0).lower(trainer.abstract(), batch).compile()
    told = compiled.cost_analysis()
    text = rehearsal.rehearse(plan(), MODEL, 64, jax.devices())
    assert text.work.moved == pytest.approx(told["bytes accessed"], rel=0.1)


@pytest.mark.exhaustive
def test_a_loop_over_layers_is_counted_as_its_layers(found):
    looped = rehearsal.rehearse(plan(compute=Compute(scan=True)), MODEL, 64, jax.devices())
    assert looped.work.flops == found.work.flops
    sent, unrolled = (sum(one.size for one in each.work.collectives) for each in (looped, found))
    # The loop gathers a few small arrays once more.
    assert sent == pytest.approx(unrolled, rel=0.35)


def test_products_are_counted_by_hand():
    x = jnp.ones((3, 4), jnp.float32)
    y = jnp.ones((4, 5), jnp.float32)

    def of(function, *arguments):
        return operations(jax.make_jaxpr(function)(*arguments))

    assert of(jnp.dot, x, y).products == 2 * 3 * 4 * 5
    branches = (lambda x: x @ y, lambda x: jnp.zeros((3, 5), jnp.float32))
    assert of(lambda n, x: jax.lax.switch(n, branches, x), 0, x).products == 2 * 3 * 4 * 5

    def until(n, x):
        return jax.lax.fori_loop(0, n, lambda _, z: z + (x @ y) @ y.T, x)

    assert of(until, 3, x).open == 2 * 2 * 3 * 4 * 5 and of(until, 3, x).products == 0


@pytest.mark.exhaustive
def test_attention_in_loops_of_unknown_length_is_counted_by_formula():
    ring = rehearsal.rehearse(plan(devices=Devices(context=2)), MODEL, 64, jax.devices())
    assert ring.backend == "ring"
    # Products: a pair takes 4 operations forward and 10 backward, of 4 layers, 16 channels and 4 rows.
    pairs = 16 * 17 / 2
    assert ring.work.in_attention == 14 * 4 * 16 * 4 * pairs / 2
    assert any("known at run time only" in line for line in rehearsal.lines(ring, plan()))


def test_recomputing_attends_once_more():
    again = plan(compute=Compute(remat="all"))
    assert attending(again, MODEL, 1.0) / attending(plan(), MODEL, 1.0) == 18 / 14


def test_a_window_is_visited_alone():
    from posjax.attention import Causal, Full, Window

    q = jax.ShapeDtypeStruct((1, 8, 2, 16), "float32")
    allowed = sum(min(i + 1, 3) for i in range(8))
    assert visited(explain(q, mask=Causal() & Window(3)).job) == allowed / 64
    assert visited(explain(q, mask=Full()).job) == 1.0


def test_backends_are_those_of_the_mesh_and_not_of_this_host():
    device = AbstractDevice(device_kind="TPU v5 lite", num_cores=1, platform="tpu")
    mesh = AbstractMesh((1,) * 4, AXES, (AxisType.Auto,) * 4, abstract_device=device)
    q = jax.ShapeDtypeStruct((1, 128, 2, 64), "bfloat16")
    with jax.sharding.use_abstract_mesh(mesh):
        assert explain(q).backend == "splash"
    assert explain(q).backend == "chunked"


def test_lines_fit_a_terminal(found):
    told = rehearsal.lines(found, plan())
    assert max(map(len, told)) <= 80
    assert "What this device can do at best is not known: no times." in told
    # As if it were a chip of the table, with time for everything.
    known = replace(found, chip=CHIPS[0])
    told = rehearsal.lines(known, plan())
    assert max(map(len, told)) <= 80
    (binding,) = [line for line in told if line.startswith("Bound by ")]
    assert binding.split()[2].strip(":") == max(known.times(), key=known.times().get)


def test_what_does_not_fit_is_told_with_what_to_change(found):
    full = DeviceMemory(1e9, 2e9, 1e6, refused=40e9)
    refused = replace(found, chip=CHIPS[0], memory=full, work=None, mesh={**found.mesh, "data": 8, "fsdp": 2})
    assert refused.fits is False
    big = plan(batch=64)
    told = " ".join(rehearsal.lines(refused, big))
    for remedy in ("--train.devices.fsdp 16", "--train.compute.remat all", "--train.accumulate 2"):
        assert remedy in told
    assert max(map(len, rehearsal.lines(refused, big))) <= 80
    assert rehearsal.advice(replace(found, chip=CHIPS[1]), big) == []


def test_the_slowest_part_binds(found):
    chip = CHIPS[0]
    work = Work(flops=chip.flops, in_attention=0.0, moved=2 * chip.bandwidth)
    assert replace(found, chip=chip, work=work).times() == {"compute": 1.0, "memory": 2.0, "links": 0.0}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"devices": Devices(data=1)}, "takes 1 devices and the topology has 2"),
        ({"devices": Devices(fsdp=4)}, "2 are there"),
        ({"batch": 3}, "does not divide among 2"),
        ({"objective": SeqToSeq()}, "SeqToSeq"),
        ({"compute": Compute(backend="splash")}, "runs on TPUs"),
    ],
)
def test_what_cannot_be_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        rehearsal.rehearse(plan(**changes), MODEL, 64, jax.devices())


def test_nothing_is_allocated():
    before = {id(array) for array in jax.live_arrays()}
    huge = small(layers=8, width=65536, heads=256, feed_forward=65536)
    trainer = plan(compute=Compute(scan=True)).trainer(huge, 256000)
    assert bytes_of(trainer.abstract()) > 2**40
    assert {id(array) for array in jax.live_arrays()} <= before


def test_a_host_without_libtpu_says_what_to_install(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'posjax\[tpu\]'"):
        rehearsal.devices("v5e:4x4")


def test_simulated_devices_are_made_before_jax_starts():
    with pytest.raises(InputError, match=r"has started already|are there: unset XLA_FLAGS"):
        rehearsal.devices("cpu:64")


@TPU
@pytest.mark.parametrize("name", ["v5e:3x3", "nothing:2x2"])
def test_an_unknown_topology_is_refused(name):
    with pytest.raises(InputError, match=f"no topology '{name}'"):
        rehearsal.devices(name)


@TPU
def test_every_chip_of_the_table_is_one():
    names = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
    for chip in CHIPS:
        assert rehearsal.devices(names[chip.name])[0].device_kind == chip.kind


@TPU
@pytest.mark.exhaustive
def test_a_step_compiles_for_a_tpu_with_its_kernels():
    model = small(layers=2, width=256, heads=2, feed_forward=256)
    big = plan(length=256, devices=Devices(fsdp=4), compute=Compute("bfloat16", remat="all", scan=True))
    found = rehearsal.rehearse(big, model, 512, rehearsal.devices("v5e:2x2"))
    assert found.backend == "splash" and found.fits
    assert found.work.in_attention > 0 and {one.kind for one in found.work.collectives} >= {"all-gather"}
    assert set(found.times()) == {"compute", "memory", "links"}


@pytest.mark.exhaustive
def test_packed_rows_are_compiled_with_their_segments(found):
    packed = rehearsal.rehearse(plan(), MODEL, 64, jax.devices(), packed=True)
    # Positions and segments beside inputs, targets and weights: two more of four bytes each.
    assert packed.memory.batch == found.memory.batch * 5 / 3
