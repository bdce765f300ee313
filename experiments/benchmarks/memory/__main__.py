"""`python -m experiments.benchmarks.memory`."""

from __future__ import annotations

from experiments import cli
from experiments.benchmarks.memory.program import command

if __name__ == "__main__":
    cli.program(command)
