"""Another encoding in a trained model: whatever its parameters allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax

from posjax.encodings.base import Dims, Encoding, NoPE
from posjax.encodings.step_temperature import StepTemperature
from posjax.encodings.traits import embeds
from posjax.errors import InputError
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import Attention, dims


def swapped(architecture: Architecture, encoding: Encoding | Callable[[Encoding], Encoding]) -> Architecture:
    """The architecture with another encoding in the attentions of its main stack, or a function of the one found.

    An encoding, as a value, leaves layers without any as they are; a function is given all.

    Errors: `InputError` for an encoding that learns something else than what was trained.
    """
    stack = architecture.main_stack
    pattern = tuple(_layer(layer, architecture.width, encoding) for layer in stack.pattern)
    stack = replace(stack, pattern=pattern)
    if architecture.main == "decoder":
        return replace(architecture, decoder=stack)
    return replace(architecture, encoder=stack)


def _layer(layer: Layer, width: int, encoding: Encoding | Callable[[Encoding], Encoding]) -> Layer:
    sublayers = []
    for sublayer in layer.sublayers:
        # Cross attention has no positions to speak of, and an encoder beside a decoder is another stack.
        if isinstance(sublayer, Attention) and sublayer.keys_from == "stream":
            found = sublayer.encoding
            other = _other(found, encoding)
            _require_same(found, other, dims(sublayer, width))
            sublayers.append(replace(sublayer, encoding=other))
        else:
            sublayers.append(sublayer)
    return replace(layer, sublayers=tuple(sublayers))


def _other(found: Encoding, encoding: Encoding | Callable[[Encoding], Encoding]) -> Encoding:
    if not isinstance(encoding, Encoding):
        made = encoding(found)
        if not isinstance(made, Encoding):
            raise InputError(f"encoding gave {made!r:.80} for {found!r}: needed is an encoding, such as Rope()")
        return made
    # A temperature is no position: layers that have it alone are left without any.
    if isinstance(found, NoPE | StepTemperature):
        return found
    return encoding


def _require_same(found: Encoding, other: Encoding, sizes: Dims) -> None:
    # What was trained would be left over, or what is needed was never trained.
    if _learned(found, sizes) != _learned(other, sizes) or embeds(found) != embeds(other):
        raise InputError(
            f"the model has {found!r} and was given {other!r}, which learns {_told(other, sizes)} where "
            f"{_told(found, sizes)} was trained: take one of the same parameters"
        )


def _learned(encoding: Encoding, sizes: Dims) -> dict[str, tuple[int, ...]]:
    """The shape of each array that it learns, by its path: what learns nothing is alike, however it is composed."""
    made = jax.eval_shape(lambda key: encoding.init(key, sizes), jax.random.key(0))
    leaves = jax.tree.leaves_with_path(made)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape for path, leaf in leaves}


def _told(encoding: Encoding, sizes: Dims) -> str:
    return str(_learned(encoding, sizes) or "nothing")
