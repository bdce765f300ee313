"""How exact the encodings are, far out: angles, rotated products and biases against arithmetic of 60 digits.

python -m experiments.benchmarks.numerics                       prints the table
python -m experiments.benchmarks.numerics --out docs/numerics.md  and writes the page
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import cli
from experiments.benchmarks.numerics import rows
from experiments.benchmarks.numerics.page import markdown, write
from experiments.benchmarks.numerics.reference import mp
from posjax.errors import InputError

PROGRAM = "experiments.benchmarks.numerics"


@dataclass(frozen=True)
class NumericsOptions:
    """Measure how exact the encodings are at far positions."""

    out: Path | None = None
    """A Markdown file to write the page to."""


def command(arguments: Sequence[str]) -> None:
    options = cli.options(NumericsOptions, PROGRAM, arguments, "the only one is --out FILE")
    # Asked here and not on import: the help is there without it.
    if mp is None:
        raise InputError("arithmetic of 60 digits needs mpmath: python -m pip install -e '.[test]'")
    measured = list(rows.measure())
    table = markdown(measured)
    print(table)
    if options.out is not None:
        write(options.out, table)
