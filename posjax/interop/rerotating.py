"""A configuration with another rotation than the one that it was published with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from posjax.encodings.base import Encoding
from posjax.encodings.published import from_rope_parameters
from posjax.encodings.published_families import BASES, FRACTIONS, NAMED, NESTS
from posjax.encodings.published_reads import Reads, reads
from posjax.encodings.published_writing import to_rope_parameters
from posjax.encodings.rope import Rope
from posjax.encodings.schedules import NTK, Plain
from posjax.encodings.schedules.base import grown_base
from posjax.errors import InputError
from posjax.interop.swapping import swapped
from posjax.models.architecture import Architecture

SAID = (*NESTS, *BASES, *FRACTIONS, "rotary_dim")
"""Keys that a rotation is said by."""


def rerotated(values: Mapping[str, Any], published: Architecture, now: Architecture) -> dict[str, Any]:
    """The configuration with the rotations of `now` for those of the published architecture.

    Errors: `InputError` for an encoding that no configuration of the family can say.
    """
    changed = _changed(published, now)
    if not changed:
        return dict(values)
    nested = values.get(NESTS[0]) or {}
    by_type = {kind: inner for kind, inner in nested.items() if isinstance(inner, Mapping)}
    if by_type:
        # Layer types that turn alike are changed together, each where it is named.
        for kind in by_type:
            found = from_rope_parameters(values, kind)
            if found in changed:
                by_type |= to_rope_parameters({kind: changed[found]}, model_type=values["model_type"])
        return {**values, NESTS[0]: by_type}
    if len(changed) != 1:
        raise InputError(
            f"the model has other encodings for {', '.join(map(repr, changed))}, and its configuration names one for "
            "all layers: give write a config that describes the model"
        )
    encoding = next(iter(changed.values()))
    read = reads(values["model_type"])
    if read is not None and not read.sections:
        return {**values, **_channels(values["model_type"], read, encoding, now)}
    rest = {key: value for key, value in values.items() if key not in SAID}
    # In the spelling that the configuration has, which is the one that its readers know.
    if NESTS[0] not in values:
        return {**rest, **_spelled_as_before(values, encoding)}
    return {**rest, NESTS[0]: _written(values, encoding)}


def spelled(architecture: Architecture, model_type: str) -> Architecture:
    """The same computation in what the code of a model type reads: an NTK is a plain rotation of another base."""
    read = reads(model_type)
    sizes = {found.head_size for _, found in architecture.main_stack.encodings(architecture.width)}
    # The base depends on the size of the head: of several sizes no one base says it.
    if read is None or "alpha" in read.more or len(sizes) > 1:
        return architecture
    (size,) = sizes

    def plain(encoding: Encoding) -> Encoding:
        if not isinstance(encoding, Rope) or not isinstance(encoding.schedule, NTK):
            return encoding
        base = grown_base(encoding.base, encoding.schedule.factor, encoding.rotary_size(size))
        return replace(encoding, base=base, schedule=Plain())

    return swapped(architecture, plain)


def _channels(name: str, read: Reads, encoding: Encoding, now: Architecture) -> dict[str, Any]:
    """How many channels turn, where code reads nothing else. Errors: `InputError` for what differs in more."""
    base = NAMED[name].base
    usual = isinstance(encoding, Rope) and encoding.base == base and encoding.schedule == Plain()
    if not isinstance(encoding, Rope) or not usual or "rotary_dim" not in read.outside:
        told = " and ".join(read.outside) or "nothing about it"
        raise InputError(
            f"{encoding!r} cannot be written for model_type={name!r}, whose code turns plainly by a base of {base} and "
            f"reads {told}"
        )
    sizes = dict(now.main_stack.encodings(now.width))
    return {"rotary_dim": encoding.rotary_size(sizes[encoding].head_size)}


def _changed(published: Architecture, now: Architecture) -> dict[Encoding, Encoding]:
    """By the encoding that was published, another one that stands in all of its places."""
    changed: dict[Encoding, Encoding] = {}
    before = published.main_stack
    after = now.stacks.get(published.main, before)
    for layer in range(before.layers):
        places = zip(before.layer(layer).sublayers, after.layer(layer).sublayers, strict=False)
        for one, other in places:
            found, given = getattr(one, "encoding", None), getattr(other, "encoding", None)
            # Feed-forwards have none.
            if found is None or given is None or found == given:
                continue
            if changed.setdefault(found, given) != given:
                raise InputError(
                    f"{found!r} was published for several layers, which now have {given!r} and {changed[found]!r}: no "
                    "configuration of the family says that"
                )
    return changed


def _written(values: Mapping[str, Any], encoding: Encoding) -> dict[str, Any]:
    return to_rope_parameters(encoding, model_type=values["model_type"])


def _spelled_as_before(values: Mapping[str, Any], encoding: Encoding) -> dict[str, Any]:
    return to_rope_parameters(encoding, "rope_scaling", values["model_type"])
