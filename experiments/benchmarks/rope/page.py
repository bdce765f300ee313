"""The rotation's results: whether it is as fast as it should be, a table, and a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.benchmarks.common import pages, tables
from experiments.benchmarks.common.goals import Goal
from experiments.benchmarks.common.machine import described, machine
from experiments.benchmarks.common.tables import TextTable
from experiments.benchmarks.rope.rows import RotationRow
from experiments.benchmarks.rope.ways import OURS

REACH = 3.0
"""The most that the rotation in bfloat16 may take of the scaling's CPU time."""


@dataclass(frozen=True)
class RotationSizes:
    """What was rotated at each length, and how often."""

    batch: int
    heads: int
    head_size: int
    rounds: int


def goal(rows: Sequence[RotationRow]) -> str:
    """Whether the rotation in bfloat16 is as fast as it should be, in one sentence."""
    ours = [row for row in rows if row.name == OURS and row.dtype == "bfloat16"]
    # Ours always has a ratio: only a row of what is not installed lacks it.
    worst = max(ours, key=lambda row: row.ratio or 0.0)
    ratio = worst.ratio or 0.0
    verdict = Goal("CPU time of the scaling", REACH, worst=ratio).verdict
    return (
        f"In bfloat16 the rotation takes {ratio:.2f} of the CPU time of a scaling in place, at worst, at "
        f"{tables.length(worst.length)}; to reach: {REACH:.0f} ({verdict})."
    )


def table(rows: Sequence[RotationRow]) -> TextTable:
    """The rows as a table."""
    head = ["rotation", "dtype", "S", "CPU", "wall", "of the scale", "error"]
    body = [_line(row) for row in rows]
    return TextTable(head, body)


def _line(row: RotationRow) -> list[str]:
    return [
        row.name,
        row.dtype,
        tables.length(row.length),
        tables.seconds(row.cpu),
        tables.seconds(row.wall),
        tables.digits(row.ratio),
        row.why or _error(row),
    ]


def _error(row: RotationRow) -> str:
    if row.error is None:
        return ""
    return f"{row.error:.0e}"


PAGE = """# The rotation alone

{goal}

An array of {batch} x S x {heads} heads x {head_size} channels, each way applied to its own result; all in one process,
in turns, medians of {rounds} rounds. The scaling writes into its argument's buffer, all others into a new array: past
some 32 MiB the system's own work for a new array is more than the rotation, as "scale to a new array" shows at such
lengths. Angles are made beforehand but for "with its angles", as a model makes them once for all layers. Errors are
the largest against float64.

{table}

Measured by `{command}` on {machine}.
"""


def page(rows: Sequence[RotationRow], sizes: RotationSizes, command: str, on: dict[str, Any]) -> str:
    """The page of rows that a command measured on a machine."""
    return PAGE.format(
        goal=goal(rows),
        table=table(rows).markdown(),
        command=command,
        machine=described(on),
        **dataclasses.asdict(sizes),
    )


def write(to: pages.Folders, rows: Sequence[RotationRow], sizes: RotationSizes, command: str) -> str:
    """Writes rope.json and rope.md, and returns the text for a terminal. Errors: `StorageError`."""
    on = machine()
    content = {
        "command": command,
        "machine": on,
        "goal": goal(rows),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    written = page(rows, sizes, command, on)
    pages.write(to, "rope", content, written)
    columns = table(rows).columns()
    return "\n\n".join([columns, goal(rows)])
