"""The CPU benchmark by its name on the command line: `python -m experiments.benchmarks.attention`."""

from __future__ import annotations

# The folder is named after the device, as the GPU's is; the command after what it measures, as it always was.
from experiments import cli
from experiments.benchmarks.cpu.program import command

if __name__ == "__main__":
    cli.program(command)
