"""A work folder as frozen values: what was asked, and what every run of it found.

Reports read files and nothing else, so that any folder, also one copied from another machine, can be shown.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from posjax.errors import Diverged, InputError
from posjax.files import damaged, read_json
from posjax.lines import read

Value = TypeVar("Value")
Metrics = tuple[Mapping[str, float], ...]
SPELLED = {"linear": "Linear", "ntk": "NTK", "yarn": "Yarn"}
REMEDY = "remove it and run the experiment again, which writes it anew"
ORDER = {"raw": 0, "windowed": 1, "extension": 2, "fill": 3}


@dataclasses.dataclass(frozen=True)
class ReportedExperiment:
    """What was asked and how: `commands` reproduce it, `config` is the text of the config file."""

    name: str
    title: str
    question: str
    paper: str
    commands: tuple[str, ...]
    config: str
    created: str


@dataclasses.dataclass(frozen=True)
class Point:
    """A language model at one context length; losses in nats per byte, `beyond` a share of attention mass."""

    loss: float
    mean: float
    ratio: float
    low: float
    high: float
    beyond: float
    positions: tuple[float, ...]
    by_position: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Recall:
    """Retrieval at one context length: accuracy by depth, far needles first, and its standard errors."""

    accuracy: tuple[float, ...]
    error: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ReportedVariant(Generic[Value]):
    """One way to evaluate trained weights: raw, windowed, an extension, or a way to fill a learned table."""

    name: str
    label: str
    kind: str
    ended_at: float | None
    lengths: Mapping[int, Value]

    def at(self, length: int) -> Value | None:
        """What was measured at `length` multiples of the trained length; None past the end or where not run."""
        return None if self.ends_before(length) else self.lengths.get(length)

    def ends_before(self, length: int) -> bool:
        return self.ended_at is not None and length > self.ended_at


@dataclasses.dataclass(frozen=True)
class ReportedRun(Generic[Value]):
    """What language and retrieval runs share: one trained model, its variants, and where it ran."""

    name: str
    label: str
    trained_length: int
    parameters: int
    tokens: int
    lengths: tuple[int, ...]
    variants: tuple[ReportedVariant[Value], ...]
    seconds: Mapping[str, float]
    manifest: Mapping[str, Any]
    metrics: Metrics

    @property
    def raw(self) -> ReportedVariant[Value]:
        return next(variant for variant in self.variants if variant.kind == "raw")

    @property
    def windowed(self) -> ReportedVariant[Value] | None:
        return next((variant for variant in self.variants if variant.kind == "windowed"), None)

    def of_kind(self, kind: str) -> tuple[ReportedVariant[Value], ...]:
        return tuple(variant for variant in self.variants if variant.kind == kind)


@dataclasses.dataclass(frozen=True)
class ScoresByDistance:
    """Mean attention score by distance, less its value at distance 0, for random and for trained queries and keys."""

    distances: tuple[float, ...]
    random: tuple[float, ...]
    trained: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class LanguageRun(ReportedRun[Point]):
    """A language model: loss by context length, beside the unigram and bigram `yardsticks` of the same text."""

    windows: int
    yardsticks: Mapping[str, float]
    corpus: Mapping[str, Any]
    scores: ScoresByDistance | None


@dataclasses.dataclass(frozen=True)
class RetrievalRun(ReportedRun[Recall]):
    """A needle task: accuracy by length and by depth, 0 being farthest from the query."""

    chance: float
    depths: tuple[float, ...]
    queries: int


@dataclasses.dataclass(frozen=True)
class Report:
    """A work folder, read: `unfinished` names the runs without results yet, `diverged` tells why some never will."""

    folder: Path
    experiment: ReportedExperiment
    language: tuple[LanguageRun, ...]
    retrieval: tuple[RetrievalRun, ...]
    unfinished: tuple[str, ...]
    diverged: tuple[tuple[str, str], ...] = ()

    @property
    def runs(self) -> tuple[ReportedRun, ...]:
        return (*self.language, *self.retrieval)


def load(folder: str | Path) -> Report:
    """Reads the work folder of an experiment.

    `folder` holds `experiment.json` and one folder for each run, with `run.json`, `metrics.jsonl` and, once the run
    is finished, `results.json`. Runs come in the order of the optional list "runs" in experiment.json, else by name.

    Raises InputError if the folder is missing, no run in it is finished, or a file is damaged (it names the file).

    >>> load("no/such/folder")
    Traceback (most recent call last):
    posjax.errors.InputError: no/such/folder is not a folder: name the work folder of an experiment that has been run
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the work folder of an experiment that has been run")
    path = folder / "experiment.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no experiment.json, so it is not a work folder: name the folder of a run")
    tree = read_json(path, REMEDY)
    experiment = _built(path, lambda: _experiment(tree))
    order = _built(path, lambda: {str(name): index for index, name in enumerate(tree.get("runs", ()))})
    folders = sorted(
        (run for run in folder.iterdir() if _is_run(run)), key=lambda run: (order.get(run.name, len(order)), run.name)
    )
    finished = [_run(run) for run in folders if (run / "results.json").is_file()]
    rest = [run for run in folders if not (run / "results.json").is_file()]
    diverged = tuple((run.name, _reason(run)) for run in rest if (run / "diverged.json").is_file())
    unfinished = tuple(run.name for run in rest if not (run / "diverged.json").is_file())
    if not finished and diverged:
        raise Diverged(f"every run of {folder} that has ended diverged: {diverged[0][0]}, {diverged[0][1]}")
    if not finished:
        begun = f" (begun: {', '.join(unfinished)})" if unfinished else ""
        raise InputError(f"{folder} holds no finished run{begun}: run the experiment to its end, then report again")
    language = tuple(run for run in finished if isinstance(run, LanguageRun))
    retrieval = tuple(run for run in finished if isinstance(run, RetrievalRun))
    return Report(folder, experiment, language, retrieval, unfinished, diverged)


def _reason(folder: Path) -> str:
    """Why a run diverged."""
    path = folder / "diverged.json"
    return str(read_json(path, REMEDY).get("reason", "for a reason that was not kept"))


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or (folder / "results.json").is_file()


def _built(path: Path, build: Callable[[], Value]) -> Value:
    """Builds a value from the tree of a file; a missing or a wrong entry is the file's damage, not a crash."""
    try:
        return build()
    except KeyError as error:
        raise damaged(path, f"no entry {error}", REMEDY) from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise damaged(path, str(error), REMEDY) from error


def _experiment(tree: dict[str, Any]) -> ReportedExperiment:
    texts = {field: str(tree.get(field) or "") for field in ("title", "question", "paper", "config", "created")}
    return ReportedExperiment(name=str(tree["name"]), commands=_commands(tree), **texts)


def _commands(tree: dict[str, Any]) -> tuple[str, ...]:
    """Each command that filled the folder, once. Folders of posjax 0.1.0 know the last one alone."""
    told = [str(command) for command in tree.get("commands", {}).values()] or [str(tree.get("command") or "")]
    return tuple(command for command in dict.fromkeys(told) if command)


def _run(folder: Path) -> LanguageRun | RetrievalRun:
    path = folder / "results.json"
    tree = read_json(path, REMEDY)
    manifest = read_json(folder / "run.json", REMEDY) if (folder / "run.json").is_file() else {}
    _built(folder / "run.json", lambda: _held(manifest))
    builders = {"language": _language, "retrieval": _retrieval}
    if tree.get("kind") not in builders:
        raise damaged(path, f"its kind is {tree.get('kind')!r}, which is neither language nor retrieval", REMEDY)
    shared = {"manifest": manifest, "metrics": _metrics(folder / "metrics.jsonl")}
    return _built(path, lambda: builders[tree["kind"]](tree, shared))


def _language(tree: dict[str, Any], shared: dict[str, Any]) -> LanguageRun:
    scores = tree.get("scores")
    return LanguageRun(
        **_shared(tree, _point),
        **shared,
        windows=int(tree["windows"]),
        yardsticks={name: _number(loss) for name, loss in tree["yardsticks"].items()},
        corpus=dict(tree["corpus"]),
        scores=ScoresByDistance(*(_numbers(scores[field]) for field in ("distances", "random", "trained")))
        if scores
        else None,
    )


def _retrieval(tree: dict[str, Any], shared: dict[str, Any]) -> RetrievalRun:
    return RetrievalRun(
        **_shared(tree, _recall),
        **shared,
        chance=_number(tree["chance"]),
        depths=_numbers(tree["depths"]),
        queries=int(tree["queries"]),
    )


def _shared(tree: dict[str, Any], value: Callable[[dict[str, Any]], Value]) -> dict[str, Any]:
    variants = sorted((_variant(variant, value) for variant in tree["variants"]), key=lambda v: ORDER.get(v.kind, 9))
    if not variants or variants[0].kind != "raw":
        raise ValueError("no variant of kind 'raw'")
    return {
        "name": str(tree["name"]),
        "label": str(tree["label"]),
        "trained_length": int(tree["trained_length"]),
        "parameters": int(tree["parameters"]),
        "tokens": int(tree["tokens"]),
        "lengths": tuple(int(length) for length in tree["lengths"]),
        "variants": tuple(variants),
        "seconds": {name: _number(seconds) for name, seconds in tree.get("seconds", {}).items()},
    }


def _variant(tree: dict[str, Any], value: Callable[[dict[str, Any]], Value]) -> ReportedVariant[Value]:
    ended_at = tree.get("ended_at")
    name = str(tree["name"])
    return ReportedVariant(
        name,
        str(tree.get("label") or SPELLED.get(name, name)),
        str(tree["kind"]),
        None if ended_at is None else float(ended_at),
        {int(length): value(point) for length, point in tree["lengths"].items()},
    )


def _point(tree: dict[str, Any]) -> Point:
    numbers = (_number(tree[field]) for field in ("loss", "mean", "ratio", "low", "high"))
    return Point(
        *numbers,
        beyond=_number(tree.get("beyond")),
        positions=_numbers(tree.get("positions", ())),
        by_position=_numbers(tree.get("by_position", ())),
    )


def _recall(tree: dict[str, Any]) -> Recall:
    accuracy = _numbers(tree["accuracy"])
    return Recall(accuracy, _numbers(tree.get("error", (None,) * len(accuracy))))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(_number(value) for value in values)


def _held(manifest: Mapping[str, Any]) -> None:
    """Holds what is shown of a manifest to its shape: a table of versions, a list of devices, a mesh of numbers."""
    dict(manifest.get("versions") or {}).items()
    list(manifest.get("devices") or ())
    for size in dict(manifest.get("mesh") or {}).values():
        int(size)


def _metrics(path: Path) -> Metrics:
    """One entry for each step, the latest where a resumed run repeated a step."""
    lines = read(path)
    if lines.damaged:
        raise damaged(path, f"line {lines.damaged[0]}", "take that line out, or restore the file from a copy")
    return lines.steps
