"""What a compiled program moves: bytes of the main memory, and collectives over the links."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from posjax.rehearsal.program_text import CompiledText, Instruction

PERMUTE = "collective-permute"
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", PERMUTE)
FREE = (
    "parameter",
    "constant",
    "iota",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
)
"""What moves nothing itself."""
PARTS = ("dynamic-slice", "slice", "gather")
"""What reads a part of its first operand."""
BITCASTS = ("ConcatBitcast", "AllocateBuffer", "AsyncCollectiveStart", "AsyncCollectiveDone")
"""Calls of the compiler's own that move nothing."""


@dataclass(frozen=True)
class Collective:
    """Collectives of one kind among as many devices: how many a step does, and the bytes of all their results."""

    kind: str
    devices: int
    count: float
    size: float

    @property
    def over_links(self) -> float:
        """The bytes that a device sends, in a ring."""
        share = (self.devices - 1) / self.devices
        if self.kind == "all-reduce":
            return 2 * share * self.size
        # Its result is what is left of as many.
        if self.kind == "reduce-scatter":
            return share * self.devices * self.size
        if self.kind == PERMUTE:
            return self.size
        return share * self.size

    @property
    def ways(self) -> int:
        """How many links of a ring it takes at once: what is sent to one neighbour goes one way."""
        if self.kind == PERMUTE:
            return 1
        return 2


def collectives(program: CompiledText, rounds: float = 1.0) -> tuple[Collective, ...]:
    """Those of a step, the ones that send most first; a loop of unknown length has that many rounds."""
    times = program.times(rounds)
    seen: dict[str, tuple[str, int, float, float]] = {}
    for computation, one in program.every():
        kind = one.kind.removesuffix("-start")
        if kind not in KINDS or not times[computation]:
            continue
        channel = re.search(r"channel_id=(\d+)", one.attributes)
        key = one.name
        # One that is spread among what is computed meanwhile is written several times, under one number; of permutes
        # all have the same.
        if channel is not None and kind != PERMUTE:
            key = channel[1]
        count = times[computation]
        if key in seen:
            count = max(count, seen[key][2])
        seen[key] = (kind, _devices(one, program.devices), count, _result(one))
    totals: dict[tuple[str, int], tuple[float, float]] = {}
    for kind, devices, count, size in seen.values():
        before = totals.get((kind, devices), (0.0, 0.0))
        totals[kind, devices] = (before[0] + count, before[1] + count * size)
    # A group of one sends nothing: an axis of size 1 has such.
    found = [Collective(kind, devices, *total) for (kind, devices), total in totals.items() if devices > 1]
    return tuple(sorted(found, key=lambda one: -one.over_links))


def _result(one: Instruction) -> float:
    sizes = [shape.size for shape in one.shapes]
    # What starts one has its operand among its results.
    if one.kind.endswith("-start"):
        return max(sizes)
    return sum(sizes)


def _devices(one: Instruction, there: int) -> int:
    """Among how many of the devices that are there a collective is; its groups are written in several ways.

    Errors: `ValueError` for yet another one, which may not be passed over.
    """
    named = re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{([^}]*)\}", one.attributes)
    if named is not None:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        # An axis may be cut: of that one it is the second number, behind the size of what comes before it.
        parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part or sizes[axis]) for axis, part in parts)
    counted = re.search(r"replica_groups=\[(\d+),(\d+)\]", one.attributes)
    if counted is not None:
        return int(counted[2])
    if "replica_groups={}" in one.attributes or one.kind.startswith(PERMUTE):
        return there
    listed = re.search(r"replica_groups=\{\{([^}]*)\}", one.attributes)
    if listed is None:
        raise ValueError(f"the devices of {one.kind} are written in a way that is not known: {one.attributes[:200]}")
    return listed[1].count(",") + 1


def memory_bytes(program: CompiledText, rounds: float = 1.0) -> float:
    """The bytes that a step reads and writes in the main memory, each operand of each fused operation once."""
    times = program.times(rounds)
    fused = {name for _, one in program.every() if _inlines(one) for name in one.called()}
    total = 0.0
    for computation, instructions in program.computations.items():
        # What a fused operation holds on its way lies in registers, or in the faster memory.
        if computation not in fused:
            total += times[computation] * sum(_moved(one, instructions, program) for one in instructions.values())
    return total


def _inlines(one: Instruction) -> bool:
    """Whether the computation that it calls is part of it, and moves nothing itself."""
    return one.kind not in ("while", "conditional", "call")


def _moved(one: Instruction, near: dict[str, Instruction], program: CompiledText) -> float:
    if one.kind in FREE or one.kind.endswith("-done") or any(name in one.attributes for name in BITCASTS):
        return 0.0
    if one.kind in PARTS:
        # As much is read as is written, however large what it is cut from.
        return 2 * _main(one)
    if one.kind == "dynamic-update-slice":
        return 2 * _main(near[one.operands[1]])
    if one.kind in ("copy-start", "slice-start"):
        return _started(one, near)
    if one.kind == "fusion":
        return _moved_by_fusion(one, near, program)
    return _main(one) + sum(_main(near[name]) for name in one.operands if name in near)


def _started(one: Instruction, near: dict[str, Instruction]) -> float:
    """A copy between memories: what arrives is read where it came from, and written where it is to be."""
    (source,) = [near[name] for name in one.operands[:1]]
    arrays = [shape for shape in one.shapes if shape.size > 4]
    size = min((shape.size for shape in arrays), default=0.0)
    ends = _main(source) > 0
    return size * (ends + any(shape.is_main and shape.size == size for shape in arrays if not ends))


def _moved_by_fusion(one: Instruction, near: dict[str, Instruction], program: CompiledText) -> float:
    inside = program.computations[one.called()[0]]
    places = {int(part.operands[0]): part.name for part in inside.values() if part.kind == "parameter"}
    total = 0.0
    root = next(part for part in inside.values() if part.is_root)
    updated = _updated(root, inside)
    for place, name in enumerate(one.operands):
        # From a faster memory nothing is read here.
        if name not in near or not _main(near[name]):
            continue
        total += _read(places[place], inside, _main(near[name]), updated)
    if updated is not None and _main(one):
        return total + _sizes(inside[updated.operands[1]])
    return total + _main(one)


def _updated(root: Instruction, inside: dict[str, Instruction]) -> Instruction | None:
    """What updates a part of an array in its place, where a fused computation ends with that."""
    # It may be laid out otherwise, or be narrowed, on its way out.
    while root.kind in ("bitcast", "copy", "convert") and root.operands[0] in inside:
        root = inside[root.operands[0]]
    if root.kind == "dynamic-update-slice":
        return root
    return None


def _read(name: str, inside: dict[str, Instruction], whole: float, updated: Instruction | None) -> float:
    """What a fused computation reads of a parameter: the parts that it cuts out, where it does nothing else with it."""
    total = 0.0
    for user in inside.values():
        if name not in user.operands:
            continue
        if user.kind == "bitcast":
            total += _read(user.name, inside, whole, updated)
        elif user.kind in PARTS and user.operands[0] == name:
            total += _sizes(user)
        elif user is updated and user.operands[0] == name:
            # Written in its place, and not read.
            continue
        else:
            return whole
    # Parts may overlap.
    return min(total, whole)


def _main(one: Instruction) -> float:
    return sum(shape.size for shape in one.shapes if shape.is_main)


def _sizes(one: Instruction) -> float:
    return sum(shape.size for shape in one.shapes)
