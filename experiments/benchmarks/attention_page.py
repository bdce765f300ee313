"""The attention benchmark's results: which goals of speed are met, a table, a page, and its figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.benchmarks import figure, tables
from experiments.benchmarks.attention_rows import UNBIASED, Row
from experiments.benchmarks.cases import Case
from experiments.benchmarks.peers import BASELINE, OURS, SDPA

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


def ratio(rows: Iterable[Row], row: Row, against: str, wall: bool = False) -> float | None:
    """A row's CPU (or wall) time over that of another peer of the same case."""
    for other in rows:
        if (other.encoding, other.length, other.backward, other.peer) == (row.encoding, row.length, row.backward,
                                                                          against):
            a, b = (row.wall, other.wall) if wall else (row.cpu, other.cpu)
            return a / b if a is not None and b else None
    return None


def unbiased(rows: Sequence[Row], row: Row) -> float | None:
    """Our CPU time over that without a bias: in turns where there were turns, else of the same length."""
    near = ratio(rows, row, UNBIASED)
    alone = (r for r in rows if (r.encoding, r.peer, r.length, r.backward) == ("NoPE", OURS, row.length, row.backward))
    other = next(alone, None)
    return near if near is not None or other is None or not other.cpu or row.cpu is None else row.cpu / other.cpu


def goals(rows: Sequence[Row]) -> list[Goal]:
    """What is to be reached on a CPU, with what was, for relative biases at 2048 tokens or more."""
    def against(peer: str) -> Callable[[Row], float | None]:
        return lambda row: ratio(rows, row, peer)

    asked: list[tuple[str, float, Callable[[Row], float | None]]] = [
        ("of jax.nn with the whole bias", 0.4, against(BASELINE)),
        ("of ours without a bias", 1.2, lambda row: unbiased(rows, row)),
        ("of torch SDPA with a bias mask", 0.6, against(SDPA)),
    ]
    found = []
    for what, reach, measured in asked:
        for backward in (False, True):
            mine = [r for r in rows if r.peer == OURS and r.relative and r.length >= LONG and r.backward == backward]
            each = [(value, f"{r.encoding}, {tables.length(r.length)}") for r in mine
                    if (value := measured(r)) is not None]
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
    """CPU times by encoding and peer, one column for each length, and what ours is of the whole bias."""
    lengths = sorted({r.length for r in rows})
    lines: dict[tuple[str, str], dict[int, str]] = {}
    for r in rows:
        if r.backward == backward:
            cell = tables.seconds(r.cpu) + ("" if r.agrees is not False else " !")
            lines.setdefault((r.encoding, r.peer), {})[r.length] = cell
    head = ["CPU time, " + PASSES[backward], *map(tables.length, lengths)]
    return head, [[f"{encoding}: {peer}", *(cells.get(n, "-") for n in lengths)]
                  for (encoding, peer), cells in lines.items() if set(cells.values()) != {"-"}]


def details(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Every row with all that was measured of it."""
    head = ["encoding", "peer", "S", "pass", "CPU", "wall", "of jax.nn, CPU", "of jax.nn, wall", "FLOPs halved",
            "difference", "why not"]
    body = []
    for r in rows:
        if "no such" in r.why:
            continue
        agreed = "" if r.error is None else f"{r.error:.0e}" + ("" if r.agrees else ", DISAGREES")
        halved = "" if r.halved is None else "yes" if r.halved else "no"
        body.append([r.encoding, r.peer, str(r.length), PASSES[r.backward], tables.seconds(r.cpu),
                     tables.seconds(r.wall), tables.digits(ratio(rows, r, BASELINE)),
                     tables.digits(ratio(rows, r, BASELINE, wall=True)), halved, agreed, r.why])
    return head, body


PAGE = """# Attention with positional biases, on a CPU

Causal self-attention, one call. All peers of a case run in one process, in turns, and the time is the median of the
CPU time of all its threads; the wall's clock is in the long table. Ours is `attend(..., backend="chunked")`. With
gradients means those of queries, keys, values and of what the encoding learns. A bias that is fixed is given to the
others as an array that was made beforehand; a learned one is made in the pass that trains it, from the vector by
distance for `jax.nn`, and for each pair in PyTorch, as its users do. "FLOPs halved" says whether a peer skips the
pairs that a causal mask rules out. Every peer's output and gradients are compared with ours before they are timed.

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
    page = PAGE.format(summary=tables.markdown(*summary(found)), details=tables.markdown(*details(rows)),
                       grids="\n\n".join(tables.markdown(*g) for g in grids), command=command.strip(),
                       machine=tables.told(machine))
    content = {"command": command.strip(), "machine": machine,
               "goals": [dataclasses.asdict(g) | {"verdict": g.verdict} for g in found],
               "rows": [dataclasses.asdict(r) for r in rows]}
    tables.write(folder, "attention", content, page)
    figure.attention(rows, folder / "attention.png")
    absent = sorted({r.why for r in rows if "not installed" in r.why})
    return "\n\n".join([*(tables.columns(*g) for g in grids), tables.columns(*summary(found)),
                        *(["Left out: " + "; ".join(absent)] if absent else [])])
