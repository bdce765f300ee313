"""A work folder, read: which runs are finished, which are not, and which never will be.

Reports read files and nothing else, so that any folder, also one copied from another machine, can be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posjax.errors import Diverged, InputError
from posjax.files import REMEDY, built, damaged, read_json
from posjax.lines import read, sources, through
from posjax.report import by_variant, trees
from posjax.report.seeds import gathered
from posjax.report.values import LanguageRun, MeasuredRun, Metrics, Report, ReportedRun, RetrievalRun


def load(folder: str | Path) -> Report:
    """Reads the work folder of an experiment.

    `folder` holds `experiment.json` and one folder for each run, with `run.json`, `metrics.jsonl` and, once the run
    is finished, `results.json`. Runs come in the order of the optional list "runs" in experiment.json, else by name.

    Errors: `InputError` if the folder is missing, no run in it is finished, or a file is damaged (it names the file);
    `Diverged` if every run that has ended diverged.

    >>> load("no/such/folder")
    Traceback (most recent call last):
    posjax.errors.InputError: no/such/folder is not a folder: name the work folder of an experiment that has been run
    """
    folder = Path(folder)
    path = _experiment_file(folder)
    tree = read_json(path, REMEDY)
    experiment = built(path, lambda: trees.experiment(tree))
    # By name alone, learned would stand after alibi, whatever order the config explains them in.
    order = built(path, lambda: trees.order_of_runs(tree))
    every = _run_folders(folder, order)
    copies = tuple((run.name, name) for run in every if (name := copied(run)))
    folders = [run for run in every if not copied(run)]
    finished = gathered([found for run in folders if _is_finished(run) for found in _measured(run)])
    rest = [run for run in folders if not _is_finished(run)]
    # A run that diverged has no results and never will: it is told apart from one that may still go on.
    diverged = tuple((run.name, _reason(run)) for run in rest if _has_diverged(run))
    unfinished = tuple(run.name for run in rest if not _has_diverged(run))
    _refuse_nothing_to_report(folder, finished, diverged, unfinished)
    # By task: nothing that is measured of one can be measured of the other.
    language = tuple(run for run in finished if isinstance(run, LanguageRun))
    retrieval = tuple(run for run in finished if isinstance(run, RetrievalRun))
    other = tuple(run for run in finished if isinstance(run, MeasuredRun))
    return Report(folder, experiment, language, retrieval, unfinished, diverged, copies, other)


def _experiment_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the work folder of an experiment that has been run")
    path = folder / "experiment.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no experiment.json, so it is not a work folder: name the folder of a run")
    return path


def _run_folders(folder: Path, order: dict[str, int]) -> list[Path]:
    # Other folders may stand beside the runs, such as the report's own figures.
    found = [entry for entry in folder.iterdir() if _is_run(entry)]
    return sorted(found, key=lambda run: (order.get(run.name, len(order)), run.name))


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or _is_finished(folder)


def copied(folder: Path) -> str | None:
    """The run that a folder is a copy of, by what its files say; `None` where it is called as its run is."""
    for file in ("run.json", "results.json"):
        if (folder / file).is_file():
            name = read_json(folder / file, REMEDY).get("name")
            if name == folder.name:
                return None
            if name is not None:
                return str(name)
    return None


def _is_finished(folder: Path) -> bool:
    return (folder / "results.json").is_file()


def _has_diverged(folder: Path) -> bool:
    return (folder / "diverged.json").is_file()


def _reason(folder: Path) -> str:
    """Why a run diverged."""
    tree = read_json(folder / "diverged.json", REMEDY)
    return str(tree.get("reason", "for a reason that was not kept"))


def _refuse_nothing_to_report(
    folder: Path,
    finished: Sequence[ReportedRun],
    diverged: Sequence[tuple[str, str]],
    unfinished: Sequence[str],
) -> None:
    if finished:
        return
    # The same command would diverge again: this error has an exit code of its own.
    if diverged:
        name, reason = diverged[0]
        raise Diverged(f"every run of {folder} that has ended diverged: {name}, {reason}")
    begun = ""
    if unfinished:
        begun = f" (begun: {', '.join(unfinished)})"
    raise InputError(f"{folder} holds no finished run{begun}: run the experiment to its end, then report again")


def _measured(folder: Path) -> list[ReportedRun]:
    """What each evaluation of a run has measured."""
    path = folder / "results.json"
    results = read_json(path, REMEDY)
    manifest = _manifest(folder / "run.json")
    shared = {"manifest": manifest, "metrics": _metrics(folder, manifest), "path": folder}
    shared["seed"] = built(path, lambda: trees.seed(results, manifest))
    trees_of_run = [results]
    # Results of posjax 0.1.0 are such a tree already, that of one evaluation.
    if "measurements" in results:
        trees_of_run = built(path, lambda: by_variant.trees(results))
    builders = {"language": trees.language, "retrieval": trees.retrieval, "other": trees.other}
    for tree in trees_of_run:
        if tree.get("kind") not in builders:
            raise damaged(path, f"its kind is {tree.get('kind')!r}, which is neither language nor retrieval", REMEDY)
    return built(path, lambda: [builders[tree["kind"]](tree, shared) for tree in trees_of_run])


def _manifest(path: Path) -> dict[str, Any]:
    """How a run was made. Results without it can still be shown, so it may be missing, but not be damaged."""
    if not path.is_file():
        return {}
    manifest = read_json(path, REMEDY)
    built(path, lambda: trees.hold_manifest(manifest))
    return manifest


def _metrics(folder: Path, manifest: dict[str, Any]) -> Metrics:
    """One entry for each step, the latest where a resumed run repeated a step; of stages one after the other."""
    every = []
    for path, training in sources(folder, manifest):
        lines = read(path, training)
        if lines.others:
            raise InputError(
                f"{path} holds lines of another run (line {lines.others[0]}): put this run's own file in its place, or "
                "take it away, and curves of training are left out"
            )
        # A curve with a hole would look like one without: what is damaged is told, not left out.
        if lines.damaged:
            raise damaged(path, f"line {lines.damaged[0]}", "take that line out, or restore the file from a copy")
        every.append(lines)
    return through(every)
