"""The text of a compiled program, read: its computations, what calls them, and how often a step runs each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

HEAD = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"  (ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
SHAPE = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?")
CALLED = re.compile(r"(?:calls|to_apply|body|condition|branch_computations|called_computations)=(\{[^}]*\}|%[\w.-]+)")
ROUNDS = re.compile(r'known_trip_count[^}]*?"?n"?:\s*"(\d+)"')
NAME = re.compile(r"%([\w.-]+)")
LOOP = "while"


@dataclass(frozen=True)
class ArrayType:
    """One array: its bytes, and whether it lies in the main memory; else in a faster one of the chip."""

    size: float
    is_main: bool


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    kind: str
    shapes: tuple[ArrayType, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    def called(self) -> list[str]:
        """The computations that it runs."""
        return [name for group in CALLED.findall(self.attributes) for name in NAME.findall(group)]


@dataclass(frozen=True)
class CompiledText:
    """A compiled program: the instructions of each computation by their names, the name of the first one, and how many
    devices run it together."""

    computations: dict[str, dict[str, Instruction]]
    entry: str
    devices: int

    def every(self) -> Iterator[tuple[str, Instruction]]:
        """Each instruction, with the computation that it stands in."""
        for computation, instructions in self.computations.items():
            for instruction in instructions.values():
                yield computation, instruction

    def rounds(self, loop: Instruction) -> int | None:
        """How often a loop runs its body; `None` where that is not written in the program."""
        # CPUs and GPUs are told by the compiler; in the text of a TPU only the condition says it.
        told = ROUNDS.search(loop.attributes)
        if told is not None:
            return int(told[1])
        found = re.search(r"condition=%([\w.-]+)", loop.attributes)
        if found is None:
            return None
        # A scan counts from 0 up to a constant, the only one of its condition.
        condition = self.computations[found[1]].values()
        bounds = [one.operands[0] for one in condition if one.kind == "constant" and one.operands]
        if len(bounds) == 1 and bounds[0].isdecimal():
            return int(bounds[0])
        return None

    def times(self, rounds: float = 1.0) -> dict[str, float]:
        """How often a step runs each computation, if a loop of unknown length has that many rounds."""
        times = dict.fromkeys(self.computations, 0.0)
        times[self.entry] = 1.0
        # A computation is printed before whatever calls it.
        for name in reversed(self.computations):
            for instruction in self.computations[name].values():
                count = times[name]
                if instruction.kind == LOOP:
                    count *= self.rounds(instruction) or rounds
                # One that several call runs for each of them.
                for called in instruction.called():
                    if called in times:
                        times[called] += count
        return times


def read(text: str) -> CompiledText:
    """Reads what `compiled.as_text()` gives."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry = ""
    current: dict[str, Instruction] = {}
    for line in text.splitlines():
        head = HEAD.match(line)
        if head is not None:
            current = computations.setdefault(head[2], {})
            if head[1]:
                entry = head[2]
            continue
        # What is neither is a header, a table of source lines, or the end of a computation.
        found = INSTRUCTION.match(line)
        if found is not None:
            instruction = _instruction(found)
            current[instruction.name] = instruction
    # Without the word there is one.
    parts = re.search(r"num_partitions=(\d+)", text)
    devices = 1
    if parts is not None:
        devices = int(parts[1])
    return CompiledText(computations, entry, devices)


def _instruction(found: re.Match[str]) -> Instruction:
    root, name, type_text, kind, rest = found.groups()
    inside, attributes = _closed(rest)
    operands = tuple(NAME.findall(inside))
    # Of these the parenthesis holds a value, or a place.
    if kind in ("constant", "parameter"):
        operands = (inside,)
    return Instruction(name, kind, shapes(type_text), operands, attributes, bool(root))


def _closed(rest: str) -> tuple[str, str]:
    """What stands before the parenthesis that closes an open one, and what stands behind it."""
    # Types of operands and layouts have parentheses of their own.
    depth = 1
    for place, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return rest[:place], rest[place + 1 :]
    return rest, ""


def shapes(type_text: str) -> tuple[ArrayType, ...]:
    """The arrays of a type.

    >>> shapes("(bf16[2,8]{1,0:T(8,128)S(1)}, s32[])")
    (ArrayType(size=32.0, is_main=False), ArrayType(size=4.0, is_main=True))
    """
    found = []
    for kind, sizes, layout in SHAPE.findall(type_text):
        count = math.prod(int(size) for size in sizes.split(",") if size)
        found.append(ArrayType(count * _width(kind), re.search(r"S\([1-9]", layout) is None))
    return tuple(found)


def _width(kind: str) -> float:
    """The bytes of a number: `bf16` has 2, `f8e4m3fn` has 1, `pred` has 1."""
    # Some narrow kinds have more numbers in their names, behind that of their bits.
    bits = re.search(r"\d+", kind)
    if bits is None:
        return 1.0
    return int(bits[0]) / 8
