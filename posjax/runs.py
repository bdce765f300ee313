"""One frozen `Run` value, one folder: trained, evaluated, and never twice."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from posjax.arguments import LARGEST
from posjax.attention import Choice
from posjax.data import Batches, Documents, Needles, TextData, training_rows, validation_windows
from posjax.errors import Diverged, InputError
from posjax.evaluation import Extrapolation, Retrieval, TrainedModel
from posjax.fields import check_fields
from posjax.files import owned
from posjax.identity import fingerprint
from posjax.interop import Pretrained
from posjax.lines import read as read_metrics
from posjax.models import Architecture, explain
from posjax.surroundings import surroundings
from posjax.training import CausalLM, Devices, Train, TrainingProgress, about, fit, launch, restored
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
TAKEN = ("figures", "report.html", "experiment.json", "owner.lock")
"""What a work folder holds beside its runs."""


@dataclass(frozen=True)
class Run:
    """One model: what it is, what it reads, how it is trained, what is measured. `name` is its folder's.

    Where a publisher has trained it, `train` is `interop.pretrained(folder)` and `model` that one's architecture.

    Errors: `InputError` for a name that is no plain folder name, a field of another type, an evaluation that does not
    fit the data, a length past the encoding's table, or a model that does not predict the next token.
    """

    name: str
    label: str
    model: Architecture
    data: TextData | Needles
    train: Train | Pretrained
    evaluation: Extrapolation | Retrieval
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
        if isinstance(self.data, Needles) != isinstance(self.evaluation, Retrieval):
            raise InputError(
                f"the run {self.name!r} evaluates {type(self.data).__name__} by "
                f"{type(self.evaluation).__name__}: Needles go with Retrieval, text with Extrapolation"
            )
        self._require_next_token()
        # A table may end before the evaluation does, which is then told; training needs all of its length.
        most = self.model.max_length
        if most is not None and self.train.length > most:
            raise InputError(
                f"the run {self.name!r} trains at length {self.train.length} and "
                f"{self.model.encoding!r} holds {most} positions: lengthen the table"
            )

    def _require_next_token(self) -> None:
        """Errors: `InputError` for a run of something else than the next token, which its evaluations measure."""
        objective = getattr(self.train, "objective", CausalLM())
        if not isinstance(objective, CausalLM):
            raise InputError(f"the run {self.name!r} is not trained on the next token: use posjax.training.fit")
        try:
            objective.require(self.model)
        except InputError as why:
            raise InputError(f"the run {self.name!r}: {why}; or build(...) a model for a use of your own") from why

    def about(self, corpus: str | None) -> dict[str, Any]:
        """What the bits of the training depend on, with the text's fingerprint."""
        if isinstance(self.train, Pretrained):
            return {"seed": self.seed, "model": self.model, "pretrained": self.train, "corpus": corpus}
        return about(self.train, self.model, self.data.vocabulary, self.seed, corpus)

    def surroundings(self) -> dict[str, Any]:
        """What the training would run on here, now. Errors: `InputError` for a backend that cannot do it."""
        return surroundings(*_backend(self))


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


@dataclass(frozen=True)
class Material:
    """A run's data, opened: rows to train on, unless that is done, and the documents of a text."""

    batches: Batches | None
    documents: Documents | None

    @classmethod
    def open(cls, run: Run, documents: Documents | None = None) -> Material:
        """`documents`: the run's text, where it is read already."""
        if isinstance(run.data, Needles):
            rows = run.data.rows(run.train.length, run.seed)
            return cls(Batches(rows, run.train.batch), None)
        if documents is None:
            documents = run.data.load()
        # A text that is measured on alone may be shorter than a window of training on either side.
        if isinstance(run.train, Pretrained):
            return cls(None, documents)
        rows = training_rows(documents, run.train.length, run.seed)
        return cls(Batches(rows, run.train.batch), documents)

    @property
    def fingerprint(self) -> str | None:
        """Of the text; `None` for a task, whose rows are a function of the config alone."""
        if self.documents is None:
            return None
        return self.documents.fingerprint


def check(run: Run, documents: Documents | None = None) -> None:
    """Whether a run can be trained and evaluated here, before hours are spent: its data, its sizes, its backend.

    Errors: `InputError`.
    """
    # What costs nothing to find out comes first: to read a text may take a minute.
    longest = max(run.evaluation.multiples) * run.train.length
    if longest > LARGEST:
        raise InputError(
            f"{run.name} would reach position {longest - 1}, {max(run.evaluation.multiples)} times the "
            f"trained length of {run.train.length}: positions are int32 and end at 2^31 - 1; take a "
            "shorter length or smaller multiples"
        )
    if isinstance(run.train, Pretrained):
        _hold_published(run, run.train)
    _room(run, longest)
    _backend(run)
    if isinstance(run.data, Needles):
        run.data.rows(run.train.length, run.seed)
    elif isinstance(run.evaluation, Extrapolation):
        if documents is None:
            documents = run.data.load()
        # One window of each kind tells whether the text has room for it.
        if isinstance(run.train, Train):
            training_rows(documents, run.train.length, run.seed)
        validation_windows(documents, run.evaluation.multiples[-1] * run.train.length, 1, run.seed)
    run.evaluation.rehearse(run.model, run.data.vocabulary, run.train.length)


def _hold_published(run: Run, weights: Pretrained) -> None:
    """Errors: `InputError` where a published model is not the one that the run names, or cannot read its text."""
    # From its configuration: no weights are read yet.
    found = weights.describe()
    if found.required() != run.model:
        raise InputError(
            f"{run.name}: model is another one than {weights.folder} has: give model=pretrained(folder).architecture; "
            "other encodings are what the evaluation's extensions are for"
        )
    # A text without a token to begin with has a separator behind the tokenizer's, which nobody has trained.
    if run.data.vocabulary > found.vocabulary:
        raise InputError(
            f"{run.name}: the text is read in {run.data.vocabulary:,} tokens and {weights.folder} knows "
            f"{found.vocabulary:,}: read it by the model's own tokenizer.json, with the token that begins a text"
        )


def _backend(run: Run) -> tuple[Mesh, Choice]:
    """The mesh of a run, and the backend it takes there. Errors: `InputError` for a named one that cannot do it."""
    # What is only evaluated is evaluated on one.
    if isinstance(run.train, Train):
        mesh = run.train.mesh()
    else:
        mesh = Devices(data=1).mesh(1)
    try:
        # Under the mesh, which decides what some backends can do.
        with jax.set_mesh(mesh):
            return mesh, explain(run.model, run.train.length, run.train.compute)
    except NotImplementedError as why:
        raise InputError(f"{run.name}: {why}") from why


def _room(run: Run, longest: int) -> None:
    """Errors: `InputError` where this machine cannot hold a run's parameters, a batch, or what is measured."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    windows = run.evaluation.windows if isinstance(run.evaluation, Extrapolation) else run.evaluation.sequences
    # Four bytes a number: parameters, their gradients, and both moments of Adam.
    parameters = 16 * run.model.size(run.data.vocabulary)
    # Inputs, targets and weights of each token.
    batch = 12 * run.train.batch * run.train.length
    windows_bytes = 12 * windows * longest
    needs = {
        "the model's parameters": (parameters, "layers, width and head_size"),
        "one batch": (batch, "batch and length"),
        "the windows of the evaluation": (windows_bytes, "windows, or sequences, and multiples"),
    }
    for what, (size, fields) in needs.items():
        if size > memory:
            raise InputError(
                f"{run.name}: {what} would take {size / 2**30:,.0f} GiB and this machine has "
                f"{memory / 2**30:,.0f}: lower {fields}"
            )


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
        if isinstance(run.train, Pretrained):
            return TrainedModel(run.train.read(), run.train.length)
        assert material.batches is not None
        trainer = run.train.trainer(run.model, run.data.vocabulary)
        try:
            state = fit(run.train, trainer, material.batches, run.seed, folder, progress_from, material.fingerprint)
        except Diverged as why:
            if launch.first():
                keep_diverged(folder, why)
            raise
    return TrainedModel(trainer.trained(launch.gathered(state.params)), run.train.length)


def restore(run: Run, folder: Path, say: Callable[[str], None] = print) -> TrainedModel:
    """The trained model of a folder, which is only read. Errors: `InputError` where training has not ended yet."""
    kept = hold(run, folder)
    _hold_tokenizer(run, folder, kept["corpus"])
    if isinstance(run.train, Pretrained):
        return TrainedModel(run.train.read(), run.train.length)
    trainer = run.train.trainer(run.model, run.data.vocabulary)
    found = restored(folder / "checkpoints", trainer.abstract(), run.about(kept["corpus"]))
    for note in found.told:
        say(f"{run.name}: {note}")
    # Half trained, a model has numbers too, and nothing in a table would tell.
    if found.state is None or found.step < run.train.steps:
        # An older step may have been taken because a newer one is damaged: then that is the reason.
        notes = "".join(f" ({note})" for note in found.told)
        raise InputError(
            f"{folder} is trained to step {found.step} of {run.train.steps}: run experiments.train first, "
            f"the same command goes on from there{notes}"
        )
    return TrainedModel(trainer.trained(found.state.params), run.train.length)


def _hold_tokenizer(run: Run, folder: Path, corpus: str | None) -> None:
    """Errors: `InputError` for a tokenizer that is another than when the run was trained."""
    if isinstance(run.data, Needles):
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
        results = _measured(run, trained_model, material)
        # What a table says of a run beside its measurements, so that a report needs no config.
        seconds = {"train": _seconds(run, folder, kept["corpus"]), "evaluate": time.perf_counter() - began}
        for variant in results["variants"]:
            variant["label"] = run.label
            if variant["kind"] != "raw":
                variant["label"] += f" + {TITLES[variant['name']]}"
        parameters = jax.tree.leaves(nnx.state(trained_model.model))
        results |= {
            "name": run.name,
            "label": run.label,
            "parameters": sum(leaf.size for leaf in parameters),
            "seconds": seconds,
            "tokens": run.train.steps * run.train.batch * run.train.length,
        }
        # All at once and last, so that results which are there are whole.
        write_results(kept, target, results)
    return results


def _measured(run: Run, trained_model: TrainedModel, material: Material) -> dict[str, Any]:
    """What the run's evaluation finds, on the data that goes with it."""
    if isinstance(run.evaluation, Retrieval):
        assert isinstance(run.data, Needles)
        return run.evaluation.evaluate(trained_model, run.data, run.seed)
    assert material.documents is not None
    return run.evaluation.evaluate(trained_model, material.documents, run.seed)


def _seconds(run: Run, folder: Path, corpus: str | None) -> float:
    """How long training took; not a number where lines of its metrics are missing."""
    lines = read_metrics(folder / "metrics.jsonl", fingerprint(run.about(corpus)))
    # A sum over some of the steps would look like a fast run.
    if lines.missing(run.train.steps):
        return math.nan
    return sum(line.get("seconds", math.nan) for line in lines.steps)


TITLES = {
    "linear": "linear",
    "ntk": "NTK",
    "ntk-doubled": "NTK doubled",
    "yarn": "YaRN",
    "parts": "NTK by parts",
    "llama3": "Llama 3",
    "self-extend": "Self-Extend",
    "rerope": "ReRoPE",
    "windowed": "window",
    "clamp": "clamp",
    "wrap": "wrap",
    "interpolate": "interpolate",
}
"""How variants are called in tables."""
