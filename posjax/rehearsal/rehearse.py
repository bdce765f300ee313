"""A training step compiled for devices that are not there, and what it would need of each of them."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from posjax.attention import Job
from posjax.errors import InputError
from posjax.models import Architecture, explain
from posjax.rehearsal.chips import Chip, chip_of
from posjax.rehearsal.operations import Operations, operations
from posjax.rehearsal.program_text import CompiledText, read
from posjax.rehearsal.traffic import Collective, collectives, memory_bytes
from posjax.training import CausalLM, MaskedLM, Train
from posjax.training.mesh import Places, sharding_of
from posjax.training.speed import channels

FULL = re.compile(r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm")
"""How the compiler says that a program does not fit."""
UNITS = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30}


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device. `temporaries` are gradients, activations and all else between the step's begin and end;
    `None` where the step was not compiled to its end, since it takes `refused` bytes, more than there are."""

    parameters: float
    optimizer: float
    batch: float
    temporaries: float | None = None
    program: float = 0.0
    refused: float | None = None

    @property
    def total(self) -> float:
        if self.refused is not None:
            return self.refused
        return self.parameters + self.optimizer + self.batch + (self.temporaries or 0.0) + self.program


@dataclass(frozen=True)
class Work:
    """What a step does on one device: floating-point operations of its products, those of them in attention's kernels
    and loops, bytes of the main memory, and collectives. `rounds`: how many rounds attention's loops have on average,
    where that is known at run time only, by the formula of its operations; 1 where there are none."""

    flops: float
    in_attention: float
    moved: float
    collectives: tuple[Collective, ...] = ()
    rounds: float = 1.0

    @property
    def over_links(self) -> float:
        return sum(one.over_links for one in self.collectives)


@dataclass(frozen=True)
class Rehearsal:
    """What was found of one step. `work` is `None` where it does not fit; `chip` for one that is not in the table."""

    mesh: Mapping[str, int]
    kind: str
    backend: str
    why: str
    size: int
    tokens: int
    memory: DeviceMemory
    seconds: float
    chip: Chip | None = None
    work: Work | None = None

    @property
    def fits(self) -> bool | None:
        """Whether the chip has the memory; `None` for one whose memory is not known."""
        if self.chip is None:
            return None
        return self.memory.refused is None and self.memory.total <= self.chip.memory

    def times(self) -> dict[str, float]:
        """The seconds that each part of the chip would need at its best, as if it alone were busy."""
        if self.chip is None or self.work is None:
            return {}
        return {
            "compute": self.work.flops / self.chip.flops,
            "memory": self.work.moved / self.chip.bandwidth,
            "links": sum(one.over_links / one.ways for one in self.work.collectives) / self.chip.link,
        }


def rehearse(train: Train, model: Architecture, vocabulary: int, devices: list[Any], packed: bool = False) -> Rehearsal:
    """Compiles a step of that training for devices that need not be there; nothing is allocated and nothing is run.

    `packed`: whether a row of a batch holds several texts, which do not see each other.

    Errors: `InputError` for a mesh that does not take all of the devices, sizes that do not divide among them, a named
    backend that cannot do it, and an objective that needs more than the tokens of a text.
    """
    if not isinstance(train.objective, CausalLM | MaskedLM):
        raise InputError(
            f"a batch for {type(train.objective).__name__} holds more than the tokens of a text: rehearsed are steps "
            "of CausalLM and MaskedLM"
        )
    trainer = train.trainer(model, vocabulary, Places(train.mesh(devices), train.devices.table))
    mesh = trainer.mesh
    if mesh.size != len(devices):
        raise InputError(
            f"the mesh takes {mesh.size} devices and the topology has {len(devices)}: set train.devices.data, fsdp, "
            f"tensor and context to a product of {len(devices)}, or name a smaller topology"
        )
    state = trainer.abstract()
    batch = _batch(train, mesh, packed)
    began = time.perf_counter()
    # What attention takes is chosen by the platform of the mesh.
    with jax.set_mesh(mesh):
        try:
            choice = explain(model, train.length, train.compute)
        except NotImplementedError as why:
            raise InputError(str(why)) from why
        traced = trainer.jitted(0).trace(state, batch)
        # Before it is compiled: afterwards kernels are opaque, and products are convolutions.
        counted = operations(traced.jaxpr)
        memory, program = _compiled(traced.lower(), _held(state, batch))
    work = None
    if program is not None:
        work = _work(program, counted, attending(train, model, visited(choice.job)), visited(choice.job))
    device = devices[0]
    return Rehearsal(
        mesh=dict(mesh.shape),
        kind=device.device_kind,
        backend=choice.backend,
        why=str(choice),
        size=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        tokens=train.batch * train.length,
        memory=memory,
        seconds=time.perf_counter() - began,
        chip=chip_of(device.device_kind),
        work=work,
    )


def _batch(train: Train, mesh: Any, packed: bool) -> dict[str, jax.ShapeDtypeStruct]:
    shape = (train.batch, train.length)
    types = {"inputs": "int32", "targets": "int32", "weights": "float32"}
    if packed:
        types |= {"positions": "int32", "segments": "int32"}
    batch = {}
    for name, dtype in types.items():
        batch[name] = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding_of(name, shape, mesh))
    return batch


def _held(state: Any, batch: Any) -> DeviceMemory:
    """What a device holds all the time, from shapes."""
    return DeviceMemory(bytes_of(state.params), bytes_of(state.optimizer), bytes_of(batch))


def bytes_of(tree: Any) -> float:
    """The bytes that one device holds of a tree of abstract arrays with their places."""
    total = 0.0
    for leaf in jax.tree.leaves(tree):
        # What does not divide is whole on each, as its place says.
        own = leaf.sharding.shard_shape(leaf.shape)
        total += math.prod(own) * leaf.dtype.itemsize
    return total


def _compiled(lowered: Any, held: DeviceMemory) -> tuple[DeviceMemory, CompiledText | None]:
    """What the compiled step takes, and the step; no step where the compiler says that it does not fit."""
    try:
        compiled = lowered.compile()
    except RuntimeError as error:
        told = FULL.search(str(error))
        # A kernel that is none of this chip's, most likely: another backend may be named.
        if told is None:
            first = str(error).partition("\n")[0]
            raise InputError(f"the compiler refuses the step ({first[:300]}): name another compute.backend") from error
        refused = float(told[1]) * UNITS[told[2]]
        return DeviceMemory(held.parameters, held.optimizer, held.batch, refused=refused), None
    found = compiled.memory_analysis()
    # The new state takes the place of the old one.
    beside = found.output_size_in_bytes - found.alias_size_in_bytes
    temporaries = float(found.temp_size_in_bytes + beside)
    memory = DeviceMemory(held.parameters, held.optimizer, held.batch, temporaries, found.generated_code_size_in_bytes)
    return memory, read(compiled.as_text())


def _work(program: CompiledText, counted: Operations, attention: float, share: float) -> Work:
    """`attention`: its operations by formula. `share`: which share of all blocks its kernels visit."""
    # Counted as if they visited every block.
    in_attention = counted.kernels * share
    rounds = 1.0
    if counted.open:
        in_attention += attention
        # As many as make the operations of one round those of the formula.
        rounds = attention / counted.open
    flops = counted.products + in_attention
    devices = program.devices
    moved = memory_bytes(program, rounds)
    sent = collectives(program, rounds)
    return Work(flops / devices, in_attention / devices, moved, sent, rounds)


def attending(train: Train, model: Architecture, share: float) -> float:
    """The operations of attention's products in a step, where it visits that share of all pairs.

    Of each pair, head and channel: 4 forward, 10 backward, and where the backward pass computes again 4 more.
    """
    a_pair = 14
    if train.compute.remat != "none":
        a_pair = 18
    every = sum(channels(model.main_stack, model.width, causal) for causal in (True, False))
    return a_pair * every * share * train.batch * train.length**2


def visited(job: Job) -> float:
    """The share of all pairs of queries and keys that the mask of a job lets through: a kernel skips the others.

    >>> from posjax.models import Compute, explain
    >>> from posjax.models.presets import decoder
    >>> visited(explain(decoder(), 4).job)
    0.625
    """
    width = job.keys
    if job.window is not None and job.window > 0:
        width = min(job.window, width)
    if not job.causal:
        # Both sides of a query are within its window.
        return min(1.0, (2 * width - 1) / job.keys)
    # The first queries see all before them, the others as many keys as the window is wide.
    growing = width * (width + 1) / 2
    return (growing + (job.queries - width) * width) / (job.queries * job.keys)
