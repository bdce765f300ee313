"""Parameters of one model as the beginning of another, whose encodings are others and whose layers are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from posjax.encodings import NoPE
from posjax.errors import InputError
from posjax.identity import differences, tree
from posjax.models import Architecture, build
from posjax.models.folding import fold
from posjax.models.plans import plan
from posjax.training.step import Trainer

Names = tuple[Any, ...]


@dataclass(frozen=True)
class Carried:
    """What of the parameters does not go over: `dropped` ones have no place, and `drawn` ones no origin."""

    dropped: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()

    @property
    def told(self) -> list[str]:
        """A line for each kind, none where all parameters go over."""
        lines = []
        if self.dropped:
            lines.append(f"dropped, as this model has no place for it: {', '.join(self.dropped)}")
        if self.drawn:
            lines.append(f"drawn anew, as the model before has not learned it: {', '.join(self.drawn)}")
        return lines


def carried(before: Architecture, after: Architecture, vocabulary: int) -> Carried:
    """Which parameters a model takes from the one before it.

    What an encoding learns may be new, or have no place any more; all else must be there, in the same shape.

    Errors: `InputError` for models that differ in more than their encodings, and for a parameter of another shape or of
    another kind of encoding.

    >>> from posjax import Learned, NoPE
    >>> from posjax.models import decoder
    >>> carried(decoder(Learned(length=8), layers=1), decoder(NoPE(), layers=1), vocabulary=257).dropped
    ('encodings.decoder.0.table',)
    """
    other = differences(tree(_bare(before)), _bare(after))
    if other:
        raise InputError(
            f"the model differs from the one before it in more than its encodings: {other[0]}; keep the rest as it was"
        )
    there, here = _shapes(before, vocabulary), _shapes(after, vocabulary)
    for path in there.keys() & here.keys():
        _require_alike(path, there[path], here[path], before, after)
    dropped = tuple(map(_named, sorted(there.keys() - here.keys(), key=str)))
    drawn = tuple(map(_named, sorted(here.keys() - there.keys(), key=str)))
    return Carried(dropped, drawn)


def _bare(model: Architecture) -> Architecture:
    return model.with_encodings(lambda encoding: NoPE())


def _shapes(model: Architecture, vocabulary: int) -> dict[Names, tuple[int, ...]]:
    state = nnx.state(nnx.eval_shape(lambda: build(model, vocabulary, 0)))
    return {path: variable.get_value().shape for path, variable in nnx.to_flat_state(state)}


def _require_alike(path: Names, there: Any, here: Any, before: Architecture, after: Architecture) -> None:
    """Errors: `InputError` for a parameter of another shape, or that means something else."""
    if there != here:
        raise InputError(
            f"the parameter {_named(path)} is of shape {list(there)} in the model before and {list(here)} in this one: "
            "keep the sizes of what is learned, or take an encoding of another kind, which is drawn anew"
        )
    if path[0] != "encodings":
        return
    # Named alike in two kinds, numbers would be taken for what they are not.
    one, other = _encoding(path, before), _encoding(path, after)
    if type(one) is not type(other):
        raise InputError(
            f"the parameter {_named(path)} was learned by {one!r} and would be taken for one of {other!r}: drop the "
            "encoding in a stage between, by NoPE(), or keep its kind"
        )


def _encoding(path: Names, model: Architecture) -> Any:
    _, stack, owner, *_ = path
    encoding, _ = plan(model.stacks[stack], model.width).owners[owner]
    return encoding


def _named(path: Names) -> str:
    return ".".join(map(str, path))


def carry(before: Trainer, after: Trainer, params: Any, seed: int) -> Any:
    """Parameters of one trainer, on the mesh of the other, as the other's; what is new is drawn by the seed.

    Each may hold its layers apart or as one.
    """

    def change(params: Any) -> Any:
        learned = dict(nnx.to_flat_state(nnx.state(before.trained(params))))
        graph, state = nnx.split(build(after.model, after.vocabulary, seed, after.compute))
        flat = []
        for path, variable in nnx.to_flat_state(state):
            if path in learned:
                variable = variable.replace(learned[path].get_value())
            flat.append((path, variable))
        model = nnx.merge(graph, nnx.from_flat_state(flat))
        if after.compute.loops:
            model = fold(model)
        return nnx.state(model)

    places = jax.tree.map(lambda leaf: leaf.sharding, after.abstract().params)
    # Compiled with its shardings, so that nothing lies whole on one device.
    return jax.jit(change, out_shardings=places)(params)
