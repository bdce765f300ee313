"""Show the table of a folder of runs and write its page and figures, from its files alone; or compare several folders.

python -m experiments.report runs/quickstart
python -m experiments.report runs/quickstart --csv table.csv --latex tables.tex
python -m experiments.report runs/first runs/second --to runs/compared
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments import cli
from experiments.run import finish
from posjax import report
from posjax.errors import InputError
from posjax.files import named, require_folder


@dataclass(frozen=True)
class ReportOptions:
    """Write the report of a folder of runs anew, or one that compares several."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that experiments.run wrote, such as runs/quickstart."""
    to: Path | None = None
    """Another folder for the page and its figures: where that of the runs may only be read, or there are several."""
    csv: Path | None = None
    """A file for every measurement, one a line."""
    latex: Path | None = None
    """A file for a tabular of each metric."""


def command(arguments: Sequence[str]) -> None:
    remedy = "the arguments are folders, such as runs/quickstart"
    options = cli.options(ReportOptions, "experiments.report", arguments, remedy)
    if not options.folders:
        raise InputError("no folder is named: needed is one that experiments.run wrote, such as runs/quickstart")
    # Before the page is written: a name that cannot be is told at once.
    for path in (options.csv, options.latex):
        if path is not None:
            named(path)
    if options.to is not None:
        require_folder(options.to)
    console = cli.console()
    # As at the end of experiments.run, whose table and page these are.
    finish(options.folders, console, to=options.to)
    for path in report.export(options.folders, options.csv, options.latex):
        console.print(f"Exported: {path}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    cli.program(command)
