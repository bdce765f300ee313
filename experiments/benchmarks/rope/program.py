"""The rotation alone, against a scaling of the same array in place: what touches every number once and no more.

    python -m experiments.benchmarks.rope

Writes a page into docs/benchmarks, and the numbers into experiments/results/benchmarks; prints the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import cli
from experiments.benchmarks.common.pages import command_line, folders
from experiments.benchmarks.rope.page import RotationSizes, write
from experiments.benchmarks.rope.rows import RotationRow, measure
from posjax.errors import InputError

PROGRAM = "experiments.benchmarks.rope"


@dataclass(frozen=True)
class RotationOptions:
    """Time the rotation of queries against a scaling of the same array."""

    lengths: tuple[int, ...] = (512, 2048, 8192)
    heads: int = 8
    head_size: int = 128
    batch: int = 1
    rounds: int = 15
    out: Path | None = None
    """One folder for all that is written, instead of the repository's own."""

    def check(self) -> None:
        """Errors: `InputError`."""
        if not self.lengths or min(self.lengths) < 1 or self.rounds < 1:
            raise InputError("needed are one length or more, and one round or more")

    def sizes(self) -> RotationSizes:
        """What the page says of them."""
        return RotationSizes(self.batch, self.heads, self.head_size, self.rounds)


def command(arguments: Sequence[str]) -> None:
    options = cli.options(RotationOptions, PROGRAM, arguments)
    options.check()
    rows: list[RotationRow] = []
    # First in bfloat16, which the goal is of.
    for dtype in ("bfloat16", "float32"):
        for length in options.lengths:
            shape = (options.batch, length, options.heads, options.head_size)
            rows += measure(shape, dtype, options.rounds)
    said = command_line(PROGRAM, arguments)
    to = folders(options.out)
    text = write(to, rows, options.sizes(), said)
    print(text)
