"""Runs that differ in their seed alone, gathered: their mean, and by Student's t how far the seed moves it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from posjax.report.values import (
    LanguageRun,
    MeasuredRun,
    Metrics,
    Point,
    Recall,
    Report,
    ReportedRun,
    ReportedVariant,
    ScoresByDistance,
)
from posjax.results import Measurements, interval

OF_A_RUN = ("name", "label", "seed")
"""Fields of a run's config in which seeds of one method differ."""


def gathered(runs: Sequence[ReportedRun]) -> list[ReportedRun]:
    """Runs as they are, but those that differ in their seed alone as one, where the first of them stood."""
    together: dict[str, list[ReportedRun]] = {}
    for run in runs:
        together.setdefault(_alike(run), []).append(run)
    found = []
    for members in together.values():
        seeds = {run.seed for run in members}
        # Two of one seed are no sample of seeds, whatever else tells them apart.
        if len(members) == 1 or None in seeds or len(seeds) < len(members):
            found += members
        else:
            found.append(_mean(members))
    return found


def method(run: ReportedRun) -> str:
    """A run's label without the seed, which a sweep over seeds writes there."""
    return run.label.removesuffix(f" seed={run.seed}")


def called(run: ReportedRun, label: str) -> ReportedRun:
    """The run and its members under another label; its variants' labels repeat the run's."""
    variants = []
    for variant in run.variants:
        own = variant.label.removeprefix(run.label)
        if own != variant.label:
            variant = dataclasses.replace(variant, label=label + own)
        variants.append(variant)
    members = tuple(called(member, label) for member in run.members)
    return dataclasses.replace(run, label=label, variants=tuple(variants), members=members)


def apart(report: Report) -> Report:
    """What stands behind the means: a run for each seed, under the label of the method; runs of one seed are left out.

    So that whatever draws means draws the seeds alike.
    """
    return dataclasses.replace(
        report,
        language=tuple(member for run in report.language for member in run.members),
        retrieval=tuple(member for run in report.retrieval for member in run.members),
        other=tuple(member for run in report.other for member in run.members),
    )


def counts(report: Report) -> tuple[int, ...]:
    """How many seeds the numbers of a method are means of: each count that occurs, the least first."""
    return tuple(sorted({len(run.each) for run in report.evaluated}))


def _alike(run: ReportedRun) -> str:
    """What runs of one method have in common, as a text to compare."""
    config = run.manifest.get("config_tree")
    # Results may be shown without their manifest: then the label alone says what was run.
    if isinstance(config, dict):
        config = {name: value for name, value in config.items() if name not in OF_A_RUN}
    shape = [run.trained_length, run.lengths, [(variant.name, variant.ended_at) for variant in run.variants]]
    return json.dumps([run.task, getattr(run, "evaluation", ""), method(run), shape, config], default=str)


def _mean(members: Sequence[ReportedRun]) -> ReportedRun:
    label = method(members[0])
    named = tuple(called(run, label) for run in members)
    first = named[0]
    variants = tuple(_variant([run.variants[place] for run in named]) for place in range(len(first.variants)))
    changes: dict[str, Any] = {"variants": variants, "members": named, "metrics": _metrics(named), "seed": None}
    if isinstance(first, LanguageRun):
        changes["scores"] = _scores([run.scores for run in named if isinstance(run, LanguageRun) and run.scores])
        changes["bytes_per_token"] = _of([run.bytes_per_token for run in named if isinstance(run, LanguageRun)])
    if isinstance(first, MeasuredRun):
        changes["measurements"] = _measurements(named)
    return dataclasses.replace(first, **changes)


def _variant(variants: Sequence[ReportedVariant]) -> ReportedVariant:
    first = variants[0]
    lengths = {}
    for length in first.lengths:
        values = [variant.lengths[length] for variant in variants if length in variant.lengths]
        lengths[length] = _at_length(values)
    return dataclasses.replace(first, lengths=lengths)


def _at_length(values: Sequence[Any]) -> Point | Recall:
    names = [field.name for field in dataclasses.fields(values[0]) if field.name != "halves"]
    means = {name: _of([getattr(value, name) for value in values]) for name in names}
    if isinstance(values[0], Recall):
        by_depth = np.array([value.accuracy for value in values], np.float64)
        halves = tuple(interval(column) for column in by_depth.T)
        # Of the mean over seeds, which is what stands beside it.
        spread = by_depth.std(axis=0, ddof=1) / np.sqrt(len(values))
        return Recall(means["accuracy"], tuple(spread.tolist()), halves)
    halves = {name: _half([getattr(value, name) for value in values]) for name in ("loss", "mean", "ratio", "beyond")}
    ends = {"low": means["ratio"] - halves["ratio"], "high": means["ratio"] + halves["ratio"]}
    return Point(**{**means, **ends}, halves=halves)


def _of(values: Sequence[Any]) -> Any:
    """The mean of numbers, or of each place of tuples that are equally long."""
    mean = np.array(values, np.float64).mean(axis=0)
    if isinstance(values[0], tuple):
        return tuple(mean.tolist())
    return float(mean)


def _half(values: Sequence[float]) -> float:
    return interval(np.array(values, np.float64))


def _scores(scores: Sequence[ScoresByDistance]) -> ScoresByDistance | None:
    if not scores:
        return None
    means = {name: _of([getattr(each, name) for each in scores]) for name in ("random", "trained")}
    return ScoresByDistance(scores[0].distances, **means)


def _measurements(members: Sequence[Any]) -> Measurements:
    together = Measurements()
    for run in members:
        together += run.measurements.placed(seed=run.seed)
    return together.averaged("seed")


def _metrics(members: Sequence[ReportedRun]) -> Metrics:
    """The mean loss at each step that every seed has."""
    by_step: dict[float, list[float]] = {}
    for run in members:
        for entry in run.metrics:
            if entry.get("loss") is not None:
                by_step.setdefault(entry["step"], []).append(entry["loss"])
    shared = {step: losses for step, losses in by_step.items() if len(losses) == len(members)}
    return tuple({"step": step, "loss": sum(losses) / len(losses)} for step, losses in shared.items())
