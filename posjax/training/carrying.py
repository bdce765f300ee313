"""Parameters of one model as the beginning of another, whose encodings are others and whose layers are the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
from flax import nnx

from posjax.encodings import NoPE
from posjax.encodings.several import Several
from posjax.errors import InputError
from posjax.identity import differences, tree
from posjax.models import Architecture, Output, Stack, build
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

    What an encoding learns goes over to one of its kind; an output of other classes is drawn anew, as for a model of
    tokens that is to classify; all else must be there, in the same shape.

    Errors: `InputError` for models that differ in more than that, and for a parameter of another shape.

    >>> from posjax import Learned, NoPE
    >>> from posjax.models import decoder
    >>> carried(decoder(Learned(length=8), layers=1), decoder(NoPE(), layers=1), vocabulary=257).dropped
    ('encodings.decoder.0.arrays.table',)
    """
    # Without encodings both have to be the same value, whatever their parameters are called.
    bare = [_bare(before), _bare(after)]
    if before.output.classes != after.output.classes:
        bare = [replace(model, output=Output()) for model in bare]
    other = differences(tree(bare[0]), bare[1])
    if other:
        raise InputError(
            f"the model differs from the one before it in more than its encodings: {other[0]}; keep the rest as it was"
        )
    there = _shapes(before, vocabulary)
    here = _shapes(after, vocabulary)
    taken = set()
    drawn = []
    for path, shape in here.items():
        origin = _origin(path, before, after)
        if origin not in there or _kind(origin, before) != _kind(path, after):
            drawn.append(_named(path))
            continue
        taken.add(origin)
        if there[origin] != shape:
            raise InputError(
                f"the parameter {_named(origin)} is of shape {list(there[origin])} in the model before and "
                f"{list(shape)} in this one: keep the sizes of what is learned"
            )
    dropped = map(_named, there.keys() - taken)
    return Carried(tuple(sorted(dropped)), tuple(sorted(drawn)))


def _origin(path: Names, before: Architecture, after: Architecture) -> Names:
    """The parameter of the model before that one of the other begins from: of an encoding, by where it serves."""
    if path[0] != "encodings":
        return path
    _, stack, owner, *rest = path
    # Its number among the stack's is another one, once an encoding before it has gone.
    there, here = [_serving(model.stacks[stack], model.width) for model in (before, after)]
    first = here.index(owner)
    return ("encodings", stack, there[first], *rest)


def _serving(stack: Stack, width: int) -> list[str | None]:
    """For each sublayer of a stack the name of the encoding that serves it, `None` for those without tokens."""
    made = plan(stack, width)
    kinds = dict(made.kinds)
    found = []
    for layer in made.layers:
        found += [kind and kinds[kind].owner for kind in layer]
    return found


def _bare(model: Architecture) -> Architecture:
    return model.with_encodings(lambda encoding: NoPE())


def _shapes(model: Architecture, vocabulary: int) -> dict[Names, tuple[int, ...]]:
    # Of shapes alone: nothing is drawn to find out what would not fit.
    state = nnx.state(nnx.eval_shape(lambda: build(model, vocabulary, 0)))
    return {path: variable.get_value().shape for path, variable in nnx.to_flat_state(state)}


def _kind(path: Names, model: Architecture) -> Any:
    """Of which kind of encoding, or of how many classes, a parameter is: two may call different things alike."""
    if path[0] == "head":
        return model.output.classes
    if path[0] != "encodings":
        return None
    _, stack, owner, *_ = path
    encoding, _ = plan(model.stacks[stack], model.width).owners[owner]
    kinds: list[type] = [type(encoding)]
    # The name of an array begins with the numbers of the parts that it is in.
    for number in str(path[-1]).split("_"):
        if not isinstance(encoding, Several) or not number.isdigit():
            break
        encoding = encoding.parts[int(number)]
        kinds.append(type(encoding))
    return kinds


def _named(path: Names) -> str:
    return ".".join(map(str, path))


def carry(before: Trainer, after: Trainer, params: Any, seed: int) -> Any:
    """Parameters of one trainer, on the mesh of the other, as the other's; what is new is drawn by the seed.

    Each may hold its layers apart or as one.
    """

    drawn = carried(before.model, after.model, after.vocabulary).drawn

    def change(params: Any) -> Any:
        # Layer by layer on both sides, since each may be held otherwise.
        learned = dict(nnx.to_flat_state(nnx.state(before.trained(params))))
        # Drawn whole, of which the compiler leaves out what is not used.
        graph, state = nnx.split(build(after.model, after.vocabulary, seed, after.compute))
        flat = []
        for path, variable in nnx.to_flat_state(state):
            if _named(path) not in drawn:
                origin = _origin(path, before.model, after.model)
                variable = variable.replace(learned[origin].get_value())
            flat.append((path, variable))
        model = nnx.merge(graph, nnx.from_flat_state(flat))
        if after.compute.loops:
            model = fold(model)
        return nnx.state(model)

    places = jax.tree.map(lambda leaf: leaf.sharding, after.abstract().params)
    # Compiled with its shardings, so that nothing lies whole on one device.
    return jax.jit(change, out_shardings=places)(params)
