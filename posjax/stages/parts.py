"""Each training of a run with all that it depends on, and what texts they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posjax.data import TrainingData
from posjax.data.randomness import rng
from posjax.errors import InputError
from posjax.interop import Pretrained
from posjax.models import Architecture
from posjax.stages.values import Stages, Untrained
from posjax.training import Places, Train, Trainer, about, carried
from posjax.training.plan import training_fingerprint

FOLDER = "stages"
"""Where a run's folder has those of its stages, by their numbers from 0."""


@dataclass(frozen=True)
class TrainingPart:
    """One training of a run with all that it depends on. `before` is the one whose parameters it begins with.

    `number`: which of the stages it is; `None` for the one training of a run without stages.
    """

    train: Train | Pretrained | Untrained
    model: Architecture
    data: TrainingData
    vocabulary: int
    seed: int
    number: int | None = None
    before: TrainingPart | None = None

    def folder(self, of_run: Path) -> Path:
        """Where its metrics and checkpoints lie in a run's folder."""
        if self.number is None:
            return of_run
        return of_run / FOLDER / str(self.number)

    @property
    def title(self) -> str:
        """What is put behind the run's name where it is told of."""
        if self.number is None:
            return ""
        return f", stage {self.number}"

    def about(self, texts: Sequence[str | None]) -> dict[str, Any]:
        """What its bits depend on, the trainings before it included; `texts` are the fingerprints of each part's."""
        if isinstance(self.train, Pretrained):
            return {"model": self.model, "pretrained": self.train}
        if isinstance(self.train, Untrained):
            return {"model": self.model, "untrained": self.train, "seed": self.seed}
        # Nested: a checkpoint of the last stage is of all that came before it.
        before = None
        if self.before is not None:
            before = self.before.about(texts)
        corpus = texts[self.number or 0]
        return about(self.train, self.model, self.vocabulary, self.seed, corpus, before, self.data)

    def trainer(self, places: Places | None = None) -> Trainer:
        """What trains it, on its own mesh unless places are given."""
        # Where nothing is trained, only what holds the parameters is needed.
        train = self.train
        if not isinstance(train, Train):
            train = Train()
        return train.trainer(self.model, self.vocabulary, places)

    def check(self) -> None:
        """Errors: `InputError` where parameters of the training before do not go over."""
        # The first one draws its parameters.
        if self.before is None:
            return
        before = _read_tokens(self.before.train, self.before.data)
        own = _read_tokens(self.train, self.data)
        if max(before, own) > self.vocabulary:
            raise InputError(
                f"stage {self.number} reads {own:,} tokens and the model knows {self.vocabulary:,}: "
                "let all stages read by one tokenizer"
            )
        for earlier in self._earlier():
            _hold_apart(earlier, self)
        carried(self.before.model, self.model, self.vocabulary)

    def _earlier(self) -> Iterator[TrainingPart]:
        part = self.before
        while part is not None:
            yield part
            part = part.before


def parts(
    run_train: Train | Pretrained | Stages | Untrained, model: Architecture, data: Any, seed: int
) -> tuple[TrainingPart, ...]:
    """Each training of a run, in order; one alone where it has no stages."""
    if not isinstance(run_train, Stages):
        return (TrainingPart(run_train, model, data, _read_tokens(run_train, data), seed),)
    vocabulary = vocabulary_of(run_train, data)
    made: list[TrainingPart] = []
    # Each holds the one before it, and so the whole chain.
    before = None
    for number, stage in enumerate(run_train.stages):
        own = stage.model or model
        # What its folder says, which nobody needs to write down again.
        if isinstance(stage.train, Pretrained):
            own = stage.train.architecture
        seed_here = _seed(seed, number)
        before = TrainingPart(stage.train, own, stage.data or data, vocabulary, seed_here, number, before)
        made.append(before)
    return tuple(made)


def vocabulary_of(train: Train | Pretrained | Stages | Untrained, data: Any) -> int:
    """How many tokens a run's model knows: those of its data, or of the published model that it goes on from."""
    if isinstance(train, Stages):
        first = train.stages[0].train
        # Its table may have more rows than the tokenizer has tokens, as published ones do.
        if isinstance(first, Pretrained):
            return first.describe().vocabulary
        # One model for all of them: where a stage hides tokens, it has the token that hides them all along.
        return max(_read_tokens(stage.train, data) for stage in train.stages)
    return _read_tokens(train, data)


def _read_tokens(train: Train | Pretrained | Untrained, data: Any) -> int:
    """How many tokens a training tells apart."""
    if isinstance(train, Train):
        return train.objective.vocabulary(data.vocabulary)
    return data.vocabulary


def _hold_apart(one: TrainingPart, other: TrainingPart) -> None:
    """Errors: `InputError` where the token that hides others in one stage is a token of the other's text."""
    fewer, more = sorted((one, other), key=lambda part: part.data.vocabulary)
    hides = _read_tokens(fewer.train, fewer.data) > fewer.data.vocabulary
    # The token that hides comes behind those of its own text, and so has the number of the next of a larger one.
    if hides and more.data.vocabulary > fewer.data.vocabulary:
        raise InputError(
            f"stage {fewer.number} hides tokens by number {fewer.data.vocabulary:,}, which is a token of the text of "
            f"stage {more.number}, of {more.data.vocabulary:,}: let both stages read by one tokenizer"
        )


def _seed(seed: int, number: int) -> int:
    """A stage's seed: with that of another it would read the same rows again, in the same order."""
    # As a run of one training draws them, so that the first stage is that run.
    if number == 0:
        return seed
    return int(rng(seed, "stage", number).integers(2**31))


def joined(own: str | None, texts: Sequence[str | None]) -> str | None:
    """The fingerprints of a run's own text and of each part's, as one; the first alone where all are that."""
    # As a run without stages has it, and so reports and other commands know it.
    if all(text == own for text in texts):
        return own
    return ",".join(map(str, (own, *texts)))


def of_parts(corpus: str | None, count: int) -> list[str | None]:
    """The fingerprints of the text of each of so many parts, from `joined`.

    >>> of_parts("ab", 2), of_parts("ab,ab,cd", 2)
    (['ab', 'ab'], ['ab', 'cd'])
    """
    if corpus is None or "," not in corpus:
        return [corpus] * count
    return list(corpus.split(",")[1:])


def own_text(corpus: str | None) -> str | None:
    """The fingerprint of a run's own text, from `joined`."""
    if corpus is None:
        return None
    return corpus.partition(",")[0]


def told(run_parts: Sequence[TrainingPart], texts: Sequence[str | None]) -> list[dict[str, Any]]:
    """What a manifest says of each stage that trains: where its lines are, of which training, and how many steps."""
    return [
        {
            "folder": str(part.folder(Path())),
            "training": training_fingerprint(part.about(texts)),
            "steps": part.train.steps,
        }
        for part in run_parts
        if part.number is not None and isinstance(part.train, Train)
    ]
