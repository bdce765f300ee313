"""The GPU benchmark's results: one table in TFLOP/s, the goals, and the reasons for what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.benchmarks.common import pages, tables
from experiments.benchmarks.common.goals import Goal, goals_table
from experiments.benchmarks.common.machine import described, machine
from experiments.benchmarks.common.tables import TextTable
from experiments.benchmarks.gpu.rows import MATMUL, GpuRow, names

AUTO = (
    ("RoPE, auto: of cuDNN after RoPE", 0.97, "RoPE, posjax auto", "RoPE, then cuDNN"),
    ("RoPE, auto: of cuDNN alone", 0.97, "RoPE, posjax auto", "cuDNN, no bias"),
    ("ALiBi, auto: of cuDNN alone", 0.80, "ALiBi, posjax auto", "cuDNN, no bias"),
)
"""The goals of `attend` with its own choice: how each is told, the speed, the row of ours and the other's."""
BIASES = ("T5", "KERPLE", "ALiBi")


@dataclass(frozen=True)
class Taken:
    """What was measured: the command, how long it took, and the sizes that all its shapes share."""

    command: str
    seconds: float
    sizes: dict[str, Any]


def goals(rows: Sequence[GpuRow]) -> list[Goal]:
    """The speeds to reach, over all shapes; those of FlexAttention with gradients alone."""
    found = []
    for what, reach, mine, other in AUTO:
        found.append(_goal(rows, what, reach, mine, other))
    # Training is what learned biases are for.
    trained = [row for row in rows if row.backward]
    for name in BIASES:
        for kind in ("fixed", "learned"):
            what = f"{name} {kind}, fused: of FlexAttention"
            found.append(_goal(trained, what, 1.0, f"{name} {kind}, fused", f"{name} {kind}, FlexAttention"))
        what = f"{name} learned, fused: of fixed"
        found.append(_goal(trained, what, 1 / 1.25, f"{name} learned, fused", f"{name} fixed, fused"))
    return found


def _goal(rows: Sequence[GpuRow], what: str, reach: float, mine: str, other: str) -> Goal:
    """What is to be reached of another's speed, with what was at each shape and pass that both ran."""
    times = {_at(row): row.seconds for row in rows if row.name == other and row.seconds}
    measured = []
    # Both must have run: what one of them could not do says nothing of the other's speed.
    for row in rows:
        if row.name == mine and row.seconds and _at(row) in times:
            measured.append((times[_at(row)] / row.seconds, _told(row)))
    return Goal(what, reach, at_most=False).judged(measured)


def _at(row: GpuRow) -> tuple[int, int, bool]:
    return row.head_size, row.length, row.backward


def _told(row: GpuRow) -> str:
    passes = {False: "forward", True: "both"}
    return f"D={row.head_size} S={tables.length(row.length)} {passes[row.backward]}"


def table(rows: Sequence[GpuRow]) -> TextTable:
    """TFLOP/s: a line for each peer and pass, a column for each shape; "!" marks a result that disagrees."""
    shapes = sorted({(row.head_size, row.length) for row in rows})
    # In the order of the entries, whichever row was known first.
    order = {(name, backward): index for index, (name, _, backward) in enumerate(names())}
    lines: dict[str, dict[tuple[int, int], str]] = {}
    for row in sorted(rows, key=lambda row: order[row.name, row.backward]):
        lines.setdefault(_label(row), {})[row.head_size, row.length] = _cell(row)
    body = []
    for label, cells in lines.items():
        body.append([label, *(cells.get(shape, "-") for shape in shapes)])
    head = [f"{head_size}/{tables.length(length)}" for head_size, length in shapes]
    return TextTable(["TFLOP/s, D/S", *head], body)


def _label(row: GpuRow) -> str:
    # A product of matrices has no gradients here, and no pass to tell.
    if row.backward and row.name != MATMUL:
        return f"{row.name}, f+b"
    return row.name


def _cell(row: GpuRow) -> str:
    if row.tflops is None:
        cell = "-"
    elif row.tflops < 10:
        cell = tables.digits(row.tflops)
    else:
        cell = f"{row.tflops:.0f}"
    # None: it was not compared, which is no disagreement.
    if row.agrees is False:
        cell += "!"
    return cell


def reasons(rows: Sequence[GpuRow]) -> list[str]:
    """Why rows are missing, each reason once with the rows it is of."""
    each: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.seconds is None:
            # A dictionary, for a set in the order of the rows: a name has a row for each shape and pass.
            each.setdefault(row.why, {})[row.name] = None
    return [f"{'; '.join(of)}: {why}" for why, of in each.items()]


def summary(rows: Sequence[GpuRow]) -> TextTable:
    """The goals as a table."""
    return goals_table("speed, the lowest", goals(rows))


PAGE = """# Attention on a GPU

Causal self-attention in {dtype}, {tokens} tokens and a width of {width} in every call, D the size of a head and S the
length. TFLOP/s count what a causal mask leaves, two products forward and five more backward ("f+b"); the matmul is one
of {dtype} matrices, for comparison. All rows of a shape run in one process, in turns, those of torch after the others;
each is the median of its rounds. "learned": with gradients to the bias's parameters. "!" marks results that differ from
the chunked backend's by more than rounding. "auto" is `attend` with its own choice: {chosen}.

{table}

{goals}

{reasons}

Measured by `{command}` in {seconds:.0f} s on {machine}.
"""


def page(rows: Sequence[GpuRow], taken: Taken, on: dict[str, Any]) -> str:
    """The page of rows that were measured on a machine."""
    return PAGE.format(
        table=table(rows).markdown(),
        goals=summary(rows).markdown(),
        command=taken.command,
        reasons="\n".join(f"- {line}" for line in reasons(rows)),
        machine=described(on),
        seconds=taken.seconds,
        chosen=", ".join(_choices(rows)) or "none ran",
        **taken.sizes,
    )


def _choices(rows: Sequence[GpuRow]) -> list[str]:
    """What `attend` chose for each encoding, "Rope by cudnn"."""
    # Of a row that ran, `why` is the note that names the backend.
    ran = [row for row in rows if row.name.endswith("auto") and row.seconds is not None]
    return sorted({f"{row.encoding} {row.why}" for row in ran})


def text(rows: Sequence[GpuRow], taken: Taken, on: dict[str, Any]) -> str:
    """The same for a terminal."""
    where = f"{described(on)}; {taken.seconds:.0f} s"
    return "\n\n".join([table(rows).columns(), summary(rows).columns(), "\n".join(reasons(rows)), where])


def write(to: pages.Folders, rows: Sequence[GpuRow], taken: Taken) -> str:
    """Writes gpu.json and gpu.md, and returns the text for a terminal. Errors: `StorageError`."""
    on = machine()
    content = {
        "command": taken.command,
        "machine": on,
        "seconds": taken.seconds,
        "sizes": taken.sizes,
        "goals": [goal.record() for goal in goals(rows)],
        "rows": [asdict(row) for row in rows],
    }
    pages.write(to, "gpu", content, page(rows, taken, on))
    return text(rows, taken, on)
