"""Keep the finished runs of a work folder as a record: one long table, and how it was made.

python -m experiments.record runs/extrapolation
python -m experiments.record runs/extrapolation --to experiments/results/extrapolation --metrics loss loss_ratio
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments import cli, records, work_folders
from experiments.benchmarks.common.machine import machine
from posjax import workfolder
from posjax.errors import InputError
from posjax.files import built, read_json, require_folder
from posjax.report.load import copied
from posjax.results import Coordinate, Measurement, Measurements

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 300_000
"""Bytes of a table, which a repository keeps for ever."""
HEADLINE = ("loss", "loss_ratio", "mean_loss", "accuracy", "exact", "effective_context")
"""Metrics that are never left out by themselves."""
ALWAYS = ("seconds_train", "seconds_evaluate", "tokens", "parameters", "diverged")
"""One row a run, whichever metrics are asked for."""


@dataclass(frozen=True)
class RecordOptions:
    """Keep the finished runs of a work folder as a table and how it was made."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A folder that experiments.run wrote, such as runs/extrapolation."""
    to: Path | None = None
    """The folder of the record; experiments/results/NAME of the config unless given."""
    metrics: tuple[str, ...] = ()
    """Only these metrics; all of them unless given, as far as the table stays below 300 kB."""


@dataclass(frozen=True)
class Gathered:
    """What a work folder holds: rows of the runs that finished, and the names of those that did not."""

    rows: tuple[Measurement, ...]
    manifests: tuple[dict[str, Any], ...]
    texts: tuple[str, ...]
    diverged: tuple[str, ...]
    unfinished: tuple[str, ...]


def command(arguments: Sequence[str]) -> None:
    options = cli.options(RecordOptions, "experiments.record", arguments, "the one argument is a folder of runs")
    # Everything is read before anything is written, so that a mistake leaves the record as it was.
    asked = _experiment(options.folder)
    gathered = gather(options.folder, asked)
    kept, left_out = fitting(Measurements(gathered.rows), options.metrics)
    target = options.to
    if target is None:
        target = records.RESULTS / str(asked["name"])
    told = about(asked, gathered, kept, left_out)
    _require_own(target, told)
    for path in records.write(records.Record(kept, told), target):
        print(path)
    for metric in left_out:
        print(f"left out, to stay below {LARGEST // 1000} kB: {metric}")
    if gathered.unfinished:
        print(f"{len(gathered.unfinished)} not finished, and not in it: {', '.join(gathered.unfinished)}")


def _experiment(folder: Path) -> dict[str, Any]:
    path = folder / "experiment.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no experiment.json: name a folder that experiments.run writes")
    asked = work_folders.asked(folder)
    # All runs that are there, and not those of the last command alone: a record would lose what it had of the others.
    names = [name for name in work_folders.run_names(folder) if name in asked["runs"] or not copied(folder / name)]
    return {**asked, "runs": names}


def _require_own(target: Path, told: Mapping[str, Any]) -> None:
    """Errors: `InputError` where a record of another suite, or of the same on another text, would be replaced."""
    require_folder(target)
    path = target / records.ABOUT
    if not path.is_file():
        if (target / records.TABLE).exists():
            raise InputError(
                f"{target} holds a {records.TABLE} that nothing says whose it is: name another --to, or take that away"
            )
        return
    there = read_json(path)
    for what, name in (("name", "the record of"), ("corpora", "a record on the text")):
        if there.get(what) != told[what]:
            raise InputError(
                f"{target} holds {name} {there.get(what)!r}, and this is one of {told[what]!r}: name another --to, or "
                "take that away"
            )


def gather(folder: Path, asked: dict[str, Any]) -> Gathered:
    """The rows of each run of a work folder, in the order of its config. Errors: `InputError` where none finished."""
    rows: list[Measurement] = []
    manifests = []
    texts = []
    diverged = []
    unfinished = []
    # In the order of the config, in which the runs may have finished or not.
    for name in asked["runs"]:
        if (folder / name / "diverged.json").is_file():
            # A row that says so: a method that is missing from a table looks as if nobody had tried it.
            diverged.append(name)
            rows.append(_diverged(asked["name"], workfolder.read(folder / name)))
        elif not workfolder.finished(folder / name):
            unfinished.append(name)
        else:
            # First whose they are: without it, nothing tells results from those of another run.
            manifest = workfolder.read(folder / name)
            manifests.append(manifest)
            texts.append(_text(manifest))
            rows += _rows_of_run(asked["name"], manifest, folder / name)
    if not manifests:
        raise InputError(f"no run of {folder} has finished: give the command of experiments.run again first")
    return Gathered(tuple(rows), tuple(manifests), tuple(texts), tuple(diverged), tuple(unfinished))


def _rows_of_run(suite: str, manifest: dict[str, Any], folder: Path) -> list[Measurement]:
    """The rows of a run's folder. Errors: `InputError` where its results are not what its evaluation wrote."""
    path = folder / "results.json"
    # Results that were changed since by hand are no measurement.
    workfolder.check_results(folder)
    results = read_json(path, workfolder.ANEW)
    return built(path, lambda: rows_of(suite, manifest, results), workfolder.ANEW)


def rows_of(suite: str, manifest: dict[str, Any], results: dict[str, Any]) -> list[Measurement]:
    """The measurements of one run and what it took, each with the run's own coordinates before those it has.

    Errors: `InputError` for results without a table.
    """
    if "measurements" not in results:
        raise InputError(f"the results of {results.get('name')} hold no measurements: evaluate it anew")
    of_run = _coordinates(suite, manifest)
    # Of a published model nothing was trained, and its seconds are null.
    seconds = results.get("seconds") or {}
    took = {f"seconds_{name}": spent for name, spent in seconds.items()}
    took |= {name: results[name] for name in ("tokens", "parameters") if name in results}
    rows = [Measurement(name, float(value), coordinates=of_run) for name, value in took.items() if value is not None]
    for row in Measurements.from_tree(results["measurements"]):
        # Of the run first, so that the columns of every record begin alike.
        rows.append(replace(row, coordinates={**of_run, **row.coordinates}))
    return rows


def _coordinates(suite: str, manifest: dict[str, Any]) -> dict[str, Coordinate]:
    label = str(manifest.get("label") or manifest["name"])
    found: dict[str, Coordinate] = {"suite": suite, "run": str(manifest["name"]), "label": label}
    seed = manifest["config_tree"].get("seed")
    if seed is not None:
        found["seed"] = seed
    return found


def _diverged(suite: str, manifest: dict[str, Any]) -> Measurement:
    return Measurement("diverged", 1.0, coordinates=_coordinates(suite, manifest))


def _text(manifest: dict[str, Any]) -> str:
    """By which fingerprint a run's text is known again; empty for a task."""
    return str(manifest.get("corpus") or "")


def fitting(table: Measurements, metrics: Sequence[str] = ()) -> tuple[Measurements, list[str]]:
    """A table below the limit, and the metrics that were left out: the bulkiest first, never one of `HEADLINE`.

    `metrics`: only these, whatever they are. Errors: `InputError` for one that was not measured, or for a table that
    would still be too large.
    """
    measured = sorted({row.metric for row in table})
    unknown = sorted(set(metrics) - set(measured))
    if unknown:
        raise InputError(f"{unknown[0]} was not measured: there are {', '.join(measured)}")
    # What was asked for by name is kept whole or refused, never thinned out.
    if metrics:
        kept = (*metrics, *ALWAYS)
        table = Measurements(tuple(row for row in table if row.metric in kept))
    left_out: list[str] = []
    while len(table.csv()) > LARGEST:
        rows = Counter(row.metric for row in table if row.metric not in (*HEADLINE, *ALWAYS, *metrics))
        if not rows:
            raise InputError(f"the table is above {LARGEST // 1000} kB: keep fewer metrics with --metrics")
        # Of two with as many rows the later by name, so that the same table gives the same bytes.
        bulkiest = max(rows, key=lambda metric: (rows[metric], metric))
        left_out.append(bulkiest)
        table = Measurements(tuple(row for row in table if row.metric != bulkiest))
    return table, left_out


def about(asked: dict[str, Any], gathered: Gathered, kept: Measurements, left_out: Sequence[str]) -> dict[str, Any]:
    """How a record was made: nothing in it depends on when or where it is written, but for the machine's name."""
    # As they were typed, each once: a folder may have been filled by several.
    commands = {name: _portable(command) for name, command in asked["commands"].items()}
    here = machine()
    return {
        "name": asked["name"],
        "title": asked.get("title"),
        "question": asked.get("question"),
        "paper": asked.get("paper"),
        "command": _portable(asked.get("command")),
        "commands": list(dict.fromkeys(commands[name] for name in asked["runs"] if name in commands)),
        "date": asked.get("created"),
        "commits": _distinct(manifest.get("commit") for manifest in gathered.manifests),
        "machine": {name: here[name] for name in ("processor", "cores")},
        "devices": _distinct(manifest.get("device_kind") for manifest in gathered.manifests),
        "versions": _distinct(manifest.get("versions") for manifest in gathered.manifests),
        "corpora": _distinct(text for text in gathered.texts if text),
        "seconds": _seconds(kept),
        "runs": len(gathered.manifests),
        "diverged": list(gathered.diverged),
        "unfinished": list(gathered.unfinished),
        "metrics": sorted({row.metric for row in kept}),
        "left_out": list(left_out),
    }


def _portable(command: str | None) -> str | None:
    """A command as others can give it: a config of this project by its name here, and not by its place on a machine.

    >>> _portable("python -m experiments.run /home/me/clone/configs/quickstart.py --only rope")
    'python -m experiments.run configs/quickstart.py --only rope'
    """
    if command is None:
        return None
    words = []
    for word in command.split(" "):
        own = Path("configs", Path(word).name)
        is_own = Path(word).is_absolute() and Path(word).parent.name == "configs" and (ROOT / own).is_file()
        words.append(str(own) if is_own else word)
    return " ".join(words)


def _seconds(table: Measurements) -> dict[str, float]:
    """The seconds by the clock of all runs together, by what they were spent on."""
    found = {}
    for name in ("train", "evaluate"):
        spent = [row.value for row in table.select(f"seconds_{name}")]
        found[name] = round(math.fsum(spent), 1)
    return found


def _distinct(values: Iterator[Any]) -> list[Any]:
    """Each of some plain values once, in the order of their first."""
    # Dictionaries among them have no hash.
    seen = {json.dumps(value, sort_keys=True): value for value in values}
    return list(seen.values())


if __name__ == "__main__":
    cli.program(command)
