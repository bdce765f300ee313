"""Work folders in, reports out: a table for the terminal, one page for the browser, figures for papers.

    >>> from posjax import report
    >>> report.show("work/quickstart")  # doctest: +SKIP
    >>> report.write("work/quickstart")  # doctest: +SKIP

Reads files only, so that a folder can be reported on any machine, without the model that made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from posjax.errors import InputError
from posjax.files import named, write_whole
from posjax.report import exports, tables
from posjax.report.comparison import compared
from posjax.report.load import load
from posjax.report.values import Report

__all__ = ["Report", "compared", "export", "load", "require_ours", "show", "write"]

PAGE = b'<p class="kicker">'
"""What the first lines of every page have, those of earlier versions too."""
FIGURE = b"posjax"
"""What every figure says of itself."""
HEAD = 100_000
"""Bytes in which that stands."""

Folders = str | Path | Sequence[str | Path]
"""A work folder, or several that are compared."""


def write(folder: Folders, to: str | Path | None = None) -> list[Path]:
    """Writes `report.html` and `figures/*.png` into the work folder, or into another, and returns their paths, the page
    first. Several folders make one report, which compares them.

    Each file is written whole or not at all, so that a report can be made again at any time.

    Errors: `InputError` where a folder cannot be read as a work folder, or not be written, for several folders without
    `to`, and where files of other kinds have the names of these.
    """
    report = _read(folder)
    if to is None and len(_listed(folder)) > 1:
        raise InputError("a comparison of several folders is written into none of them: name a folder for it with --to")
    target = report.folder
    # Elsewhere where the folder may only be read, such as one copied from another machine.
    if to is not None:
        target = Path(to)
    require_ours(target)
    # The libraries that draw take a second to import, which a command that draws nothing need not wait for.
    from posjax.report import figures, page

    written = page.write(report, target / "report.html")
    return [written, *figures.write(report, target / "figures")]


def require_ours(folder: Path) -> None:
    """Errors: `InputError` where a folder holds another page or other figures by the names of a report's."""
    marks = {folder / "report.html": PAGE}
    marks |= dict.fromkeys((folder / "figures").glob("*.png"), FIGURE)
    for path, mark in marks.items():
        # What nobody can read is refused where it is written.
        if path.is_file() and mark not in path.read_bytes()[:HEAD]:
            raise InputError(f"{path} is not of a report, and would be replaced: take it away, or name another folder")


def show(folder: Folders, console: Console | None = None) -> None:
    """Prints the report's tables and its verdict in words. Errors: `InputError` for a folder that cannot be read."""
    tables.show(_read(folder), console or Console())


def export(folder: Folders, csv: str | Path | None = None, latex: str | Path | None = None) -> list[Path]:
    """Writes every measurement as one table, and a LaTeX tabular of each metric, where a path is given for it.

    Errors: `InputError` for a folder that cannot be read, or whose results are of posjax 0.1.0, which had no table,
    for one file that is named for both, and for a file that is none or is kept by a run.
    """
    # The second would replace the first.
    if csv is not None and latex is not None and Path(csv).resolve() == Path(latex).resolve():
        raise InputError(f"{csv} was named for the table and for the tabulars: name two files")
    report, written = _read(folder), []
    if csv is not None:
        written.append(write_whole(named(Path(csv)), exports.table(report).csv().encode()))
    if latex is not None:
        written.append(write_whole(named(Path(latex)), exports.latex(report).encode()))
    return written


def _read(folder: Folders) -> Report:
    folders = _listed(folder)
    if len(folders) == 1:
        return load(folders[0])
    return compared(folders)


def _listed(folder: Folders) -> list[Path]:
    if isinstance(folder, str | Path):
        return [Path(folder)]
    if not folder:
        raise InputError("no folder to report on: name the work folder of an experiment that has been run")
    return [Path(each) for each in folder]
