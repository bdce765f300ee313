"""What a work folder holds, as frozen values: what was asked, and what every run of it found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from posjax.results import Measurements

Value = TypeVar("Value")
Numbers = Mapping[str, float]
"""Numbers by name."""
Json = Mapping[str, Any]
"""A part of a file, as it was read: what is shown of it is looked up where it is shown."""
Metrics = tuple[Numbers, ...]


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
    # NaN where it was not measured.
    beyond: float
    positions: tuple[float, ...]
    # The mean loss in a bin of positions around each of `positions`.
    by_position: tuple[float, ...]
    # In nats per token; NaN where the tokens are bytes.
    loss_per_token: float
    mean_per_token: float
    # Of a mean over seeds, half of its 95 % interval by field; empty of a single seed.
    halves: Numbers = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recall:
    """Retrieval at one context length: accuracy by depth, far needles first, and its standard errors."""

    accuracy: tuple[float, ...]
    # NaN where the folder does not tell.
    error: tuple[float, ...]
    # Of a mean over seeds, half of each accuracy's 95 % interval; empty of a single seed.
    halves: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class ReportedVariant(Generic[Value]):
    """One way to evaluate trained weights: raw, windowed, an extension, or a way to fill a learned table."""

    name: str
    label: str
    kind: str
    # The last multiple of the trained length that its positions reach, None where they reach every one evaluated.
    ended_at: float | None
    # By multiple of the trained length.
    lengths: Mapping[int, Value]

    def at(self, length: int) -> Value | None:
        """What was measured at `length` multiples of the trained length; None past the end or where not run."""
        # The end wins over what a file holds: a table that is too short gives no number worth showing.
        if self.ends_before(length):
            return None
        return self.lengths.get(length)

    def ends_before(self, length: int) -> bool:
        """Whether the variant has no positions that far out; where it merely was not run, this is false."""
        return self.ended_at is not None and length > self.ended_at


@dataclasses.dataclass(frozen=True)
class ReportedRun(Generic[Value]):
    """What language and retrieval runs share: one trained model, its variants, and where it ran.

    Models that differ in their seed alone are one run to a reader: the mean of its `members`.
    """

    name: str
    label: str
    trained_length: int
    parameters: int
    tokens: int
    lengths: tuple[int, ...]
    variants: tuple[ReportedVariant[Value], ...]
    seconds: Numbers
    manifest: Json
    metrics: Metrics
    task: ClassVar[str]
    # None where the folder does not tell.
    seed: int | None = dataclasses.field(default=None, kw_only=True)
    path: Path | None = dataclasses.field(default=None, kw_only=True)
    # The run of each seed where several were gathered, else none.
    members: tuple[ReportedRun[Value], ...] = dataclasses.field(default=(), kw_only=True)

    @property
    def each(self) -> tuple[ReportedRun[Value], ...]:
        """The runs of one seed that it stands for."""
        return self.members or (self,)

    @property
    def published(self) -> bool:
        """Whether its weights were trained by others."""
        # Results may be shown without their manifest, and are then those of a training.
        config = self.manifest.get("config_tree")
        if not isinstance(config, dict):
            return False
        train = config.get("train")
        return isinstance(train, dict) and train.get("is") == "Pretrained"

    @property
    def raw(self) -> ReportedVariant[Value]:
        """The model as trained, which every run has."""
        return next(variant for variant in self.variants if variant.kind == "raw")

    @property
    def windowed(self) -> ReportedVariant[Value] | None:
        """The control: the same model, allowed to see only the trained length."""
        return next((variant for variant in self.variants if variant.kind == "windowed"), None)

    def of_kind(self, kind: str) -> tuple[ReportedVariant[Value], ...]:
        """The variants of one kind, in the order of the tables."""
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

    task = "text"
    windows: int
    yardsticks: Numbers
    corpus: Json
    scores: ScoresByDistance | None
    # Of the targets whose loss is compared; NaN where the tokens are bytes.
    bytes_per_token: float

    @property
    def tokenised(self) -> bool:
        """Whether a tokenizer reads the text, so that a token is more than a byte."""
        return not math.isnan(self.bytes_per_token)

    @property
    def unit(self) -> str:
        """What one token is called."""
        if self.tokenised:
            return "token"
        return "byte"


@dataclasses.dataclass(frozen=True)
class RetrievalRun(ReportedRun[Recall]):
    """A needle task: accuracy by length and by depth, 0 being farthest from the query."""

    task = "needles"
    chance: float
    # Where in the text the needles stood, as shares of it.
    depths: tuple[float, ...]
    queries: int


@dataclasses.dataclass(frozen=True)
class MeasuredRun(ReportedRun[None]):
    """What an evaluation measured that has no tables of its own: the rows as they are, without variants."""

    task = "other"
    evaluation: str
    measurements: Measurements


@dataclasses.dataclass(frozen=True)
class Report:
    """A work folder, read: `unfinished` names the runs without results yet, `diverged` tells why some never will.

    `copies` are left out: each would be a second row of its run.
    """

    folder: Path
    experiment: ReportedExperiment
    language: tuple[LanguageRun, ...]
    retrieval: tuple[RetrievalRun, ...]
    unfinished: tuple[str, ...]
    diverged: tuple[tuple[str, str], ...] = ()
    # Folders that are copies, each with the name of its run.
    copies: tuple[tuple[str, str], ...] = ()
    # What other evaluations measured.
    other: tuple[MeasuredRun, ...] = ()

    @property
    def evaluated(self) -> tuple[ReportedRun, ...]:
        """What each evaluation measured of each run, whose seeds are gathered."""
        return (*self.language, *self.retrieval, *self.other)

    @property
    def runs(self) -> tuple[ReportedRun, ...]:
        """Every finished run, once, also where several evaluations measured it; seeds are gathered."""
        return _once(self.evaluated)

    @property
    def each(self) -> tuple[ReportedRun, ...]:
        """Every finished run of every seed, once."""
        return _once([member for run in self.evaluated for member in run.each])


def _once(runs: Sequence[ReportedRun]) -> tuple[ReportedRun, ...]:
    # Of two with one name the first stays: what has tables of its own says more.
    by_name = {run.name: run for run in reversed(runs)}
    return tuple(run for run in runs if by_name[run.name] is run)
