"""Evaluate the trained runs of a config, anew.

python -m experiments.evaluate configs/quickstart.py [--work DIR] [--only NAME ...] [--to DIR]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import cli
from experiments.run import write_experiment
from posjax import runs, workfolder


@dataclass(frozen=True)
class EvaluateOptions(cli.Common):
    """Evaluate trained runs anew."""

    to: Path | None = None
    """Another folder for the results, where that of the runs may only be read; a report can be made there."""


def command(arguments: Sequence[str]) -> None:
    options, request = cli.read(EvaluateOptions, "experiments.evaluate", arguments)
    console = cli.console()
    if options.to is not None:
        # All of them before the first is measured, which may take minutes.
        for run in request.experiment.runs:
            workfolder.check_target(run, options.to / run.name)
        write_experiment(request, options, options.to)
    for run in request.experiment.runs:
        folder = request.folder(options, run)
        to = None
        if options.to is not None:
            to = options.to / run.name
        say = cli.teller(console)
        runs.evaluate(run, folder, runs.restore(run, folder, say), to=to, say=say)
        console.print(f"{run.name}: evaluated, {(to or folder) / 'results.json'}", markup=False, highlight=False)


if __name__ == "__main__":
    cli.program(command)
