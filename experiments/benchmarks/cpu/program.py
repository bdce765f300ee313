"""Attention with each encoding on this machine: ours, `jax.nn` with the whole bias, and PyTorch's, in turns.

    python -m experiments.benchmarks.attention            every length and peer, about a quarter of an hour
    python -m experiments.benchmarks.attention --quick    two lengths, a few encodings, about two minutes

Writes a page and its figure into docs/benchmarks, and the numbers into experiments/results/benchmarks; prints the
table. Peers that are not installed are left out, and the table says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from experiments import cli
from experiments.benchmarks.common.cases import ENCODINGS, Case, check_names
from experiments.benchmarks.common.pages import command_line, folders
from experiments.benchmarks.cpu.page import line, write
from experiments.benchmarks.cpu.rows import CpuRow, Limits, measure
from posjax.errors import InputError

PROGRAM = "experiments.benchmarks.attention"


@dataclass(frozen=True)
class CpuOptions:
    """Compare attention with positional biases on this machine."""

    lengths: tuple[int, ...] = (512, 2048, 3000, 4096, 8192, 32768, 65536)
    encodings: tuple[str, ...] = tuple(ENCODINGS)
    """Names of encodings."""
    long_encodings: tuple[str, ...] = ("T5Bias",)
    """Which of them past `peers_up_to`, where each run takes minutes."""
    peers_up_to: int = 8192
    """The longest length for anything but ours, with the bias and without."""
    rounds: int = 7
    heads: int = 4
    head_size: int = 64
    batch: int = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    memory: float = 4.0
    """GiB that the arrays of one run may take; what needs more is left out, and the table says so."""
    longest: float = 120.0
    """Seconds that one run may take, as foretold by the length before; what would take longer is left out."""
    row_seconds: float = 2.0
    """Seconds after which a row sits out the rounds that remain."""
    quick: bool = False
    """Lengths 512 and 2048, three encodings, two rounds."""
    out: Path | None = None
    """One folder for all that is written, instead of the repository's own."""

    def chosen(self) -> CpuOptions:
        """These options, cut where `quick` asks for it. Errors: `InputError`."""
        check_names(self.encodings + self.long_encodings)
        for name in ("rounds", "heads", "batch", "memory", "longest"):
            # Written so that NaN is refused too.
            if not getattr(self, name) > 0:
                raise InputError(f"--{name} {getattr(self, name)}: needed is a positive number")
        # One token attends to itself alone, and a rotation turns channels in pairs.
        if not self.lengths or min(self.lengths) < 2 or self.head_size % 2 or self.head_size < 2:
            raise InputError(
                f"--lengths {self.lengths} --head-size {self.head_size}: needed are lengths of 2 or more "
                "and an even head size"
            )
        if self.quick:
            return replace(self, lengths=(512, 2048), encodings=("Rope", "Alibi", "T5Bias"), rounds=2)
        return self

    def cases(self) -> list[Case]:
        """What is measured, each forward and with gradients."""
        found = []
        # Short lengths first: the times of long ones are foretold from theirs.
        for length in sorted(self.lengths):
            for name in self.encodings:
                if length <= self.peers_up_to or name in self.long_encodings:
                    found += [self._case(name, length, backward) for backward in (False, True)]
        return found

    def _case(self, name: str, length: int, backward: bool) -> Case:
        return Case(name, ENCODINGS[name], length, backward, self.heads, self.head_size, self.batch, self.dtype)

    def limits(self, case: Case) -> Limits:
        """How long and how much may be measured of a case."""
        all_peers = case.length <= self.peers_up_to
        return Limits(self.rounds, self.memory, self.longest, self.row_seconds, all_peers)


def command(arguments: Sequence[str]) -> None:
    options = cli.options(CpuOptions, PROGRAM, arguments).chosen()
    rows: list[CpuRow] = []
    for case in options.cases():
        rows += measure(case, options.limits(case), rows)
        # To the other stream, so that what is piped into a file is the table alone.
        print(line(rows, case), file=sys.stderr, flush=True)
    said = command_line(PROGRAM, arguments)
    print(write(folders(options.out), said, rows))
