"""Train the runs of a config, without evaluating them.

python -m experiments.train configs/quickstart.py [--work DIR] [--only NAME ...] [--train.steps N ...]
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments import cli
from experiments.processes import together
from experiments.run import write_experiment
from posjax import runs
from posjax.errors import Diverged
from posjax.training import launch


def command(arguments: Sequence[str]) -> None:
    with together(arguments) as rest:
        _command(rest)


def _command(arguments: Sequence[str]) -> None:
    options, request = cli.read(cli.Common, "experiments.train", arguments)
    console = cli.console()
    console.quiet = not launch.first()
    # Before the first run: a folder of another config is refused while nothing is spent.
    if launch.first():
        write_experiment(request, options)
    launch.meet("what was asked is written")
    say = cli.teller(console)
    # One that diverges is told of at the end: the others can be trained without it.
    diverged = []
    for run in request.experiment.runs:
        folder = request.folder(options, run)
        try:
            runs.train(run, folder, cli.progress_from(run, console), say=say)
        except Diverged as why:
            say(f"{run.name}: diverged, {why}")
            diverged.append(run.name)
        else:
            say(f"{run.name}: trained to step {run.train.steps}")
    if diverged:
        raise Diverged(
            f"of {len(request.experiment.runs)} runs {len(diverged)} diverged, {', '.join(diverged)}: the others are "
            "trained"
        )


if __name__ == "__main__":
    cli.program(command)
