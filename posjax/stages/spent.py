"""What the trainings of a run took, and how their loss fell: read from the lines that they wrote."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posjax.lines import METRICS, Lines, read, through
from posjax.results import Measurement, Measurements
from posjax.stages.parts import TrainingPart
from posjax.training import Train
from posjax.training.plan import training_fingerprint

BINS = 10
"""In how many parts of all steps the loss is averaged: one step's alone says little."""


@dataclass(frozen=True)
class Spent:
    """`seconds` is not a number where lines are missing; `losses` are none where nothing was trained."""

    seconds: float
    tokens: int
    losses: Measurements


def spent(run_parts: Sequence[TrainingPart], folder: Path, texts: Sequence[str | None]) -> Spent:
    """What each training of a run's folder took, together. `texts` are the fingerprints of what they read."""
    seconds, tokens = 0.0, 0
    every: list[Lines] = []
    for part in run_parts:
        if not isinstance(part.train, Train):
            continue
        lines = read(part.folder(folder) / METRICS, training_fingerprint(part.about(texts)))
        every.append(lines)
        steps = lines.end(part.train.steps)
        tokens += steps * part.train.batch * part.train.length
        # A sum over some of the steps would look like a fast run.
        if lines.missing(steps):
            seconds = math.nan
        seconds += sum(line.get("seconds", math.nan) for line in lines.steps)
    return Spent(seconds, tokens, Measurements.of(_losses(through(every))))


def _losses(lines: Sequence[Mapping[str, Any]]) -> Iterator[Measurement]:
    """The mean of the training's own loss over each tenth of all steps, `step` being its last one."""
    if not lines:
        return
    last = lines[-1]["step"]
    ends = np.unique(np.linspace(0, last, BINS + 1).round().astype(int))
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        losses = [line["loss"] for line in lines if start < line["step"] <= end and "loss" in line]
        # Lines may be missing, and then so is the point.
        if losses:
            mean = float(np.mean(losses))
            yield Measurement("training_loss", mean, count=len(losses), coordinates={"step": end})
