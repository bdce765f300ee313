"""A run's parts, trained one after the other: each begins with what the last one ended with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flax import nnx

from posjax.data import begun as with_begin, validation_windows
from posjax.errors import InputError
from posjax.identity import fingerprint
from posjax.interop import Pretrained
from posjax.lines import read
from posjax.stages.material import Material
from posjax.stages.parts import Part
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
from posjax.training.validating import BEST, history, require_best


def to_train(run_parts: Sequence[Part], folder: Path) -> list[Part]:
    """The parts of a run that are not known to be done: where one has begun, those before it have ended."""
    left: list[Part] = []
    for part in reversed(run_parts):
        if isinstance(part.train, Pretrained):
            break
        left.insert(0, part)
        if begun(part.folder(folder) / "checkpoints") is not None:
            break
    return left


def beginning(
    part: Part, folder: Path, texts: Sequence[str | None], trainer: Trainer, say: Callable[[str], None]
) -> Callable[[], Any] | None:
    """What makes the parameters that a part begins with, where its trainer's lie; `None` for fresh ones."""
    before = part.before
    if before is None:
        return None

    def begin() -> Any:
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
    places = {".".join(map(str, path)): variable.get_value().sharding for path, variable in flat}
    return nnx.state(weights.read(lambda path, shape: places[path]))


def ended(part: Part, folder: Path, texts: Sequence[str | None], trainer: Trainer, say: Callable[[str], None]) -> Any:
    """The parameters that a part has ended with. Errors: `InputError` where its training has not ended yet."""
    train = part.train
    assert isinstance(train, Train)
    where, mine, abstract = part.folder(folder), part.about(texts), trainer.abstract()
    if train.stop is None:
        found = restored(where / "checkpoints", abstract, mine, only="params")
        is_over = found.step >= train.steps
    else:
        found = restored(where / "checkpoints", abstract, mine, only="step")
        path = where / "metrics.jsonl"
        lines = read(path, fingerprint(mine))
        verdict = train.stop.verdict(history(train.stop, train.steps, lines, found.step, path))
        is_over = verdict.stop or found.step >= train.steps
    for note in found.told:
        say(note)
    # Half trained, a model has numbers too, and nothing in a table would tell.
    if found.state is None or not is_over:
        # An older step may have been taken because a newer one is damaged: then that is the reason.
        notes = "".join(f" ({note})" for note in found.told)
        raise InputError(
            f"{where} is trained to step {found.step} of {train.steps}: run experiments.train first, "
            f"the same command goes on from there{notes}"
        )
    if train.stop is None:
        return found.state
    best = restored(where / BEST, abstract, mine, only="params", at=verdict.best_step)
    return require_best(best, verdict.best_step, where / BEST)


def fitted(
    name: str,
    part: Part,
    folder: Path,
    material: Material,
    progress_from: Callable[[int], TrainingProgress] | None,
    say: Callable[[str], None],
) -> tuple[Trainer, State]:
    """One part of a run, trained to its end."""
    train, number, texts = part.train, part.number or 0, material.fingerprints
    batches, documents = material.rows[number], material.texts[number]
    assert isinstance(train, Train) and batches is not None
    trainer = part.trainer()
    start = beginning(part, folder, texts, trainer, lambda line: say(f"{name}, {line}"))
    before = validate = None
    if part.before is not None:
        before = part.before.about(texts)
    if train.stop is not None:
        assert documents is not None
        windows = validation_windows(documents, train.length, train.stop.windows, part.seed)
        validate = Validation(trainer, with_begin(documents, windows), train.batch // train.accumulate)
    shown = progress_from
    if shown is not None and part.number is not None:
        shown = _of_stage(shown, part)
    given = Given(start, before, validate)
    state = fit(train, trainer, batches, part.seed, part.folder(folder), shown, texts[number], given)
    return trainer, state


def _of_stage(progress_from: Callable[[int], TrainingProgress], part: Part) -> Callable[[int], TrainingProgress]:
    return lambda start: progress_from(start).of_stage(part.title, part.train.steps)
