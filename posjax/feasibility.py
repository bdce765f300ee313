"""Whether a run can be trained and measured here, found out before hours are spent."""

from __future__ import annotations

import os

import jax
from jax.sharding import Mesh

from posjax.attention import Choice
from posjax.errors import InputError
from posjax.interop import Pretrained
from posjax.models import Architecture, explain
from posjax.stages import Untrained
from posjax.training import Devices, Train


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


def backend(name: str, model: Architecture, train: Train | Pretrained | Untrained) -> tuple[Mesh, Choice]:
    """The mesh of a training, and the backend it takes there. Errors: `InputError` for one that cannot do it."""
    # What is only evaluated is evaluated on one.
    if isinstance(train, Train):
        mesh = train.mesh()
    else:
        mesh = Devices(data=1).mesh(1)
    try:
        # Under the mesh, which decides what some backends can do.
        with jax.set_mesh(mesh):
            return mesh, explain(model, train.length, train.compute)
    except NotImplementedError as why:
        raise InputError(f"{name}: {why}") from why


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
