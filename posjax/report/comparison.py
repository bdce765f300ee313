"""Several work folders as one report: methods that share a label are told apart by their folders."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from posjax.errors import InputError
from posjax.report.load import load
from posjax.report.seeds import called
from posjax.report.values import Report, ReportedExperiment, ReportedRun
from posjax.report.verdicts import listed

Run = TypeVar("Run", bound=ReportedRun)


def compared(folders: Sequence[Path]) -> Report:
    """The runs of several work folders side by side, under the labels that they have, where no two share one.

    Errors: `InputError` for a folder that is named twice, and whatever `load` raises of one of them.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        twice = next(folder for folder in folders if resolved.count(folder.resolve()) > 1)
        raise InputError(f"{twice} is named twice: name each folder of the comparison once")
    names = _names(folders)
    reports = [load(folder) for folder in folders]
    shared = Counter(label for report in reports for label in {run.label for run in report.evaluated})
    placed = [_placed(report, name, shared) for report, name in zip(reports, names, strict=True)]
    return Report(
        folder=Path("."),
        experiment=_experiment(reports, names),
        language=tuple(run for report in placed for run in report.language),
        retrieval=tuple(run for report in placed for run in report.retrieval),
        unfinished=tuple(name for report in placed for name in report.unfinished),
        diverged=tuple(told for report in placed for told in report.diverged),
        copies=tuple(told for report in placed for told in report.copies),
        other=tuple(run for report in placed for run in report.other),
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its last part, or all of it where two end alike."""
    ends = Counter(folder.resolve().name for folder in folders)
    return [str(folder) if ends[folder.resolve().name] > 1 else folder.resolve().name for folder in folders]


def _placed(report: Report, folder: str, shared: Counter[str]) -> Report:
    return dataclasses.replace(
        report,
        language=tuple(_run(run, folder, shared) for run in report.language),
        retrieval=tuple(_run(run, folder, shared) for run in report.retrieval),
        other=tuple(_run(run, folder, shared) for run in report.other),
        unfinished=tuple(f"{folder}/{name}" for name in report.unfinished),
        diverged=tuple((f"{folder}/{name}", reason) for name, reason in report.diverged),
        copies=tuple((f"{folder}/{name}", of) for name, of in report.copies),
    )


def _run(run: Run, folder: str, shared: Counter[str]) -> Run:
    label = run.label
    if shared[label] > 1:
        label = f"{label} ({folder})"
    renamed = _in_folder(called(run, label), folder)
    members: Any = tuple(_in_folder(member, folder) for member in renamed.members)
    return dataclasses.replace(renamed, members=members)  # type: ignore[return-value]


def _in_folder(run: Run, folder: str) -> Run:
    # Runs of two folders may have one name, and would be one to the report.
    return dataclasses.replace(run, name=f"{folder}/{run.name}")


def _experiment(reports: Sequence[Report], names: Sequence[str]) -> ReportedExperiment:
    asked = [report.experiment for report in reports]
    said = [one.question or one.title or one.name for one in asked]
    questions = [f"{name}: {question}." for name, question in zip(names, said, strict=True)]
    return ReportedExperiment(
        name="comparison",
        title=f"{listed(list(names))}, compared",
        question=" ".join(question.replace("?.", "?").replace("..", ".") for question in questions),
        paper="; ".join(dict.fromkeys(one.paper for one in asked if one.paper)),
        commands=tuple(dict.fromkeys(command for one in asked for command in one.commands)),
        config="\n\n".join(one.config for one in asked if one.config),
        created=max(one.created for one in asked),
    )
