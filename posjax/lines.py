"""The lines that training writes, read again: the latest of each step, and what of the file is damaged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posjax.errors import InputError

METRICS = "metrics.jsonl"
"""What the file is called in the folder of a training."""
STOPPED = "stopped"
"""Under which name the line of the step that a training stopped early at says so."""


@dataclass(frozen=True)
class Lines:
    """A metrics file, read: one line for each step, the latest, in order; which are damaged, which another run's."""

    steps: tuple[dict[str, Any], ...]
    damaged: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    def missing(self, step: int) -> int:
        """How many of the steps up to one are not there."""
        return step - sum(1 <= line["step"] <= step for line in self.steps)

    def end(self, steps: int) -> int:
        """The last step of a training of so many, which may have stopped early."""
        if self.steps and STOPPED in self.steps[-1]:
            return self.steps[-1]["step"]
        return steps


def read(path: Path, training: str | None = None) -> Lines:
    """The lines of a metrics file that can be read, none where there is no file.

    `training`: the fingerprint of the run that they must be of, where each says of which it is; `None`: any.

    >>> read(Path("no/such/file")).steps
    ()
    """
    steps: dict[int, dict[str, Any]] = {}
    damaged, others = [], []
    for number, text, cut in _texts(path):
        line = _parsed(text)
        if line is None:
            # A killed process leaves half a line before the one that goes on: nothing of it was promised yet.
            if not cut:
                damaged.append(number)
            continue
        of = line.pop("run", training)
        if training is not None and of != training:
            others.append(number)
        elif "from" in line:
            # What a killed process wrote past its last checkpoint is done again, and counts no more.
            steps = {step: kept for step, kept in steps.items() if step <= line["from"]}
        else:
            steps[line["step"]] = line
    return Lines(tuple(steps[step] for step in sorted(steps)), tuple(damaged), tuple(others))


def sources(folder: Path, manifest: Mapping[str, Any]) -> list[tuple[Path, str | None]]:
    """The metrics files of a run's folder, one for each of its stages where it has any, with whose they are."""
    if "stages" not in manifest:
        return [(folder / METRICS, manifest.get("training"))]
    return [(folder / stage["folder"] / METRICS, stage["training"]) for stage in manifest["stages"]]


def through(every: Iterable[Lines]) -> tuple[dict[str, Any], ...]:
    """The lines of several trainings, one after the other, their steps counted through.

    >>> [line["step"] for line in through([Lines(({"step": 1}, {"step": 2})), Lines(({"step": 1},))])]
    [1, 2, 3]
    """
    counted: list[dict[str, Any]] = []
    for lines in every:
        before = 0
        if counted:
            before = counted[-1]["step"]
        counted += [{**line, "step": before + line["step"]} for line in lines.steps]
    return tuple(counted)


def _texts(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Each whole line with its number, and whether it is one that a process was killed in."""
    if not path.exists():
        return
    if not path.is_file():
        raise InputError(f"{path} is no file: take away what stands there in its place")
    # What stands behind the last end of a line was cut off, perhaps in the middle of a number.
    lines = path.read_bytes().split(b"\n")[:-1]
    for number, text in enumerate(lines, 1):
        if not text:
            continue
        after = None
        if number < len(lines):
            after = _parsed(lines[number])
        yield number, text, after is not None and "from" in after


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A line's numbers by name, `None` where it is damaged."""
    try:
        line = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("from", line.get("step")), int):
        return None
    # A text where a number stood is damage too, which would only show in a figure.
    numbers = [number for name, number in line.items() if name != "run"]
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    return line
