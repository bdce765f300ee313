"""Train the runs of a config, without evaluating them.

python -m experiments.train configs/quickstart.py [--work DIR] [--only NAME ...] [--train.steps N ...]
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments import cli
from experiments.run import write_experiment
from posjax import runs


def command(arguments: Sequence[str]) -> None:
    options, request = cli.read(cli.Common, "experiments.train", arguments)
    console = cli.console()
    # Before the first run: a folder of another config is refused while nothing is spent.
    write_experiment(request, options)
    for run in request.experiment.runs:
        folder = request.folder(options, run)
        runs.train(run, folder, cli.progress_from(run, console), say=cli.teller(console))
        console.print(f"{run.name}: trained to step {run.train.steps}", markup=False, highlight=False)


if __name__ == "__main__":
    cli.program(command)
