"""One frozen `Run` value, one folder: trained, evaluated, and never twice."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from posjax.attention import Choice
from posjax.data import Batches, Documents, Needles, StandardLibrary, Text, training_windows, validation_windows
from posjax.errors import InputError
from posjax.evaluation import Extrapolation, Retrieval, Subject
from posjax.models import Decoder
from posjax.positions import LARGEST
from posjax.training import Checkpoints, Train, TrainingProgress, fit, trainer
from posjax.training.checkpoints import probe
from posjax.training.metrics import read as read_metrics

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "posjax")


@dataclass(frozen=True)
class Run:
    """One model: what it is, what it reads, how it is trained, what is measured. `name` is its folder's."""

    name: str
    label: str
    model: Decoder
    data: StandardLibrary | Text | Needles
    train: Train
    evaluation: Extrapolation | Retrieval
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.data, Needles) != isinstance(self.evaluation, Retrieval):
            raise InputError(f"the run {self.name!r} evaluates {type(self.data).__name__} by "
                             f"{type(self.evaluation).__name__}: Needles go with Retrieval, text with Extrapolation")
        most = self.model.encoding.max_length
        if most is not None and self.train.length > most:
            raise InputError(f"the run {self.name!r} trains at length {self.train.length} and "
                             f"{self.model.encoding!r} holds {most} positions: lengthen the table")


@dataclass(frozen=True)
class Experiment:
    """Runs that answer one question together. A config file's `experiment()` returns one."""

    title: str
    question: str
    runs: tuple[Run, ...]
    paper: str = ""

    def __post_init__(self) -> None:
        names = [run.name for run in self.runs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise InputError(f"the experiment {self.title!r} has "
                             + (f"two runs named {twice[0]!r}: each needs a name of its own" if twice else "no runs"))


@dataclass(frozen=True)
class Material:
    """A run's data, opened: rows to train on, and the documents of a text."""

    batches: Batches
    documents: Documents | None

    @classmethod
    def open(cls, run: Run) -> Material:
        if isinstance(run.data, Needles):
            return cls(Batches(run.data.rows(run.train.length, run.seed), run.train.batch), None)
        documents = run.data.load()
        rows = training_windows(documents, run.train.length, run.seed)
        return cls(Batches(rows, run.train.batch), documents)

    @property
    def fingerprint(self) -> str | None:
        return None if self.documents is None else self.documents.fingerprint


def check(run: Run) -> None:
    """Whether a run's data is enough to train and to evaluate on, before hours are spent. Errors: `InputError`."""
    longest = max(run.evaluation.multiples) * run.train.length
    if longest > LARGEST:
        raise InputError(f"{run.name} would reach position {longest - 1}, {max(run.evaluation.multiples)} times the "
                         f"trained length of {run.train.length}: positions are int32 and end at 2^31 - 1; take a "
                         "shorter length or smaller multiples")
    _backend(run)
    if isinstance(run.data, Needles):
        run.data.rows(run.train.length, run.seed)
    elif isinstance(run.evaluation, Extrapolation):
        documents = run.data.load()
        training_windows(documents, run.train.length, run.seed)
        validation_windows(documents, run.evaluation.multiples[-1] * run.train.length, 1, run.seed)


def train(run: Run, folder: Path, progress: Callable[[int], TrainingProgress] | None = None) -> Subject:
    """Trains the run in its folder, from where it is, and returns the model.

    Errors: `InputError` for a folder of another config, or whose corpus has changed; `Stopped` as `fit`.
    """
    material = Material.open(run)
    claim(run, folder, material)
    machine = trainer(run.train, run.model, run.data.vocabulary)
    state = fit(run.train, machine, material.batches, run.seed, folder, progress)
    return Subject(nnx.merge(machine.graph(), state.params), run.train.length)


def restore(run: Run, folder: Path) -> Subject:
    """The trained model of a folder. Errors: `InputError` where training has not ended yet."""
    claim(run, folder, None)
    machine = trainer(run.train, run.model, run.data.vocabulary)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        step, state, _ = checkpoints.restore(machine.abstract())
    if state is None or step < run.train.steps:
        raise InputError(f"{folder} is trained to step {step} of {run.train.steps}: run experiments.train first, the "
                         "same command goes on from there")
    return Subject(nnx.merge(machine.graph(), state.params), run.train.length)


def evaluate(run: Run, folder: Path, subject: Subject) -> dict[str, Any]:
    """Measures a trained model and writes `results.json`, which is complete or not there."""
    material = Material.open(run)
    claim(run, folder, material)
    began = time.perf_counter()
    if isinstance(run.evaluation, Retrieval):
        assert isinstance(run.data, Needles)
        results = run.evaluation.run(subject, run.data, run.seed)
    else:
        assert material.documents is not None
        results = run.evaluation.run(subject, material.documents, run.seed)
    seconds = {"train": sum(line["seconds"] for line in read_metrics(folder / "metrics.jsonl")),
               "evaluate": time.perf_counter() - began}
    for variant in results["variants"]:
        variant["label"] = run.label if variant["kind"] == "raw" else f"{run.label} + {TITLES[variant['name']]}"
    size = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(subject.model)))
    results |= {"name": run.name, "label": run.label, "parameters": size, "seconds": seconds,
                "tokens": run.train.steps * run.train.batch * run.train.length}
    write_json(folder / "results.json", results)
    return results


TITLES = {"linear": "linear", "ntk": "NTK", "yarn": "YaRN", "windowed": "window", "clamp": "clamp", "wrap": "wrap",
          "interpolate": "interpolate"}
"""How variants are called in tables."""


def finished(folder: Path) -> bool:
    """Whether a run's results are there."""
    return (folder / "results.json").exists()


def claim(run: Run, folder: Path, material: Material | None) -> None:
    """Makes a folder this run's own, or holds it to be so already. Errors: `InputError` that says what differs."""
    path, mine = folder / "run.json", tree(run)
    if path.exists():
        found = read_json(path)
        if not isinstance(found, dict) or not {"config_tree", "corpus"} <= set(found):
            raise InputError(f"{path} is damaged: it is no manifest; remove its folder to run again")
        different = differences(found["config_tree"], mine)
        if different:
            raise InputError(f"{folder} belongs to another config: {'; '.join(different[:3])}"
                             + (f"; and {len(different) - 3} more" if len(different) > 3 else "")
                             + ". Nothing was changed; choose another folder with --work")
        if material is not None and found["corpus"] != material.fingerprint:
            raise InputError(f"{folder} was begun with a corpus of fingerprint {found['corpus']}, and it is "
                             f"{material.fingerprint} now: restore the text, or choose another folder with --work")
        return
    if material is None:
        raise InputError(f"{folder} holds no run: train it first with experiments.train or experiments.run")
    probe(folder)
    write_json(path, manifest(run, material))


def manifest(run: Run, material: Material) -> dict[str, Any]:
    """What is needed to repeat a run: the config and all that it ran on."""
    mesh, chosen = _backend(run)
    return {
        "name": run.name, "label": run.label, "config": repr(run), "config_tree": tree(run),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "devices": [str(device) for device in mesh.devices.flat], "device_kind": jax.devices()[0].device_kind,
        "mesh": dict(mesh.shape), "backend": chosen.backend, "attention": str(chosen), "commit": commit(),
        "corpus": material.fingerprint,
    }


def _backend(run: Run) -> tuple[Mesh, Choice]:
    """The mesh of a run, and the backend it takes there. Errors: `InputError` for a named one that cannot do it."""
    mesh = run.train.devices.mesh(run.train.batch)
    try:
        with jax.set_mesh(mesh):
            return mesh, run.model.explain(run.train.length)
    except NotImplementedError as why:
        raise InputError(f"{run.name}: {why}") from why


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The git commit of this checkout, with a "+" where files differ from it; `None` outside a checkout."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def tree(value: Any) -> Any:
    """A config value as nested plain values, every dataclass with the name of its class under "is"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: tree(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    return [tree(item) for item in value] if isinstance(value, (tuple, list)) else value


def differences(there: Any, here: Any, path: str = "") -> list[str]:
    """Where two config trees differ, as "train.steps is 400 there and 50 here"."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = dict.fromkeys([*there, *here])
        return [line for name in names
                for line in differences(there.get(name), here.get(name), f"{path}.{name}" if path else name)]
    return [] if there == here else [f"{path} is {there!r} there and {here!r} here"]


def read_json(path: Path) -> Any:
    """The content of a JSON file. Errors: `InputError` where it is damaged."""
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged ({error}): remove its folder to run again") from error


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file as a whole, so that a kill leaves the old one or the new one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(part, path)
