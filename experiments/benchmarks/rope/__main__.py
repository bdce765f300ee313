"""`python -m experiments.benchmarks.rope`."""

from __future__ import annotations

from experiments import cli
from experiments.benchmarks.rope.program import command

if __name__ == "__main__":
    cli.program(command)
