"""A run's parts, trained one after the other: each begins with what the last one ended with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flax import nnx

from posjax.data import Documents, Loaded, begun as with_begin, validation_windows
from posjax.errors import InputError
from posjax.interop import Pretrained
from posjax.lines import METRICS, read
from posjax.stages.material import Material
from posjax.stages.parts import TrainingPart
from posjax.training import (
    Given,
    State,
    Train,
    Trainer,
    TrainingProgress,
    Validation,
    begun,
    carried,
    carry,
    fit,
    restored,
)
from posjax.training.plan import training_fingerprint
from posjax.training.stopping import StopDecision
from posjax.training.validating import BEST, history, require_best


def to_train(run_parts: Sequence[TrainingPart], folder: Path) -> list[TrainingPart]:
    """The parts of a run that are not known to be done: where one has begun, those before it have ended."""
    left: list[TrainingPart] = []
    # From the last one back: the newest part that has a checkpoint is where the run stands.
    for part in reversed(run_parts):
        # It was trained by others.
        if isinstance(part.train, Pretrained):
            break
        left.insert(0, part)
        if begun(part.folder(folder) / "checkpoints") is not None:
            break
    return left


def beginning(
    part: TrainingPart, folder: Path, texts: Sequence[str | None], trainer: Trainer, say: Callable[[str], None]
) -> Callable[[], Any] | None:
    """What makes the parameters that a part begins with, where its trainer's lie; `None` for fresh ones."""
    before = part.before
    if before is None:
        return None

    def begin() -> Any:
        # Said again where a process was killed before the first checkpoint: it is then done again.
        for line in carried(before.model, part.model, part.vocabulary).told:
            say(f"stage {part.number}: {line}")
        # Read by the mesh that they are needed on, whatever mesh they were trained on.
        holder = before.trainer(trainer.places)
        if isinstance(before.train, Pretrained):
            params = _published(before.train, holder)
        else:
            params = ended(before, folder, texts, holder, say)
        return carry(holder, trainer, params, part.seed)

    return begin


def _published(weights: Pretrained, holder: Trainer) -> Any:
    """A published model's parameters, each device's own part read alone."""
    # Not folded: a publisher's layers are apart.
    flat = nnx.to_flat_state(holder.abstract().params)
    # By the names that readers of published models give a parameter.
    places = {".".join(map(str, path)): variable.get_value().sharding for path, variable in flat}
    return nnx.state(weights.read(lambda path, shape: places[path]))


def ended(
    part: TrainingPart, folder: Path, texts: Sequence[str | None], trainer: Trainer, say: Callable[[str], None]
) -> Any:
    """The parameters that a part has ended with. Errors: `InputError` where its training has not ended yet."""
    train = part.train
    assert isinstance(train, Train)
    where = part.folder(folder)
    mine = part.about(texts)
    only = "params"
    # The newest state is not the result then, and of it nothing but its step is of use.
    if train.stop is not None:
        only = "step"
    found = restored(where / "checkpoints", trainer.abstract(), mine, only=only)
    for note in found.told:
        say(note)
    verdict = _verdict(train, where, mine, found.step)
    # Half trained, a model has numbers too, and nothing in a table would tell.
    if found.state is None or not (verdict.stop or found.step >= train.steps):
        # An older step may have been taken because a newer one is damaged: then that is the reason.
        notes = "".join(f" ({note})" for note in found.told)
        raise InputError(
            f"{where} is trained to step {found.step} of {train.steps}: run experiments.train first, "
            f"the same command goes on from there{notes}"
        )
    if train.stop is None:
        return found.state
    # That step and no other: an older one that is sound would be a worse state, taken without a word.
    best = restored(where / BEST, trainer.abstract(), mine, only="params", at=verdict.best_step)
    return require_best(best, verdict.best_step, where / BEST)


def _verdict(train: Train, where: Path, mine: Any, done: int) -> StopDecision:
    """What early stopping decided by a step; nothing where there is none."""
    if train.stop is None:
        return StopDecision(False, None, math.inf, 0)
    path = where / METRICS
    # As the training itself decides when it goes on: from its lines.
    lines = read(path, training_fingerprint(mine))
    return train.stop.verdict(history(train.stop, train.steps, lines, done, path))


def fitted(
    name: str,
    part: TrainingPart,
    folder: Path,
    material: Material,
    progress_from: Callable[[int], TrainingProgress] | None,
    say: Callable[[str], None],
) -> tuple[Trainer, State]:
    """One part of a run, trained to its end."""
    number = part.number or 0
    train = part.train
    batches = material.rows[number]
    assert isinstance(train, Train) and batches is not None
    texts = material.fingerprints
    trainer = part.trainer()
    # Asked only where there is no checkpoint: a stage that goes on needs nothing of the one before.
    start = beginning(part, folder, texts, trainer, lambda line: say(f"{name}, {line}"))
    before = None
    # Each checkpoint says of all trainings before it, so that none of them can be changed unseen.
    if part.before is not None:
        before = part.before.about(texts)
    given = Given(start, before, _validation(part, trainer, material.texts[number]), part.data)
    shown = progress_from
    if shown is not None and part.number is not None:
        shown = _of_stage(shown, part)
    state = fit(train, trainer, batches, part.seed, part.folder(folder), shown, texts[number], given)
    return trainer, state


def _validation(part: TrainingPart, trainer: Trainer, documents: Loaded | None) -> Validation | None:
    """What measures the loss for early stopping, on held-out windows as long as those of the training."""
    train = part.train
    assert isinstance(train, Train)
    if train.stop is None:
        return None
    # Held by the run: only the next token of a text is measured while training.
    assert isinstance(documents, Documents)
    # The same ones each time, a function of the seed, so that losses compare from step to step.
    windows = validation_windows(documents, train.length, train.stop.windows, part.seed)
    # As many rows at a time as the devices hold of a batch.
    rows = train.batch // train.accumulate
    return Validation(trainer, with_begin(documents, windows), rows)


def _of_stage(
    progress_from: Callable[[int], TrainingProgress], part: TrainingPart
) -> Callable[[int], TrainingProgress]:
    return lambda start: progress_from(start).of_stage(part.title, part.train.steps)
