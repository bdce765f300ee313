"""One frozen `Run` value, one folder: trained, evaluated, and never twice."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from posjax import feasibility, stages
from posjax.arguments import LARGEST
from posjax.data import Documents, Task, TrainingData, validation_windows
from posjax.errors import Diverged, InputError
from posjax.evaluation import Evaluation, TrainedModel, title
from posjax.fields import check_fields
from posjax.files import LOCK, owned
from posjax.identity import tree
from posjax.interop import Pretrained
from posjax.models import Architecture, build
from posjax.results import Measurements
from posjax.stages import NOTHING_READ, Material, Stage, Stages, Texts, TrainingPart, Untrained
from posjax.surroundings import surroundings
from posjax.training import Objective, Train, TrainingProgress, launch
from posjax.workfolder import (
    check_target,
    claim,
    compare,
    hold,
    keep_diverged,
    require_undiverged,
    write_results,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,99}")
TAKEN = ("figures", "report.html", "experiment.json", LOCK)
"""What a work folder holds beside its runs."""


@dataclass(frozen=True)
class Run:
    """One model: what it is, what it reads, how it is trained, what is measured. `name` is its folder's.

    Where a publisher has trained it, `train` is `interop.pretrained(folder)` and `model` that one's architecture. With
    `Stages` several trainings follow each other, and `model` is that of the last. With `Untrained` nothing is trained,
    for what an encoding does by itself. `evaluation` may be a tuple of several, no two of one name.

    Errors: `InputError` for a name that is no plain folder name, a field of another type, an evaluation that does not
    fit the data or what is trained, a length past the encoding's table, or an objective that fits neither model nor
    data.
    """

    name: str
    label: str
    model: Architecture
    data: TrainingData
    train: Train | Pretrained | Stages | Untrained
    evaluation: Evaluation | tuple[Evaluation, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        # Before anything is spent: a name is a folder, a word of a command line and text of a page.
        if not NAME.fullmatch(self.name) or self.name in TAKEN:
            raise InputError(
                f"a run is named {self.name!r}: needed is a name for its folder, up to 100 letters, "
                "digits and any of . _ + = -, that begins with a letter or digit and is none of "
                f"{', '.join(TAKEN)}"
            )
        # numpy draws from no negative seed, and would say so after the text is read.
        if self.seed < 0:
            raise InputError(f"the run {self.name!r} has seed={self.seed}: needed is 0 or more")
        self._require_evaluations()
        for stage in self._stages():
            # What was published is only where parameters begin, unless it is all there is.
            begins = isinstance(stage.train, Pretrained) and isinstance(self.train, Stages)
            feasibility.require_stage(self.name, stage, stage.model or self.model, self.data, begins)
        feasibility.require_measured(self.name, self.objective, self.evaluations)

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """What is measured, one evaluation or several."""
        if isinstance(self.evaluation, tuple):
            return self.evaluation
        return (self.evaluation,)

    def _require_evaluations(self) -> None:
        """Errors: `InputError` for none, two of one name, or one that does not fit the data."""
        names = [evaluation.name for evaluation in self.evaluations]
        # Their rows lie in one table, where the name alone tells them apart.
        if not names or len(set(names)) < len(names):
            raise InputError(
                f"the run {self.name!r} has the evaluations {', '.join(names) or '()'}: needed is one or more, each of "
                "another name"
            )
        for evaluation in self.evaluations:
            try:
                evaluation.require(self.data)
            except InputError as why:
                raise InputError(f"the run {self.name!r}: {why}") from why

    @property
    def objective(self) -> Objective:
        """What its last training is of: the next token, where nothing is trained."""
        return self._stages()[-1].objective

    def longest(self) -> int:
        """The largest number of tokens that its evaluations read at once."""
        return max(evaluation.longest(self.train.length) for evaluation in self.evaluations)

    def _stages(self) -> tuple[Stage, ...]:
        """Its trainings, without a look at what lies in folders."""
        if isinstance(self.train, Stages):
            return self.train.stages
        return (Stage(self.train),)

    def parts(self) -> tuple[TrainingPart, ...]:
        """Its trainings, in order: one alone, or its stages."""
        return stages.parts(self.train, self.model, self.data, self.seed)

    @property
    def vocabulary(self) -> int:
        """How many tokens its model knows."""
        return stages.vocabulary_of(self.train, self.data)

    @property
    def trains(self) -> bool:
        """Whether it keeps checkpoints of its own."""
        return any(isinstance(part.train, Train) for part in self.parts())

    def about(self, corpus: str | None) -> dict[str, Any]:
        """What the bits of the training depend on, with the text's fingerprint."""
        if isinstance(self.train, Pretrained):
            return {"seed": self.seed, "model": self.model, "pretrained": self.train, "corpus": corpus}
        every = self.parts()
        return every[-1].about(stages.of_parts(corpus, len(every)))

    def stages(self, corpus: str | None) -> list[dict[str, Any]]:
        """What a manifest says of its stages, nothing for a run of one training."""
        every = self.parts()
        return stages.told(every, stages.of_parts(corpus, len(every)))

    def surroundings(self) -> dict[str, Any]:
        """What the last training would run on here, now. Errors: `InputError` for a backend that cannot do it."""
        last = self._stages()[-1].train
        return surroundings(*feasibility.backend(self.name, self.model, last))


@dataclass(frozen=True)
class Experiment:
    """Runs that answer one question together. A config file's `experiment()` returns one.

    Errors: `InputError` for no runs, two of one name (on a file system that does not tell cases apart too), or a text
    that cannot be printed.
    """

    title: str
    question: str
    runs: tuple[Run, ...]
    paper: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.runs:
            raise InputError(f"the experiment {self.title!r} has no runs")
        names = [run.name.casefold() for run in self.runs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"the experiment {self.title!r} has two runs named {twice[0]!r}: each needs a name of its own"
            )


def check(run: Run, read: Texts = NOTHING_READ) -> None:
    """Whether a run can be trained and evaluated here, before hours are spent: its data, its sizes, its backend.

    `read`: texts that are read already. Errors: `InputError`.
    """
    # What costs nothing to find out comes first: to read a text may take a minute.
    longest = run.longest()
    if longest > LARGEST:
        raise InputError(
            f"{run.name} would reach position {longest - 1}, after training at length {run.train.length}: positions "
            "are int32 and end at 2^31 - 1; take a shorter length or smaller multiples"
        )
    every = run.parts()
    for part in every:
        train = part.train
        if isinstance(train, Pretrained):
            feasibility.hold_published(run.name, part.model, run.data.vocabulary, train)
        try:
            part.check()
        except InputError as why:
            raise InputError(f"{run.name}: {why}") from why
        held = max(evaluation.held(run.train.length) for evaluation in run.evaluations)
        feasibility.room(run.name, part.model.size(part.vocabulary), train, held)
        feasibility.backend(run.name, part.model, train)
    # One window of each kind tells whether the text has room for it.
    material = Material.open(run, read)
    for part, documents in zip(every, material.texts, strict=True):
        if isinstance(part.train, Train) and part.train.stop is not None:
            assert isinstance(documents, Documents)
            validation_windows(documents, part.train.length, 1, part.seed)
    for evaluation in run.evaluations:
        evaluation.room(_measured_on(run, material), run.train.length, run.seed)
        evaluation.rehearse(run.model, run.vocabulary, run.train.length)


def train(
    run: Run,
    folder: Path,
    progress_from: Callable[[int], TrainingProgress] | None = None,
    material: Material | None = None,
    say: Callable[[str], None] = print,
) -> TrainedModel:
    """Trains the run in its folder, from where it is, and returns the model; a published one is read.

    `say` tells notes, a line each.

    Errors: `InputError` for a folder of another config, or whose corpus has changed; `Busy` for a folder that another
    process writes to; `Stopped`, `Diverged` and `StorageError` as `fit`. Why it diverged is kept in `diverged.json`,
    and told again wherever that is there.
    """
    if material is None:
        material = Material.open(run)
    # Owned before it is claimed: of two commands on a new folder one alone may write its manifest.
    with launch.owned_by_first(folder):
        if launch.first():
            for note in claim(run, folder, material.fingerprint):
                say(f"{run.name}: {note}")
        require_undiverged(folder)
        if isinstance(run.train, (Pretrained, Untrained)):
            return _given(run, run.train)
        *earlier, last = stages.to_train(run.parts(), folder)
        try:
            for part in earlier:
                # What it ends with is read where the next begins, so that no two states are held at once.
                stages.fitted(run.name, part, folder, material, progress_from, say)
            trainer, state = stages.fitted(run.name, last, folder, material, progress_from, say)
        except Diverged as why:
            if launch.first():
                keep_diverged(folder, why)
            raise
    return TrainedModel(trainer.trained(launch.gathered(state.params)), run.train.length)


def restore(run: Run, folder: Path, say: Callable[[str], None] = print) -> TrainedModel:
    """The trained model of a folder, which is only read. Errors: `InputError` where training has not ended yet."""
    kept = hold(run, folder)
    _hold_tokenizer(run, folder, stages.own_text(kept["corpus"]))
    if isinstance(run.train, (Pretrained, Untrained)):
        return _given(run, run.train)
    every = run.parts()
    texts = stages.of_parts(kept["corpus"], len(every))
    trainer = every[-1].trainer()
    params = stages.ended(every[-1], folder, texts, trainer, lambda note: say(f"{run.name}: {note}"))
    return TrainedModel(trainer.trained(params), run.train.length)


def _given(run: Run, weights: Pretrained | Untrained) -> TrainedModel:
    """The model of a run that trains nothing."""
    if isinstance(weights, Pretrained):
        return TrainedModel(weights.read(), weights.length)
    # Drawn by the seed, as training would begin.
    return TrainedModel(build(run.model, run.vocabulary, run.seed, weights.compute), weights.length)


def _hold_tokenizer(run: Run, folder: Path, corpus: str | None) -> None:
    """Errors: `InputError` for a tokenizer that is another than when the run was trained."""
    if isinstance(run.data, Task):
        return
    reader = run.data.reader()
    # A model's tokens would mean other text, and nothing in its numbers would tell.
    if reader is not None and corpus is not None and not corpus.endswith(f"-{reader.fingerprint}"):
        raise InputError(
            f"{folder} was trained with another content of {reader.path}: bring back the one that it was, or train "
            "in another folder"
        )


def evaluate(
    run: Run,
    folder: Path,
    trained_model: TrainedModel,
    material: Material | None = None,
    to: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measures a trained model and writes `results.json`, which is complete or not there; in another folder by `to`.

    The manifest beside it keeps its fingerprint, by which it is known again. `say` tells notes, a line each.

    Errors: `InputError` for a folder of another config or corpus, `Busy`, `StorageError`.
    """
    if material is None:
        material = Material.open(run)
    target = folder
    # A folder that may only be read is compared, where one's own is claimed.
    look = claim
    if to is not None:
        check_target(run, to)
        target = to
        look = compare
    with owned(target):
        for note in look(run, folder, material.fingerprint):
            say(f"{run.name}: {note}")
        # Read before it is measured: what lies there afterwards may be of another run.
        kept = hold(run, folder)
        began = time.perf_counter()
        measured = _measured(run, trained_model, _measured_on(run, material))
        # What a table says of a run beside its measurements, so that a report needs no config.
        every = run.parts()
        spent = stages.spent(every, folder, stages.of_parts(kept["corpus"], len(every)))
        seconds = {"train": spent.seconds, "evaluate": time.perf_counter() - began}
        labels = {str(name): f"{run.label} + {title(str(name))}" for name in measured.distinct("variant")}
        parameters = jax.tree.leaves(nnx.state(trained_model.model))
        results: dict[str, Any] = {
            "name": run.name,
            "label": run.label,
            "seed": run.seed,
            "trained_length": trained_model.trained_length,
            "parameters": sum(leaf.size for leaf in parameters),
            "tokens": spent.tokens,
            "seconds": seconds,
            "evaluations": {evaluation.name: tree(evaluation) for evaluation in run.evaluations},
            "labels": labels | {"raw": run.label},
        }
        if material.documents is not None:
            results["corpus"] = material.documents.describe()
        # Beside what was measured: whether a method learns faster is asked of any training.
        together = measured + spent.losses.placed(evaluation="training")
        results["measurements"] = together.tree()
        # All at once and last, so that results which are there are whole.
        write_results(kept, target, results)
    return results


def _measured(run: Run, trained_model: TrainedModel, data: Any) -> Measurements:
    """What the run's evaluations find, on the data that go with them."""
    measured = Measurements()
    for evaluation in run.evaluations:
        found = Measurements.of(evaluation.run(trained_model, data, run.seed))
        measured += found.placed(evaluation=evaluation.name)
    return measured


def _measured_on(run: Run, material: Material) -> Any:
    """What evaluations are given: the documents of a text, the examples of a file, or the task itself."""
    if isinstance(run.data, Task):
        return run.data
    assert material.documents is not None
    return material.documents
