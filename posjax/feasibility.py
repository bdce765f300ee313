"""Whether a run can be trained and measured here, found out before hours are spent."""

from __future__ import annotations

import os
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from posjax.attention import Choice
from posjax.data import Task, TrainingData
from posjax.errors import InputError
from posjax.evaluation import Evaluation
from posjax.interop import Pretrained
from posjax.models import Architecture, Attention, explain
from posjax.stages import Stage, Untrained
from posjax.training import CausalLM, Devices, Objective, Train


def require_stage(name: str, stage: Stage, model: Architecture, data: TrainingData, begins: bool) -> None:
    """Errors: `InputError` for a training that the run of this name cannot have.

    `data`: the run's own. `begins`: whether the stage gives parameters to the next one and no more.
    """
    own = stage.data or data
    # What is measured in the end is not its model.
    if not begins:
        try:
            stage.objective.require(model)
            stage.objective.require_data(own)
        except InputError as why:
            raise InputError(f"the run {name!r}: {why}; or build(...) a model for a use of your own") from why
    if isinstance(own, Task) != isinstance(data, Task):
        raise InputError(f"the run {name!r} reads a task in one stage and text in another: take one of them")
    if getattr(stage.train, "stop", None) is not None:
        _require_early_stop(name, stage, data)
    # A table may end before the evaluation does, which is then told; training needs all of its length.
    most = model.max_length
    if most is not None and stage.train.length > most:
        raise InputError(
            f"the run {name!r} trains at length {stage.train.length} and {model.encoding!r} holds {most} positions: "
            "lengthen the table"
        )


def _require_early_stop(name: str, stage: Stage, data: TrainingData) -> None:
    """Errors: `InputError` where there is nothing to stop by: measured is the next token of a text that is held out."""
    if isinstance(data, Task):
        raise InputError(f"the run {name!r} stops early on a task, which has no validation text: leave stop out")
    if not isinstance(stage.objective, CausalLM):
        raise InputError(
            f"the run {name!r} stops early by the next token, and is trained by {type(stage.objective).__name__}: "
            "leave stop out"
        )


def require_measured(name: str, objective: Objective, evaluations: Sequence[Evaluation]) -> None:
    """Errors: `InputError` for an evaluation of the next token where something else is trained."""
    if isinstance(objective, CausalLM):
        return
    for evaluation in evaluations:
        if evaluation.next_token:
            raise InputError(
                f"the run {name!r} is trained by {type(objective).__name__}, and {type(evaluation).__name__} measures "
                "the next token: measure it by ObjectiveLoss"
            )


def hold_published(name: str, model: Architecture, vocabulary: int, weights: Pretrained) -> None:
    """Errors: `InputError` where a published model is not the one that a run names, or cannot read its text."""
    # From its configuration: no weights are read yet.
    found = weights.describe()
    if found.required() != model:
        raise InputError(
            f"{name}: model is another one than {weights.folder} has: give model=pretrained(folder).architecture; "
            "other encodings are what the evaluation's extensions are for"
        )
    # A text without a token to begin with has a separator behind the tokenizer's, which nobody has trained.
    if vocabulary > found.vocabulary:
        raise InputError(
            f"{name}: the text is read in {vocabulary:,} tokens and {weights.folder} knows "
            f"{found.vocabulary:,}: read it by the model's own tokenizer.json, with the token that begins a text"
        )


def backend(name: str, model: Architecture, train: Train | Pretrained | Untrained) -> tuple[Mesh, Choice | None]:
    """The mesh of a training, and the backend it takes there, `None` for linear attention alone.

    Errors: `InputError` for one that cannot do it.
    """
    # What is only evaluated is evaluated on one.
    if isinstance(train, Train):
        mesh = train.mesh()
    else:
        mesh = Devices(data=1).mesh(1)
    try:
        # Under the mesh, which decides what some backends can do.
        with jax.set_mesh(mesh):
            return mesh, _backend(model, train)
    except NotImplementedError as why:
        raise InputError(f"{name}: {why}") from why


def _backend(model: Architecture, train: Train | Pretrained | Untrained) -> Choice | None:
    # Sums of features have one way to be computed, and no place in the table of backends.
    if not any(isinstance(attends, Attention) for attends in model.main_stack.attentions()):
        return None
    return explain(model, train.length, train.compute)


def room(name: str, parameters: int, train: Train | Pretrained | Untrained, measured: int) -> None:
    """Errors: `InputError` where this machine cannot hold a run's parameters, a batch, or what is measured on.

    `measured`: the tokens of an evaluation's samples.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # Four bytes a number: parameters, their gradients, and both moments of Adam.
    state = 16 * parameters
    if isinstance(train, Train):
        state = _held_here(state, train)
    # Inputs, targets and weights of each token.
    batch = 12 * train.batch * train.length
    windows_bytes = 12 * measured
    needs = {
        "the model's parameters": (state, "layers, width and head_size"),
        "one batch": (batch, "batch and length"),
        "the windows of the evaluation": (windows_bytes, "windows, or sequences, and multiples"),
    }
    for what, (size, fields) in needs.items():
        if size > memory:
            raise InputError(
                f"{name}: {what} would take {size / 2**30:,.0f} GiB and this machine has "
                f"{memory / 2**30:,.0f}: lower {fields}"
            )


def _held_here(state: int, train: Train) -> float:
    """How many bytes of a state this machine's memory holds: what lies on accelerators is for a rehearsal to find."""
    mesh = train.mesh()
    here = [device for device in mesh.local_devices if device.platform == "cpu"]
    # What is split over `data` or `context` alone is whole on each of its devices.
    parts = mesh.shape["fsdp"] * mesh.shape["tensor"]
    return state * len(here) / parts
