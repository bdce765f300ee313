"""The attention benchmark's results: which goals of speed are met, a table, a page, and its figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.benchmarks.common import figure, pages, tables
from experiments.benchmarks.common.cases import Case
from experiments.benchmarks.common.goals import Goal, goals_table
from experiments.benchmarks.common.machine import described, machine
from experiments.benchmarks.common.peers import BASELINE, SDPA
from experiments.benchmarks.common.tables import PASSES, TextTable
from experiments.benchmarks.cpu.rows import UNBIASED, CpuRow

LONG = 2048
"""From which length the goals hold."""
ASKED = (
    ("of jax.nn with the whole bias", BASELINE, 0.4),
    ("of ours without a bias", UNBIASED, 1.2),
    ("of torch SDPA with a bias mask", SDPA, 0.6),
)
"""The most that our CPU time may be of another's: how the goal is told, the other, and the ratio."""


def goals(rows: Sequence[CpuRow]) -> list[Goal]:
    """What is to be reached on a CPU, with what was, for relative biases at 2048 tokens or more."""
    # A network for each pair, as FIRE has, can be no vector by distance: it has no goal.
    counted = [row for row in rows if row.relative and row.length >= LONG]
    found = []
    for what, peer, reach in ASKED:
        for backward in (False, True):
            measured = []
            for row in counted:
                if row.peer == peer and row.backward == backward and row.ours is not None:
                    measured.append((row.ours, f"{row.encoding}, {tables.length(row.length)}"))
            goal = Goal(f"{what}, {PASSES[backward]}", reach)
            found.append(goal.judged(measured))
    return found


def line(rows: Sequence[CpuRow], case: Case) -> str:
    """One line about the case just measured."""
    measured = (case.name, case.length, case.backward)
    of_case = [row for row in rows if (row.encoding, row.length, row.backward) == measured]
    times = [f"{row.peer} {tables.seconds(row.cpu)}" for row in of_case if row.cpu is not None]
    # Where nobody could, ours says why.
    said = ", ".join(times) or of_case[0].why
    return f"{case.name} {tables.length(case.length)} {PASSES[case.backward]}: {said}"


def summary(found: Sequence[Goal]) -> TextTable:
    """The goals as a table."""
    return goals_table("our CPU time, the worst case", found)


def grid(rows: Sequence[CpuRow], backward: bool) -> TextTable:
    """CPU times by encoding and peer, one column for each length."""
    lengths = sorted({row.length for row in rows})
    # In the order of the rows: encodings as they were asked for, ours first in each.
    lines: dict[str, dict[int, str]] = {}
    for row in rows:
        if row.backward == backward:
            cell = tables.seconds(row.cpu)
            # None: it was not compared, which is no disagreement.
            if row.agrees is False:
                cell += " !"
            lines.setdefault(f"{row.encoding}: {row.peer}", {})[row.length] = cell
    body = []
    for name, cells in lines.items():
        # A peer that could do none of an encoding's lengths has its reason among the details, and no line here.
        if set(cells.values()) != {"-"}:
            body.append([name, *(cells.get(length, "-") for length in lengths)])
    head = ["CPU time, " + PASSES[backward], *map(tables.length, lengths)]
    return TextTable(head, body)


DETAILS = (
    "encoding",
    "peer",
    "S",
    "pass",
    "CPU",
    "wall",
    "ours is, CPU",
    "ours is, wall",
    "rounds",
    "FLOPs halved",
    "difference",
    "why not",
)


def details(rows: Sequence[CpuRow]) -> TextTable:
    """Every row with all that was measured of it."""
    # "has no such bias": what a peer was never made for is not missing.
    return TextTable(DETAILS, [_detail(row) for row in rows if "no such" not in row.why])


def _detail(row: CpuRow) -> list[str]:
    return [
        row.encoding,
        row.peer,
        str(row.length),
        PASSES[row.backward],
        tables.seconds(row.cpu),
        tables.seconds(row.wall),
        tables.digits(row.ours),
        tables.digits(row.ours_wall),
        str(row.samples),
        # None: it did not run.
        {None: "", True: "yes", False: "no"}[row.halved],
        _difference(row),
        row.why,
    ]


def _difference(row: CpuRow) -> str:
    if row.error is None:
        return ""
    if row.agrees:
        return f"{row.error:.0e}"
    return f"{row.error:.0e}, DISAGREES"


PAGE = """# Attention with positional biases, on a CPU

Causal self-attention, one call. All peers of a case run in one process, in turns, and the time is the median of the
CPU time of all its threads; the wall's clock is in the long table. What ours is of another's time, as in the first
table and as "ours is" in the long one, is the median of the rounds' ratios. Ours is `attend(..., backend="chunked")`.
With gradients means those of queries, keys, values and of what the encoding learns. A bias that is fixed is given to
the others as an array that was made beforehand; a learned one is made in the pass that trains it, from the vector by
distance for `jax.nn`, and for each pair in PyTorch, as its users do. "FLOPs halved" says whether a peer skips the
pairs that a causal mask rules out. Every peer's output and gradients are compared with ours before they are timed.
The first table is of biases that depend on the distance alone; FIRE's, a network for each pair, is in the others.

{summary}

![CPU time by length](attention.png)

{grids}

## Every row

{details}

Measured by `{command}` on {machine}.
"""


def page(rows: Sequence[CpuRow], command: str, on: dict[str, Any]) -> str:
    """The page of rows that a command measured on a machine."""
    grids = [grid(rows, backward).markdown() for backward in (False, True)]
    return PAGE.format(
        summary=summary(goals(rows)).markdown(),
        details=details(rows).markdown(),
        grids="\n\n".join(grids),
        command=command,
        machine=described(on),
    )


def text(rows: Sequence[CpuRow]) -> str:
    """The same for a terminal, without the details."""
    parts = [grid(rows, backward).columns() for backward in (False, True)]
    parts.append(summary(goals(rows)).columns())
    # Once for all cases, as a package is missing from every one.
    absent = sorted({row.why for row in rows if "not installed" in row.why})
    if absent:
        parts.append("Left out: " + "; ".join(absent))
    return "\n\n".join(parts)


def write(to: pages.Folders, command: str, rows: Sequence[CpuRow]) -> str:
    """Writes the three files, and returns the text for a terminal."""
    on = machine()
    content = {
        "command": command,
        "machine": on,
        "goals": [goal.record() for goal in goals(rows)],
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    pages.write(to, "attention", content, page(rows, command, on))
    figure.attention(rows, to.pages / "attention.png")
    return text(rows)
