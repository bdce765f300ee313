"""What the trainings of a run read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from posjax.data import Batches, Loaded, Task, TrainingData, training_rows
from posjax.stages.parts import TrainingPart, joined
from posjax.training import Train

Texts = Mapping[Any, Loaded]
"""Corpora that are read already, by their data."""
NOTHING_READ: Texts = MappingProxyType({})


class OfParts(Protocol):
    """What has trainings, such as `posjax.runs.Run`."""

    @property
    def data(self) -> TrainingData: ...

    def parts(self) -> tuple[TrainingPart, ...]:
        """Its trainings, in order."""
        ...


@dataclass(frozen=True)
class Material:
    """A run's data, opened: the documents of its text; and for each part rows to train on, unless that is done, and its
    documents."""

    documents: Loaded | None
    rows: tuple[Batches | None, ...]
    texts: tuple[Loaded | None, ...]

    @classmethod
    def open(cls, run: OfParts, read: Texts = NOTHING_READ) -> Material:
        """`read`: texts that are read already."""
        # A copy: what is read here stays as long as this run's material does.
        known = dict(read)
        every = run.parts()
        texts = tuple(_read(part.data, known) for part in every)
        return cls(_read(run.data, known), tuple(map(_rows, every, texts)), texts)

    @property
    def batches(self) -> Batches | None:
        """The rows of the last training."""
        return self.rows[-1]

    @property
    def fingerprint(self) -> str | None:
        """Of the text, or texts; `None` for a task, whose rows are a function of the config alone."""
        return joined(_fingerprint(self.documents), self.fingerprints)

    @property
    def fingerprints(self) -> list[str | None]:
        """Of the text of each part."""
        return list(map(_fingerprint, self.texts))


def _fingerprint(documents: Loaded | None) -> str | None:
    if documents is None:
        return None
    return documents.fingerprint


def _read(data: TrainingData, known: dict[Any, Loaded]) -> Loaded | None:
    """The documents of a text, read once; `None` for a task."""
    if isinstance(data, Task):
        return None
    # Several stages may read one text, of which one copy is enough.
    if data not in known:
        known[data] = data.load()
    return known[data]


def _rows(part: TrainingPart, documents: Loaded | None) -> Batches | None:
    # A text that is measured on alone may be shorter than a window of training on either side.
    if not isinstance(part.train, Train) and documents is not None:
        return None
    if isinstance(part.data, Task):
        rows = part.data.rows(part.train.length, part.seed)
    else:
        assert documents is not None
        rows = training_rows(documents, part.train.length, part.seed)
    if isinstance(part.train, Train):
        rows = part.train.objective.rows(rows, part.data.vocabulary, part.seed)
    return Batches(rows, part.train.batch)
