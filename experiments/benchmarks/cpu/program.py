"""Attention with each encoding on this machine: ours, `jax.nn` with the whole bias, and PyTorch's, in turns.

    python -m experiments.benchmarks.attention            every length and peer, about a quarter of an hour
    python -m experiments.benchmarks.attention --quick    two lengths, a few encodings, about two minutes

Writes attention.json, attention.md and attention.png into a folder, docs/benchmarks unless told otherwise, and prints
the table. Peers that are not installed are left out, and the table says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from experiments import cli
from experiments.benchmarks.common.cases import ENCODINGS, Case
from experiments.benchmarks.cpu.page import line, write
from experiments.benchmarks.cpu.rows import Limits, measure
from posjax.errors import InputError

PROGRAM = "experiments.benchmarks.attention"


@dataclass(frozen=True)
class Options:
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
    out: Path = Path("docs/benchmarks")
    """The folder of the results."""

    def chosen(self) -> Options:
        """These options, cut where `quick` asks for it. Errors: `InputError`."""
        for name in self.encodings + self.long_encodings:
            if name not in ENCODINGS:
                raise InputError(f"there is no encoding {name!r} here: take some of {', '.join(ENCODINGS)}")
        for name in ("rounds", "heads", "batch", "memory", "longest"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name} {getattr(self, name)}: needed is a positive number")
        if not self.lengths or min(self.lengths) < 2 or self.head_size % 2 or self.head_size < 2:
            raise InputError(
                f"--lengths {self.lengths} --head-size {self.head_size}: needed are lengths of 2 or more "
                "and an even head size"
            )
        if self.quick:
            return replace(self, lengths=(512, 2048), encodings=("Rope", "Alibi", "T5Bias"), rounds=2)
        return self

    def cases(self) -> list[Case]:
        """What is measured, short lengths first, each forward and with gradients."""
        return [
            Case(name, ENCODINGS[name], length, backward, self.heads, self.head_size, self.batch, self.dtype)
            for length in sorted(self.lengths)
            for name in self.encodings
            for backward in (False, True)
            if length <= self.peers_up_to or name in self.long_encodings
        ]


def command(arguments: Sequence[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        tyro.cli(Options, prog=f"python -m {PROGRAM}", args=["--help"])
    options, unknown = cli.parse(Options, PROGRAM, arguments)
    if unknown:
        raise InputError(f"unknown option {unknown[0]}; see python -m {PROGRAM} --help")
    options = options.chosen()
    rows = []
    for case in options.cases():
        limits = Limits(
            options.rounds, options.memory, options.longest, options.row_seconds, case.length <= options.peers_up_to
        )
        rows += measure(case, limits, rows)
        print(line(rows, case), file=sys.stderr, flush=True)
    print(write(options.out, f"python -m {PROGRAM} " + " ".join(arguments), rows))
