"""A folder's numbers for other programs: one long table as CSV, and a LaTeX tabular of each metric."""

from __future__ import annotations

from collections import Counter

from posjax.errors import InputError
from posjax.files import REMEDY, built, read_json
from posjax.report.marks import digits
from posjax.report.seeds import method
from posjax.report.sheets import Sheet, has_interval, in_brackets, of_table, thinned
from posjax.report.values import Report, ReportedRun
from posjax.results import Coordinate, Measurement, Measurements

COLUMNS = 10
"""Columns of a tabular: a page has no room for more."""
ALONE = "numbers"
"""The coordinate that a tabular has its one column by, where no coordinate varies."""


def table(report: Report) -> Measurements:
    """Every measurement of every finished run, with the coordinates `run`, `label` and `seed` before its own.

    A label here is a method's, without the seed, so that `averaged("seed")` of what has no `run` is the report's mean.
    Errors: `InputError` for results of posjax 0.1.0, which are no table.
    """
    every = Measurements()
    for run in report.each:
        every += _of_run(run)
    return every


def _of_run(run: ReportedRun) -> Measurements:
    # What was put together in memory has no file that holds its rows.
    if run.path is None:
        raise InputError(f"{run.name} was not read from a folder: export what report.load gives")
    path = run.path / "results.json"
    results = read_json(path, REMEDY)
    if "measurements" not in results:
        raise InputError(f"{path} is of posjax 0.1.0 and holds no table to export: evaluate that run again")
    measured = built(path, lambda: Measurements.from_tree(results["measurements"]))
    placed: dict[str, Coordinate] = {"run": run.name, "label": method(run)}
    if run.seed is not None:
        placed["seed"] = run.seed
    # Before its own coordinates, as a reader of the file looks for them.
    return Measurements(tuple(_led_by(row, placed) for row in measured))


def _led_by(row: Measurement, first: dict) -> Measurement:
    return Measurement(row.metric, row.value, row.low, row.high, row.count, {**first, **row.coordinates})


def latex(report: Report) -> str:
    """A tabular of each metric of each evaluation, and of each place along the coordinates that are no columns of it.

    Rows are methods, with what was tried on them; several seeds are their mean. Errors: as `table`.
    """
    named = _labels(report)
    rows = [row.placed(label=named[str(row.at("run"))]) for row in table(report)]
    return "\n".join(_tabulars(sheet) for sheet in of_table(Measurements(tuple(rows))))


def _labels(report: Report) -> dict[str, str]:
    """A label for each run: two of one label that are no seeds of each other are two rows, and tell their names."""
    many = Counter((run.task, getattr(run, "evaluation", ""), run.label) for run in report.evaluated)
    named: dict[str, str] = {}
    for run in report.evaluated:
        label = run.label
        if many[run.task, getattr(run, "evaluation", ""), run.label] > 1:
            label = f"{run.label} ({run.name})"
        # Seeds of one method are one row, whatever they are called.
        for member in run.each:
            named.setdefault(member.name, label)
    return named


def _tabulars(sheet: Sheet) -> str:
    axis = ALONE
    if sheet.axes:
        axis = sheet.axes[0]
    written = ""
    for place, taken in sheet.facets(without=(axis,)).items():
        written += f"% {sheet.evaluation}: {sheet.title}{in_brackets(place)}\n"
        if any(has_interval(row) for row in taken):
            written += "% in small the 95 % interval\n"
        rows = [_named(row, axis) for row in taken]
        # A page is only so wide: the columns that stay are spread over all of them.
        kept = thinned(sorted({row.coordinates[axis] for row in rows}, key=_order), COLUMNS)
        ordered = [row for head in kept for row in rows if row.coordinates[axis] == head]
        written += Measurements(tuple(ordered)).latex("method", axis, _cell)
    return written


def _named(row: Measurement, axis: str) -> Measurement:
    """A row under one name of its method and variant, in a column of its own where it has none."""
    label, variant = row.at("label"), row.at("variant")
    name = str(label)
    if variant not in (None, "raw"):
        name = f"{label}, {variant}"
    head = row.coordinates.get(axis, row.metric)
    return Measurement(row.metric, row.value, row.low, row.high, row.count, {"method": name, axis: head})


def _order(value: object) -> tuple[bool, float, str]:
    # Numbers by size, and before words.
    if isinstance(value, int | float):
        return False, float(value), ""
    return True, 0.0, str(value)


def _cell(row: Measurement) -> str:
    if not has_interval(row):
        return digits(row.value)
    return f"{digits(row.value)} {{\\scriptsize [{digits(row.low)}, {digits(row.high)}]}}"
