"""The memory benchmark's results: whether ours grows as it should, tables, a page, and its figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.benchmarks.common import figure, pages, tables
from experiments.benchmarks.common.cases import GIB
from experiments.benchmarks.common.figure import Curves, Points
from experiments.benchmarks.common.goals import Goal
from experiments.benchmarks.common.machine import described, machine
from experiments.benchmarks.common.peers import OURS
from experiments.benchmarks.common.tables import PASSES, TextTable
from experiments.benchmarks.memory.rows import MemoryRow

REACH = 1.05
"""The exponent of ours to reach: 1 is linear."""
MIB = 2**20


@dataclass(frozen=True)
class Read:
    """What was read: the command, its heads, and the long run, where there was one."""

    command: str
    heads: int
    head_size: int
    long_run: dict[str, Any] | None


def size(count: float) -> str:
    """A number of bytes with its unit."""
    if count >= GIB:
        return f"{tables.digits(count / GIB)} GiB"
    return f"{tables.digits(count / MIB)} MiB"


def table(rows: Sequence[MemoryRow], backward: bool) -> TextTable:
    """The sizes of one pass."""
    chosen = [row for row in rows if row.backward == backward]
    # All rows have the lengths of one command.
    lengths = map(tables.length, chosen[0].lengths)
    head = [f"temporary arrays, {PASSES[backward]}", *lengths, "exponent"]
    body = []
    for row in chosen:
        name = f"{row.encoding}: {row.peer}"
        sizes = map(size, row.bytes)
        body.append([name, *sizes, f"{row.exponent:.3f}"])
    return TextTable(head, body)


def goal(rows: Sequence[MemoryRow]) -> str:
    """Whether ours grows as it should, in one sentence."""
    ours = [row for row in rows if row.peer == OURS and row.backward]
    worst = max(ours, key=lambda row: row.exponent)
    shorter, longer = worst.lengths[-2:]
    verdict = Goal("exponent", REACH, worst=worst.exponent).verdict
    if verdict != "met":
        verdict += f", {worst.encoding}"
    return (
        f"Ours grows with the exponent {worst.exponent:.3f} or less from {tables.length(shorter)} to "
        f"{tables.length(longer)}, forward and backward; to reach: {REACH} ({verdict})."
    )


PAGE = """# The memory of attention

{goal}

Sizes are those of the temporary arrays of one compiled call, `temp_size_in_bytes` of XLA's memory analysis, with
{heads} heads of {head_size} in float32 on a {platform}; nothing is run. The whole bias is `jax.nn`'s attention with a
`[heads, S, S]` array.

![Temporary memory by length](memory.png)

{tables}
{long}
Read by `{command}` on {machine}.
"""


def page(rows: Sequence[MemoryRow], read: Read, on: dict[str, Any]) -> str:
    """The page of rows that were read on a machine."""
    both = [table(rows, backward).markdown() for backward in (False, True)]
    long = ""
    if read.long_run:
        long = f"\n## One long row\n\n{read.long_run['text']}\n"
    _, platform = on["devices"]
    return PAGE.format(
        goal=goal(rows),
        heads=read.heads,
        head_size=read.head_size,
        platform=platform.upper(),
        tables="\n\n".join(both),
        long=long,
        command=read.command,
        machine=described(on),
    )


def text(rows: Sequence[MemoryRow], read: Read) -> str:
    """The same for a terminal."""
    parts = [table(rows, backward).columns() for backward in (False, True)]
    parts.append(goal(rows))
    if read.long_run:
        parts.append(read.long_run["text"])
    return "\n\n".join(parts)


def curves(rows: Sequence[MemoryRow]) -> dict[str, Curves]:
    """Ours with each encoding, and the whole bias of the first, which needs the least."""
    return {PASSES[backward]: _of_pass(rows, backward) for backward in (False, True)}


def _of_pass(rows: Sequence[MemoryRow], backward: bool) -> dict[str, Points]:
    lines = {}
    for row in rows:
        if row.backward != backward:
            continue
        name = row.encoding
        if row.peer != OURS:
            name = f"{row.encoding}, {row.peer}"
            # One line of those that grow with the square is enough to compare with.
            if row.encoding != rows[0].encoding:
                continue
        sizes = [count / MIB for count in row.bytes]
        points = zip(row.lengths, sizes, strict=True)
        lines[name] = list(points)
    return lines


def write(to: pages.Folders, rows: Sequence[MemoryRow], read: Read) -> str:
    """Writes the three files, and returns the text for a terminal. Errors: `StorageError`."""
    on = machine()
    content = {
        "command": read.command,
        "machine": on,
        "goal": goal(rows),
        "long_run": read.long_run,
        "rows": [dataclasses.asdict(row) | {"exponent": row.exponent} for row in rows],
    }
    written = page(rows, read, on)
    pages.write(to, "memory", content, written)
    picture = to.pages / "memory.png"
    figure.by_length(curves(rows), "MiB of temporary arrays", picture)
    return text(rows, read)
