"""Results of record: what a suite measured, as one long table and the story of how, in files small enough to keep.

`experiments/results/NAME/table.csv` is the table of `posjax.results`, and `about.json` says which commands made it, of
which commit, on which day and machine, with which versions, and what is missing. Neither names a path of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posjax.errors import InputError
from posjax.files import json_bytes, read_json, write_whole
from posjax.results import Measurements

RESULTS = Path(__file__).parent / "results"
TABLE = "table.csv"
ABOUT = "about.json"


@dataclass(frozen=True)
class Record:
    """The results of one suite: their table, and what is told of them."""

    table: Measurements
    about: Mapping[str, Any]


def names(folder: Path = RESULTS) -> tuple[str, ...]:
    """The suites that have a record."""
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{TABLE}")))


def read(name: str, folder: Path = RESULTS) -> Record:
    """The record of a suite. Errors: `InputError` where there is none, or it is damaged."""
    path = folder / name / TABLE
    if not path.is_file():
        raise InputError(f"there are no results of {name}: kept are {', '.join(names(folder)) or 'none'}")
    # Rows of another hand may lack a cell, which is an error of ours to name and no traceback.
    try:
        table = Measurements.from_csv(path.read_text())
    except (InputError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): write it anew with python -m experiments.record") from error
    return Record(table, read_json(folder / name / ABOUT))


def tables(folder: Path = RESULTS) -> dict[str, Measurements]:
    """The tables of all records, by suite."""
    return {name: read(name, folder).table for name in names(folder)}


def write(record: Record, folder: Path) -> tuple[Path, Path]:
    """Writes a record into a folder of its own, and returns the paths. Errors: `StorageError`."""
    # The table first: without its story it is still the numbers, and not the other way round.
    table = write_whole(folder / TABLE, record.table.csv().encode())
    about = write_whole(folder / ABOUT, json_bytes(dict(record.about)))
    return table, about
