"""One trained model, looked at in several ways without training it again.

A variant changes numbers only: the encoding's constants, its parameters, the width of the mask's window. All of them
are data of one compiled function, so a further variant costs no compilation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import jax.numpy as jnp
from flax import nnx

from posjax.arguments import LARGEST
from posjax.encodings import NTK, Chain, Encoding, Interpolation, Learned, Rope, Schedule, Yarn, chain
from posjax.encodings.learned import Fill
from posjax.encodings.traits import structure
from posjax.errors import InputError
from posjax.models import Architecture, EncodingParams, Transformer, build, constants_of
from posjax.models.transformer import encodings_of

Extension = Literal["linear", "ntk", "yarn"]
Kind = Literal["raw", "windowed", "extension", "fill"]


@dataclass(frozen=True)
class Variant:
    """A name for a table, what kind of change it is, and which: an `Extension` or a `Fill`."""

    name: str
    kind: Kind


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


class Evaluation(Protocol):
    """What every evaluation says of how a model is looked at: at which lengths, and in which variants."""

    @property
    def multiples(self) -> tuple[int, ...]: ...

    @property
    def extensions(self) -> tuple[Extension, ...]: ...

    @property
    def fills(self) -> tuple[Fill, ...]: ...

    @property
    def control(self) -> bool: ...


def chosen_variants(trained_model: TrainedModel, evaluation: Evaluation) -> list[Variant]:
    """The variants of an evaluation that this model has."""
    return variants(trained_model, evaluation.extensions, evaluation.fills, evaluation.control)


def variants(
    trained_model: TrainedModel, extensions: tuple[Extension, ...], fills: tuple[Fill, ...], control: bool
) -> list[Variant]:
    """The variants that this model has: extensions where it is rotary, fills where it has a table."""
    parts = [part for encoding in trained_model.encodings for part in _parts(encoding)]
    found = [RAW]
    if any(isinstance(part, Rope) for part in parts):
        found += [Variant(name, "extension") for name in extensions]
    if any(isinstance(part, Learned) for part in parts):
        found += [Variant(name, "fill") for name in fills]
    if control:
        found.append(WINDOWED)
    return found


def _parts(encoding: Encoding) -> tuple[Encoding, ...]:
    """The encodings of a chain, or the one that there is."""
    if isinstance(encoding, Chain):
        return encoding.parts
    return (encoding,)


def extended(encoding: Encoding, how: Extension, factor: float, original_length: int) -> Encoding:
    """The encoding with its rotary parts extended by a factor, zero-shot. A factor of 1 leaves it as it is.

    >>> extended(Rope(), "linear", 4.0, 64).schedule
    Interpolation(factor=4.0)
    """
    schedules: dict[str, Schedule] = {
        "linear": Interpolation(factor),
        "ntk": NTK(factor),
        "yarn": Yarn(factor, original_length),
    }
    parts = []
    for part in _parts(encoding):
        # The other parts of a chain, such as a bias, go on as they were trained.
        if isinstance(part, Rope):
            part = replace(part, schedule=schedules[how])
        parts.append(part)
    return chain(*parts)


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
        if variant.kind != "extension":
            return encoding.at_length(length)
        other = extended(encoding, variant.name, float(multiple), trained)  # type: ignore[arg-type]
        # Constants of another structure would not fit the compiled function, nor the trained parameters.
        if structure(other) != structure(encoding):
            raise InputError(
                f"{encoding!r} cannot be extended by {variant.name}: the extension is of another structure"
            )
        return other

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

    for owner, encoding in encodings_of(model.architecture, name).items():
        params = model.encodings[name][owner].get_value()
        # A chain keeps the parameters of its parts by name, a single encoding its own.
        if isinstance(encoding, Chain):
            parts = zip(params, encoding.parts, strict=True)
            new = {part_name: fill(part, params[part_name]) for part_name, part in parts}
        else:
            new = fill(encoding, params)
        filled = EncodingParams(new)
        state["encodings"][name][owner] = nnx.state(filled)
    return state
