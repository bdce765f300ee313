"""What is asked of any encoding and follows from what it defines, so that nobody has to declare it."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any, Literal, Protocol, runtime_checkable

import jax

from posjax.encodings.base import Encoding, Params, RelativeBias
from posjax.encodings.several import Several
from posjax.errors import InputError

Hook = Literal["move", "embed", "rotate", "bias", "score"]


@runtime_checkable
class Advising(Protocol):
    """An encoding with fields that a training can make a mistake of."""

    def advice(self, trained_length: int) -> tuple[str, ...]:
        """What to know before training at that length: sentences."""
        ...


def defines(encoding: Encoding, hook: Hook) -> bool:
    """Whether an encoding, or one that it is made of, defines a hook."""
    # What is made of others defines every hook, to pass it on.
    if isinstance(encoding, Several):
        return any(defines(part, hook) for part in encoding.parts)
    own = getattr(type(encoding), hook)
    return own is not getattr(Encoding, hook)


def moves_tokens(encoding: Encoding) -> bool:
    """Whether it gives tokens other positions."""
    return defines(encoding, "move")


def embeds(encoding: Encoding) -> bool:
    """Whether it adds to token embeddings."""
    return defines(encoding, "embed")


def scores_content(encoding: Encoding) -> bool:
    """Whether its score is more than the product of queries and keys."""
    return defines(encoding, "score")


def acts_on_all_heads(encoding: Encoding) -> bool:
    """Whether it does something to tokens before there are heads, or to the scores of all of them."""
    return embeds(encoding) or scores_content(encoding) or moves_tokens(encoding)


def turns_by_one_position(encoding: Encoding) -> bool:
    """Whether it rotates by one position and does no more, but for scores of its own."""
    if encoding.bias_kind != "none" or encoding.coordinates > 1:
        return False
    return not (embeds(encoding) or moves_tokens(encoding))


def slopes(encoding: Encoding, params: Params, heads: int) -> jax.Array | None:
    """The slopes of a bias that is linear in the distance, float32 `[N]`; `None` for any other, or none."""
    # Only a function of the distance alone can be linear in it.
    if isinstance(encoding, RelativeBias | Several):
        return encoding.slopes(params, heads)
    return None


def advice(encoding: Encoding, trained_length: int) -> tuple[str, ...]:
    """What to know before training at that length: sentences, where a field is likely to be a mistake."""
    if isinstance(encoding, Several):
        sentences: list[str] = []
        for part in encoding.parts:
            sentences += advice(part, trained_length)
        return tuple(sentences)
    if isinstance(encoding, Advising):
        return encoding.advice(trained_length)
    return ()


def structure(encoding: Encoding) -> Hashable:
    """What remains when the swept fields are taken out: within a structure, constants may be exchanged as data.

    >>> from posjax.encodings.rope import Rope
    >>> structure(Rope(base=500.0)) == structure(Rope())
    True
    """
    # The class is a part of it: fields of the same names mean something else in another.
    kept: list[Hashable] = [type(encoding)]
    for field in dataclasses.fields(encoding):
        if field.name not in encoding.swept:
            value = getattr(encoding, field.name)
            kept.append((field.name, _structure_of(value)))
    return tuple(kept)


def coordinates_of_length(encoding: Encoding) -> int:
    """How many coordinates of a position those of its parts read that depend on the length of the context."""
    if isinstance(encoding, Several):
        return max((coordinates_of_length(part) for part in encoding.parts), default=0)
    if encoding.length_dependent:
        return encoding.coordinates
    return 0


def told_by_fields(encoding: Encoding) -> bool:
    """Whether `at_length` sets fields that are not swept: hooks may read them, and constants alone do not tell them.

    >>> from posjax.encodings.rope import Rope
    >>> from posjax.encodings.schedules.by_length import DynamicNTK
    >>> told_by_fields(Rope(schedule=DynamicNTK(2.0, 64)))
    False
    """
    if not encoding.length_dependent:
        return False
    own = structure(encoding)
    for length in (1, 2, 2**20):  # Some keep what they are at short ones.
        try:
            told = encoding.at_length(length)
        except InputError:  # The end of a table.
            continue
        if structure(told) != own:
            return True
    return False


def _structure_of(value: Any) -> Hashable:
    # What an encoding is made of has swept fields of its own.
    if isinstance(value, Encoding):
        return structure(value)
    if isinstance(value, tuple):
        return tuple(_structure_of(part) for part in value)
    return value
