"""Of which models a law of `laws.py` says something, and what their encodings are held to by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from posjax.attention import Causal, Full, Window
from posjax.attention.masks import rules
from posjax.encodings.base import Dims, Encoding
from posjax.encodings.rope import Rope
from posjax.invariants import assert_length, assert_temperature
from posjax.invariants.following import parts_of, temperature_of
from posjax.models.architecture import Architecture
from posjax.models.parts import Attention, dims


def left_out(architecture: Architecture, length: int) -> dict[str, str]:
    """The laws that say nothing of a model at that length, and why."""
    found = {}
    encodings = [encoding for encoding, _ in encodings_in(architecture)]
    absolute = [encoding for encoding in encodings if not encoding.relative]
    most = architecture.max_length
    if absolute:
        found["shift"] = f"{absolute[0]!r} is not relative"
    elif most is not None and most <= length:
        found["shift"] = f"its encodings hold {most} positions"
    pack = _unpacked(architecture, length)
    if pack is not None:
        found["pack"] = pack
    own = [at.mask for at in architecture.main_stack.attentions() if not _reads_memory(at)]
    if architecture.decoder is None or architecture.output.classes is not None:
        found["decode"] = "nothing is decoded"
    elif not all(mask.causal for mask in own):
        found["decode"] = "a mask lets tokens look ahead"
    if not any(encoding.length_dependent for encoding in encodings):
        found["length"] = "no encoding depends on the length of the context"
    return found


def _unpacked(architecture: Architecture, length: int) -> str | None:
    """Why rows of a model are not packed."""
    if architecture.output.classes is not None:
        return "its output is of a whole row"
    if len(architecture.stacks) > 1:
        return "a decoder that reads an encoder has no documents in its rows"
    if length < 2:
        return "a row has one token"
    for at in architecture.main_stack.attentions():
        # Others count from the row's first token, which is not the second document's.
        if not all(type(rule) in (Causal, Window, Full) for rule in rules(at.mask)):
            return f"{at.mask!r} counts from a row's first token"
    return None


def _reads_memory(attending: Any) -> bool:
    return isinstance(attending, Attention) and attending.keys_from == "memory"


def encodings_in(architecture: Architecture) -> Iterator[tuple[Encoding, Dims]]:
    """Each encoding of each stack, with the sizes that it serves."""
    for stack in architecture.stacks.values():
        yield from stack.encodings(architecture.width)


def hold_encodings(architecture: Architecture, length: int) -> None:
    """Holds each encoding to the length and the temperature law, which no parameter has to do with.

    Errors: `AssertionError`; for a temperature that the scores' scale has too.
    """
    for encoding, sizes in encodings_in(architecture):
        assert_temperature(encoding, sizes)
        assert_length(encoding, sizes, length)
    for stack in architecture.stacks.values():
        for attending in stack.attentions():
            if isinstance(attending, Attention):
                _hold_scale(attending, dims(attending, architecture.width))


def _hold_scale(attending: Attention, sizes: Dims) -> None:
    scale = attending.scores.scale
    if scale is None:
        return
    beyond = scale * sizes.head_size**0.5
    for part in parts_of(attending.encoding):
        if not isinstance(part, Rope):
            continue
        # Queries have it, and keys have it: products have its square.
        squared = temperature_of(part, sizes) ** 2
        if abs(squared - 1) > 1e-3 and abs(beyond / squared - 1) < 1e-3:
            raise AssertionError(
                f"{part!r} scales queries and keys by a temperature, and Scores(scale={scale}) has it again: leave "
                "the scale out, or give the schedule attention_factor=1.0"
            )
