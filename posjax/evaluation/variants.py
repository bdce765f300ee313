"""One trained model, looked at in several ways without training it again.

Most variants change numbers only: the encoding's constants, its parameters, the width of the mask's window. All of
them are data of one compiled function, so a further variant costs no compilation. Extensions of another structure, such
as Self-Extend, take the same weights into a model of their own, which is compiled for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from posjax.arguments import LARGEST
from posjax.encodings import Chain, Encoding, Learned
from posjax.encodings.learned import Fill
from posjax.encodings.traits import structure
from posjax.errors import InputError
from posjax.evaluation.extending import Extension, parts_of
from posjax.evaluation.extensions import ExtensionLike, extended, given
from posjax.models import Architecture, EncodingParams, Transformer, build, constants_of
from posjax.models.plans import plan
from posjax.results import Coordinate

Kind = Literal["raw", "windowed", "extension", "fill"]


@dataclass(frozen=True)
class Variant:
    """A name for a table, and what kind of change it is: of a `Fill` its name, of an extension its name or value.

    >>> Variant("drop", "extension").always
    True
    """

    name: str
    kind: Kind
    value: Extension | None = None

    @property
    def extension(self) -> Extension:
        """What it extends by. Errors: `InputError` for a name that no extension has."""
        return given(self.value or self.name)  # type: ignore[arg-type]

    @property
    def always(self) -> bool:
        """Whether it changes the model within its trained length too."""
        if self.kind == "extension":
            return self.extension.always
        return self.kind == "fill"

    @property
    def coordinates(self) -> dict[str, str]:
        """Where its measurements were taken."""
        return {"variant": self.name, "kind": self.kind}

    def at(self, multiple: int, trained_length: int) -> dict[str, Coordinate]:
        """The same, with the length of the context."""
        return {**self.coordinates, "multiple": multiple, "length": multiple * trained_length}


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and the length it was trained at."""

    model: Transformer
    trained_length: int

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    @property
    def encodings(self) -> tuple[Encoding, ...]:
        """The encodings of its layers, equal ones once."""
        architecture = self.architecture
        return tuple(encoding for encoding, _ in architecture.main_stack.encodings(architecture.width))

    def last_multiple(self, multiples: tuple[int, ...]) -> int:
        """The largest multiple of the trained length that the encoding's table holds. Errors: `InputError` for none."""
        most = self.architecture.max_length
        held = [m for m in multiples if most is None or m * self.trained_length <= most]
        if not held:
            raise InputError(
                f"{self.architecture.encoding!r} holds {most} positions and the model was trained at "
                f"{self.trained_length}: nothing can be evaluated; lengthen the table"
            )
        return max(held)


def abstract(model: Architecture, vocabulary: int, trained_length: int) -> TrainedModel:
    """A model of shapes alone: nothing is computed."""
    shapes = nnx.eval_shape(lambda: build(model, vocabulary, 0))
    return TrainedModel(shapes, trained_length)


RAW = Variant("raw", "raw")
WINDOWED = Variant("windowed", "windowed")


class OfVariants(Protocol):
    """What an evaluation says of how a model is looked at: at which lengths, and in which variants."""

    @property
    def multiples(self) -> tuple[int, ...]: ...

    @property
    def extensions(self) -> tuple[ExtensionLike, ...]: ...

    @property
    def fills(self) -> tuple[Fill, ...]: ...

    @property
    def control(self) -> bool: ...


def chosen_variants(trained_model: TrainedModel, evaluation: OfVariants) -> list[Variant]:
    """The variants of an evaluation that this model has."""
    return variants(trained_model, evaluation.extensions, evaluation.fills, evaluation.control)


def variants(
    trained_model: TrainedModel, extensions: tuple[ExtensionLike, ...], fills: tuple[Fill, ...], control: bool
) -> list[Variant]:
    """The variants that this model has: extensions where they suit it, fills where it has a table."""
    parts = [part for encoding in trained_model.encodings for part in parts_of(encoding)]
    found = [RAW]
    for extension in map(given, extensions):
        if any(map(extension.suits, trained_model.encodings)):
            found.append(Variant(extension.name, "extension", extension))
    if any(isinstance(part, Learned) for part in parts):
        found += [Variant(name, "fill") for name in fills]
    if control:
        found.append(WINDOWED)
    return found


def seen(trained_model: TrainedModel, variant: Variant, multiple: int) -> tuple[Any, Any]:
    """A variant at a multiple of the trained length: the graph of its model, and what varies within one, as data.

    The data are (the model's state, constants, window). Errors: `InputError` for an extension of another structure
    where the model's encodings have learned something.
    """
    if variant.kind == "extension":
        other = _rebuilt(trained_model, variant, multiple)
        if other is not None:
            graph, state = nnx.split(other)
            # The encoding is the extended one already, so its own constants are what it needs.
            length = multiple * trained_model.trained_length
            constants = constants_of(other.architecture, lambda encoding: encoding.at_length(length))
            return graph, (state, constants, jnp.int32(LARGEST))
    graph, _ = nnx.split(trained_model.model)
    return graph, numbers(trained_model, variant, multiple)


def _rebuilt(trained_model: TrainedModel, variant: Variant, multiple: int) -> Transformer | None:
    """A model of the same weights with the extended encodings; `None` where constants alone make the difference."""
    model = trained_model.model

    def change(encoding: Encoding) -> Encoding:
        return extended(encoding, variant.extension, float(multiple), trained_model.trained_length)

    before = model.architecture
    after = before.with_encodings(change)
    # The compiled function of the raw model serves these too.
    if all(structure(change(encoding)) == structure(encoding) for encoding in trained_model.encodings):
        return None
    vocabulary = model.embedding.num_embeddings
    # Shapes alone: initial weights would be drawn for nothing.
    shapes = nnx.eval_shape(lambda: build(after, vocabulary, 0, model.compute))
    graph, state = nnx.split(shapes)
    weights = nnx.state(model)
    # Parameters of another structure have no trained numbers: only encodings that learn nothing can change theirs.
    if jax.tree.leaves((state.get("encodings"), weights.get("encodings"))):
        raise InputError(
            f"{before.encoding!r} cannot be extended by {variant.name}: the extension is of another structure, and "
            "what was learned has no place in it; take one of its other extensions"
        )
    for name, part in weights.items():
        if name != "encodings":
            state[name] = part
    rebuilt: Transformer = nnx.merge(graph, state)
    return rebuilt


def numbers(trained_model: TrainedModel, variant: Variant, multiple: int) -> tuple[Any, Any, Any]:
    """A variant at a multiple of the trained length, as data: (the model's state, constants, window)."""
    trained = trained_model.trained_length
    # Every variant has a window, if one that hides nothing: with and without would be two compilations.
    window = LARGEST
    if variant.kind == "windowed":
        window = trained
    state = nnx.state(trained_model.model)
    length = multiple * trained

    def resolved(encoding: Encoding) -> Encoding:
        if variant.kind == "extension":
            encoding = extended(encoding, variant.extension, float(multiple), trained)
        return encoding.at_length(length)

    if variant.kind == "fill":
        state = _filled(trained_model, variant.name, multiple)  # type: ignore[arg-type]
    constants = constants_of(trained_model.architecture, resolved)
    return state, constants, jnp.int32(window)


def _filled(trained_model: TrainedModel, how: Fill, multiple: int) -> Any:
    """The model's state, the untrained rows of its learned tables filled."""
    trained = trained_model.trained_length
    length = multiple * trained
    model = trained_model.model
    state = nnx.state(model)
    name = model.architecture.main

    def fill(part: Encoding, own: Any) -> Any:
        if isinstance(part, Learned):
            return part.fill(own, trained, length, how)
        return own

    owners = plan(model.architecture.stacks[name], model.architecture.width).owners
    for owner, (encoding, sizes) in owners.items():
        params = model.encodings[name][owner].get_value()
        # A chain keeps the parameters of its parts by name, a single encoding its own.
        if isinstance(encoding, Chain):
            parts = zip(params, encoding.parts, strict=True)
            new = {part_name: fill(part, params[part_name]) for part_name, part in parts}
        else:
            new = fill(encoding, params)
        filled = EncodingParams(new, sizes)
        state["encodings"][name][owner] = nnx.state(filled)
    return state
