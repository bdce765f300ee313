"""What a step of training costs.

    python -m experiments.benchmarks.training.program      some minutes on two CPU cores

Needs torch and transformers beside posjax, for the steps that ours are compared with. Writes a page into
docs/benchmarks, and the numbers into experiments/results/benchmarks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from experiments import cli
from experiments.benchmarks.common import pages, tables
from experiments.benchmarks.common.goals import Goal, goals_table
from experiments.benchmarks.common.machine import described, machine
from experiments.benchmarks.common.tables import TextTable
from experiments.benchmarks.common.timing import Timed, Times, interleave, once, ratio
from experiments.benchmarks.training import steps

PROGRAM = "experiments.benchmarks.training.program"
THEIRS = ("sdpa", "eager")
OF_SDPA = 0.65
OF_RATE = 0.75
OF_ROPE, FIRE_OF_ROPE = 0.95, 0.85
OF_STEP = 0.05


@dataclass(frozen=True)
class TrainingOptions:
    """Measure steps of training, ours and those of transformers on torch, in turns."""

    lengths: tuple[int, ...] = (512, 2048)
    """Tokens in a row; a batch has 4096."""
    rounds: int = 7
    out: Path | None = None
    """One folder for all that is written, instead of the repository's own."""


@dataclass(frozen=True)
class StepRow:
    """The steps of one name at one length, and what they are of others': CPU time, and tokens a second."""

    length: int
    name: str
    cpu: float
    wall: float
    tokens_per_second: float
    cpu_of_sdpa: float | None
    rate_of_rope: float | None
    share: float | None


def measure(case: steps.StepCase, rounds: int) -> list[StepRow]:
    """Every encoding of ours, and theirs, a step of each in turns."""
    multiplying, operations = steps.product()
    calls: dict[str, Timed] = {name: steps.ours(case, name) for name in steps.ENCODINGS}
    for name in THEIRS:
        calls[name] = steps.theirs(case, name)
    calls["product"] = multiplying
    first = {}
    for name, call in calls.items():
        # Untimed: what compiles, and the threads that it leaves.
        call.finished()
        _, (_, wall) = once(call)
        first[name] = wall
    times = interleave(calls, rounds, first)
    rate = operations / median(times["product"].wall)
    return [_row(case, name, times, rate) for name in (*steps.ENCODINGS, *THEIRS)]


def _row(case: steps.StepCase, name: str, times: dict[str, Times], rate: float) -> StepRow:
    cpu, wall = times[name].medians
    tokens = case.rows * case.length
    of_sdpa, of_rope = None, None
    share = None
    if name not in THEIRS:
        of_sdpa = ratio(times[name].cpu, times["sdpa"].cpu)
        of_rope = ratio(times["rope"].wall, times[name].wall)
    if name in ("rope", *THEIRS):
        share = case.operations / wall / rate
    return StepRow(case.length, name, cpu, wall, tokens / wall, of_sdpa, of_rope, share)


def table(rows: Sequence[StepRow]) -> TextTable:
    """The steps, a row each."""
    body = []
    for row in rows:
        name = row.name
        if name in THEIRS:
            name = f"torch, {name}"
        body.append(
            [
                str(row.length),
                name,
                tables.seconds(row.cpu),
                tables.seconds(row.wall),
                tables.digits(row.tokens_per_second),
                tables.digits(row.cpu_of_sdpa),
                tables.digits(row.rate_of_rope),
                tables.digits(row.share),
            ]
        )
    head = ["length", "step", "CPU", "wall", "tokens/s", "CPU of sdpa", "rate of rope", "of the matmul rate"]
    return TextTable(head, body)


def goals(rows: Sequence[StepRow]) -> tuple[Goal, ...]:
    """What is to be reached, at the worst length of each."""
    by_name = {name: [row for row in rows if row.name == name] for name in (*steps.ENCODINGS, *THEIRS)}

    def worst(names: Sequence[str], field: str) -> list[tuple[float, str]]:
        return [(getattr(row, field), f"{name}, {row.length}") for name in names for row in by_name[name]]

    return (
        Goal("CPU time of a step, of torch sdpa", OF_SDPA).judged(worst(("rope",), "cpu_of_sdpa")),
        Goal("share of the matmul rate", OF_RATE, at_most=False).judged(worst(("rope",), "share")),
        Goal("tokens/s, of RoPE's", OF_ROPE, at_most=False).judged(worst(("alibi", "t5", "kerple"), "rate_of_rope")),
        Goal("tokens/s of FIRE, of RoPE's", FIRE_OF_ROPE, at_most=False).judged(worst(("fire",), "rate_of_rope")),
    )


def saving(rows: Sequence[StepRow], held: Sequence[float]) -> Goal:
    """What a checkpoint holds a step up for, of the step."""
    first = rows[0]
    # Once the first has compiled the digest of what is saved.
    share = median(held[1:]) / first.wall
    return Goal("a checkpoint, of the step it falls on", OF_STEP).judged([(share, f"rope, {first.length}")])


def command(arguments: Sequence[str]) -> None:
    options = cli.options(TrainingOptions, PROGRAM, arguments)
    rows = [row for length in options.lengths for row in measure(steps.StepCase(length), options.rounds)]
    with tempfile.TemporaryDirectory() as folder:
        held = steps.saving(steps.StepCase(options.lengths[0]), Path(folder))
    judged = (*goals(rows), saving(rows, held))
    said = pages.command_line(PROGRAM, arguments)
    on = machine()
    content = {
        "command": said,
        "machine": on,
        "goals": [goal.record() for goal in judged],
        "steps": [asdict(row) for row in rows],
    }
    page = PAGE.format(
        goals=goals_table("ratio", judged).markdown(), steps=table(rows).markdown(), command=said, machine=described(on)
    )
    pages.write(pages.folders(options.out), "training", content, page)
    for shown in (table(rows), goals_table("ratio", judged)):
        print(f"{shown.columns()}\n")


PAGE = """# Steps of training

{goals}

A decoder of 5 million parameters in float32: forward, backward, clipping and AdamW, on a batch of 4096 tokens. The same
sizes as a Llama of transformers on torch. Each step runs in turns with all others, after two that are not timed.

{steps}

CPU time counts all cores; ratios are medians over the rounds. "Of the matmul rate" are the operations of a step over
what a product of matrices does in the same time. Attention under a causal mask counts half of the pairs.

Measured by `{command}` on {machine}.
"""

if __name__ == "__main__":
    cli.program(command)
