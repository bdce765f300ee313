"""A run's folder without its config: the run, as its manifest spells it, and the trained model as a published one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import posjax
from experiments.check import built
from posjax import data, evaluation, interop, models, runs, search, stages, training
from posjax.errors import InputError
from posjax.files import read_json
from posjax.interop import Pretrained, configuration, configured
from posjax.models import Transformer
from posjax.runs import Run
from posjax.stages import Stages

ROOMS = (posjax, data, evaluation, interop, models, runs, search, stages, training)
NAMES = {name: made for room in ROOMS for name, made in vars(room).items() if isinstance(made, type)}
"""What a manifest's config may call: the values of posjax. Those of a config of one's own nobody can import by it."""


def run_of(folder: Path) -> Run:
    """The run of a folder. Errors: `InputError` where its config holds what is not posjax's."""
    path = folder / "run.json"
    try:
        found = built(str(read_json(path).get("config")), NAMES, "value")
    except (SyntaxError, ValueError, TypeError, LookupError) as error:
        raise InputError(f"{path} spells no run that can be read without its config: {error}") from error
    # A file that was edited may spell any of the names.
    if not isinstance(found, Run):
        raise InputError(f"{path} holds no run: name the folder of a trained run, such as runs/quickstart/rope")
    return found


def read(folder: Path) -> tuple[Transformer, dict[str, Any] | None]:
    """The trained model of a run's folder, and a configuration for it, `None` where it came with its own.

    Errors: `InputError` where training has not ended, or no family describes the model.
    """
    run = run_of(folder)
    config = None
    # First what costs nothing: the weights may take a while.
    if isinstance(run.train, Stages) and isinstance(weights := run.train.stages[0].train, Pretrained):
        config = configuration(weights.folder)
    # One that was published keeps its own.
    elif not isinstance(run.train, Pretrained):
        config = configured(run.model, run.vocabulary, run.train.length)
    return runs.restore(run, folder).model, config


def typed(model: Transformer, dtype: str) -> Transformer:
    """The model with parameters of a type."""
    graph, state = nnx.split(model)
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(jnp.dtype(dtype)), state))
