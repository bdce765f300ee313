"""`python -m experiments.benchmarks.numerics`."""

from __future__ import annotations

from experiments import cli
from experiments.benchmarks.numerics.program import command

if __name__ == "__main__":
    cli.program(command)
