"""Work folders in, reports out: a table for the terminal, one page for the browser, figures for papers.

    >>> from posjax import report
    >>> report.show("work/quickstart")  # doctest: +SKIP
    >>> report.write("work/quickstart")  # doctest: +SKIP

Reads files only, so that a folder can be reported on any machine, without the model that made it.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from posjax.report import figures, page, tables
from posjax.report.load import load
from posjax.report.values import Report

__all__ = ["Report", "load", "show", "write"]


def write(folder: str | Path, to: str | Path | None = None) -> list[Path]:
    """Writes `report.html` and `figures/*.png` into the work folder, or into another, and returns their paths, the page
    first.

    Each file is written whole or not at all, so that a report can be made again at any time.

    Errors: `InputError` where the folder cannot be read as a work folder, or not be written.
    """
    report = load(folder)
    target = report.folder
    # Elsewhere where the folder may only be read, such as one copied from another machine.
    if to is not None:
        target = Path(to)
    written = page.write(report, target / "report.html")
    return [written, *figures.write(report, target / "figures")]


def show(folder: str | Path, console: Console | None = None) -> None:
    """Prints the report's tables and its verdict in words. Errors: `InputError` for a folder that cannot be read."""
    tables.show(load(folder), console or Console())
