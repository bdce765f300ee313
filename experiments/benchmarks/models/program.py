"""What a whole model costs.

    python -m experiments.benchmarks.models.program      some minutes on two CPU cores

Needs torch and transformers beside posjax, for the generation that ours is compared with. Writes a page into
docs/benchmarks, and the numbers into experiments/results/benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments import cli
from experiments.benchmarks.common import pages
from experiments.benchmarks.common.goals import goals_table
from experiments.benchmarks.common.machine import described, machine
from experiments.benchmarks.models import decoding, loops

PROGRAM = "experiments.benchmarks.models.program"


@dataclass(frozen=True)
class ModelsOptions:
    """Measure generation beside transformers, and the compilation and memory of a training step."""

    rows: tuple[int, ...] = (1, 8)
    """How many rows are generated together."""
    new: int = 256
    """How many tokens each row gets."""
    window: int = 64
    """What every layer sees, in the case with windows."""
    rounds: int = 5
    layers: int = 24
    """Of the decoder whose training step is compiled."""
    length: int = 512
    """Tokens in a row of its batch."""
    out: Path | None = None
    """One folder for all that is written, instead of the repository's own."""


def command(arguments: Sequence[str]) -> None:
    options = cli.options(ModelsOptions, PROGRAM, arguments)
    cases = [decoding.DecodingCase(rows, options.new) for rows in options.rows]
    cases.append(decoding.DecodingCase(1, options.new, options.window))
    # Generation first: what compiles afterwards leaves threads that spin for a while.
    rates = [decoding.measure(case, options.rounds) for case in cases]
    looped = loops.measure(loops.LoopsCase(layers=options.layers, length=options.length))
    # Each against its own reach, whatever the others are.
    goals = (decoding.goal(rates), *loops.goals(looped))
    said = pages.command_line(PROGRAM, arguments)
    on = machine()
    content = {
        "command": said,
        "machine": on,
        "goals": [goal.record() for goal in goals],
        "decoding": [asdict(row) for row in rates],
        "loops": [asdict(row) for row in looped],
    }
    page = PAGE.format(
        goals=goals_table("ratio", goals).markdown(),
        decoding=decoding.table(rates).markdown(),
        prompt=decoding.PROMPT,
        layers=options.layers,
        length=options.length,
        loops=loops.table(looped).markdown(),
        command=said,
        machine=described(on),
    )
    pages.write(pages.folders(options.out), "models", content, page)
    for shown in (decoding.table(rates), loops.table(looped), goals_table("ratio", goals)):
        print(f"{shown.columns()}\n")


PAGE = """# Whole models

{goals}

## Generation

A Llama of 5 million parameters, float32, greedy, after a prompt of {prompt} tokens; with windows a Mistral. Both
programs have the same weights, and make the same tokens. Each runs once untimed, and then in turns.

{decoding}

## A training step

Loss and gradients of a decoder of {layers} layers, width 256, on 4 rows of {length} tokens. "Written out" is
`Compute()`, the loops are `Compute(scan=True)`, `Compute(remat="products")` and `Compute(remat="all")`.

{loops}

A loop compiles its turn forward and backward, and all around it. So one layer alone is the least that it could take.
XLA compiles kernels that are equal once, so that on a CPU each further layer costs little.

Measured by `{command}` on {machine}.
"""

if __name__ == "__main__":
    cli.program(command)
