"""Show the table of a folder of runs and write its page and figures, from its files alone.

python -m experiments.report runs/quickstart
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments import cli
from experiments.run import finish


@dataclass(frozen=True)
class ReportOptions:
    """Write the report of a folder of runs anew."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A folder that experiments.run wrote, such as runs/quickstart."""
    to: Path | None = None
    """Another folder for the page and its figures, where that of the runs may only be read."""


def command(arguments: Sequence[str]) -> None:
    remedy = "the one argument is a folder, such as runs/quickstart"
    options = cli.options(ReportOptions, "experiments.report", arguments, remedy)
    # As at the end of experiments.run, whose table and page these are.
    finish(options.folder, cli.console(), to=options.to)


if __name__ == "__main__":
    cli.program(command)
