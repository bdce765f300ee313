"""The GPU benchmark's results: one table in TFLOP/s, the goals, and the reasons for what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.benchmarks.common import tables
from experiments.benchmarks.gpu.rows import MATMUL, Row, names

PASSES = {False: "forward", True: "forward + backward"}


@dataclass(frozen=True)
class Goal:
    """A speed relative to another's that is to be reached, and the lowest that was measured."""

    what: str
    reach: float
    lowest: float | None = None
    where: str = ""

    @property
    def verdict(self) -> str:
        return "not measured" if self.lowest is None else "met" if self.lowest >= self.reach else "NOT met"


def goals(rows: Sequence[Row]) -> list[Goal]:
    """The speeds to reach, over all shapes; those of FlexAttention with gradients alone."""
    found = [
        _goal(rows, *pair)
        for pair in (
            ("RoPE, auto: of cuDNN after RoPE", 0.97, "RoPE, posjax auto", "RoPE, then cuDNN"),
            ("RoPE, auto: of cuDNN alone", 0.97, "RoPE, posjax auto", "cuDNN, no bias"),
            ("ALiBi, auto: of cuDNN alone", 0.80, "ALiBi, posjax auto", "cuDNN, no bias"),
        )
    ]
    for name in ("T5", "KERPLE", "ALiBi"):
        for kind in ("fixed", "learned"):
            found.append(
                _goal(
                    rows,
                    f"{name} {kind}, fused: of FlexAttention",
                    1.0,
                    f"{name} {kind}, fused",
                    f"{name} {kind}, FlexAttention",
                    lambda r: r.backward,
                )
            )
        found.append(
            _goal(
                rows,
                f"{name} learned, fused: of fixed",
                1 / 1.25,
                f"{name} learned, fused",
                f"{name} fixed, fused",
                lambda r: r.backward,
            )
        )
    return found


def _goal(
    rows: Sequence[Row], what: str, reach: float, mine: str, other: str, counts: Callable[[Row], bool] = lambda r: True
) -> Goal:
    times = {(r.name, r.head_size, r.length, r.backward): r.seconds for r in rows if r.seconds}
    each = [
        (
            times[other, r.head_size, r.length, r.backward] / r.seconds,
            f"D={r.head_size} S={tables.length(r.length)} {'both' if r.backward else 'forward'}",
        )
        for r in rows
        if r.name == mine and r.seconds and counts(r) and (other, r.head_size, r.length, r.backward) in times
    ]
    return Goal(what, reach, *min(each, default=(None, "")))


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """TFLOP/s: a line for each peer and pass, a column for each shape; "!" marks a result that disagrees."""
    shapes = sorted({(r.head_size, r.length) for r in rows})
    lines: dict[tuple[bool, str], dict[tuple[int, int], str]] = {}
    order = {(name, backward): i for i, (name, _, backward) in enumerate(names())}
    for r in sorted(rows, key=lambda r: order[r.name, r.backward]):
        cell = "-" if r.tflops is None else (tables.digits(r.tflops) if r.tflops < 10 else f"{r.tflops:.0f}")
        cell += "!" if r.agrees is False else ""
        lines.setdefault((r.backward, r.name), {})[r.head_size, r.length] = cell
    head = ["TFLOP/s, D/S", *(f"{d}/{tables.length(s)}" for d, s in shapes)]
    body: list[list[str]] = []
    for (backward, name), cells in lines.items():
        label = name if name == MATMUL else f"{name}{', f+b' if backward else ''}"
        body.append([label, *(cells.get(shape, "-") for shape in shapes)])
    return head, body


def reasons(rows: Sequence[Row]) -> list[str]:
    """Why rows are missing, each reason once with the rows it is of."""
    each: dict[str, list[str]] = {}
    for r in rows:
        if r.seconds is None:
            each.setdefault(r.why, []).append(r.name)
    return [f"{'; '.join(dict.fromkeys(of))}: {why}" for why, of in each.items()]


def summary(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The goals as the head and the rows of a table."""
    return ["speed, the lowest", "reach", "got", "at", ""], [
        [g.what, f"{g.reach:.2f}", tables.digits(g.lowest), g.where or "-", g.verdict] for g in goals(rows)
    ]


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


def write(folder: Path, command: str, rows: Sequence[Row], sizes: dict[str, Any], seconds: float) -> str:
    """Writes gpu.json and gpu.md, and returns the text for a terminal."""
    machine, missing = tables.machine(), reasons(rows)
    chosen = sorted({f"{r.encoding} {r.why}" for r in rows if r.name.endswith("auto") and r.seconds is not None})
    page = PAGE.format(
        table=tables.markdown(*table(rows)),
        goals=tables.markdown(*summary(rows)),
        command=command,
        reasons="\n".join(f"- {line}" for line in missing),
        machine=tables.told(machine),
        seconds=seconds,
        chosen=", ".join(chosen) or "none ran",
        **sizes,
    )
    content = {
        "command": command,
        "machine": machine,
        "seconds": seconds,
        "sizes": sizes,
        "goals": [asdict(g) | {"verdict": g.verdict} for g in goals(rows)],
        "rows": [asdict(r) for r in rows],
    }
    tables.write(folder, "gpu", content, page)
    return "\n\n".join(
        [
            tables.columns(*table(rows)),
            tables.columns(*summary(rows)),
            "\n".join(missing),
            f"{tables.told(machine)}; {seconds:.0f} s",
        ]
    )
