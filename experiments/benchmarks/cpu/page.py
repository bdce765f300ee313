"""The attention benchmark's results: which goals of speed are met, a table, a page, and its figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.benchmarks.common import figure, tables
from experiments.benchmarks.common.cases import Case
from experiments.benchmarks.common.peers import BASELINE, SDPA
from experiments.benchmarks.cpu.rows import UNBIASED, Row

LONG = 2048
"""From which length the goals hold."""
PASSES = {False: "forward", True: "forward + backward"}


@dataclass(frozen=True)
class Goal:
    """The most that our CPU time may be of another's, and the worst that was measured, `None` without a pair."""

    what: str
    reach: float
    worst: float | None = None
    where: str = ""

    @property
    def verdict(self) -> str:
        return "not measured" if self.worst is None else "met" if self.worst <= self.reach else "NOT met"


def goals(rows: Sequence[Row]) -> list[Goal]:
    """What is to be reached on a CPU, with what was, for relative biases at 2048 tokens or more."""
    asked = (
        ("of jax.nn with the whole bias", BASELINE, 0.4),
        ("of ours without a bias", UNBIASED, 1.2),
        ("of torch SDPA with a bias mask", SDPA, 0.6),
    )
    found = []
    for what, peer, reach in asked:
        for backward in (False, True):
            each = [
                (r.ours, f"{r.encoding}, {tables.length(r.length)}")
                for r in rows
                if r.peer == peer and r.relative and r.length >= LONG and r.backward == backward and r.ours is not None
            ]
            found.append(Goal(f"{what}, {PASSES[backward]}", reach, *max(each, default=(None, ""))))
    return found


def line(rows: Sequence[Row], case: Case) -> str:
    """One line about the case just measured."""
    mine = [r for r in rows if (r.encoding, r.length, r.backward) == (case.name, case.length, case.backward)]
    told = ", ".join(f"{r.peer} {tables.seconds(r.cpu)}" for r in mine if r.cpu is not None)
    return f"{case.name} {tables.length(case.length)} {PASSES[case.backward]}: {told or mine[0].why}"


def summary(found: Sequence[Goal]) -> tuple[list[str], list[list[str]]]:
    """The goals as the head and the rows of a table."""
    rows = [[g.what, f"{g.reach:.2f}", tables.digits(g.worst), g.where or "-", g.verdict] for g in found]
    return ["our CPU time, the worst case", "reach", "got", "at", ""], rows


def grid(rows: Sequence[Row], backward: bool) -> tuple[list[str], list[list[str]]]:
    """CPU times by encoding and peer, one column for each length."""
    lengths = sorted({r.length for r in rows})
    lines: dict[tuple[str, str], dict[int, str]] = {}
    for r in rows:
        if r.backward == backward:
            cell = tables.seconds(r.cpu) + ("" if r.agrees is not False else " !")
            lines.setdefault((r.encoding, r.peer), {})[r.length] = cell
    head = ["CPU time, " + PASSES[backward], *map(tables.length, lengths)]
    return head, [
        [f"{encoding}: {peer}", *(cells.get(n, "-") for n in lengths)]
        for (encoding, peer), cells in lines.items()
        if set(cells.values()) != {"-"}
    ]


def details(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Every row with all that was measured of it."""
    head = [
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
    ]
    body = []
    for r in rows:
        if "no such" in r.why:
            continue
        agreed = "" if r.error is None else f"{r.error:.0e}" + ("" if r.agrees else ", DISAGREES")
        halved = "" if r.halved is None else "yes" if r.halved else "no"
        body.append(
            [
                r.encoding,
                r.peer,
                str(r.length),
                PASSES[r.backward],
                tables.seconds(r.cpu),
                tables.seconds(r.wall),
                tables.digits(r.ours),
                tables.digits(r.ours_wall),
                str(r.samples),
                halved,
                agreed,
                r.why,
            ]
        )
    return head, body


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


def write(folder: Path, command: str, rows: Sequence[Row]) -> str:
    """Writes the three files, and returns the text for a terminal."""
    found, machine = goals(rows), tables.machine()
    grids = [grid(rows, backward) for backward in (False, True)]
    page = PAGE.format(
        summary=tables.markdown(*summary(found)),
        details=tables.markdown(*details(rows)),
        grids="\n\n".join(tables.markdown(*g) for g in grids),
        command=command.strip(),
        machine=tables.told(machine),
    )
    content = {
        "command": command.strip(),
        "machine": machine,
        "goals": [dataclasses.asdict(g) | {"verdict": g.verdict} for g in found],
        "rows": [dataclasses.asdict(r) for r in rows],
    }
    tables.write(folder, "attention", content, page)
    figure.attention(rows, folder / "attention.png")
    absent = sorted({r.why for r in rows if "not installed" in r.why})
    return "\n\n".join(
        [
            *(tables.columns(*g) for g in grids),
            tables.columns(*summary(found)),
            *(["Left out: " + "; ".join(absent)] if absent else []),
        ]
    )
