"""Evaluate the trained runs of a config, anew.

    python -m experiments.evaluate configs/quickstart.py [--work DIR] [--only NAME ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from experiments import cli
from posjax import run as runs


def command(arguments: Sequence[str]) -> None:
    options, request = cli.read(cli.Common, "experiments.evaluate", arguments)
    console = Console()
    for run in request.experiment.runs:
        folder = request.folder(options, run)
        runs.evaluate(run, folder, runs.restore(run, folder))
        console.print(f"{run.name}: evaluated, {folder / 'results.json'}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(cli.main(command))
