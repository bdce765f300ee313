"""A configuration with another rotation than the one that it was published with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posjax.encodings.base import Encoding
from posjax.encodings.published import from_rope_parameters
from posjax.encodings.published_families import BASES, FRACTIONS, NESTS
from posjax.encodings.published_writing import to_rope_parameters
from posjax.errors import InputError
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
                by_type[kind] = _written(values, changed[found])
        return {**values, NESTS[0]: by_type}
    if len(changed) != 1:
        raise InputError(
            f"the model has other encodings for {', '.join(map(repr, changed))}, and its configuration names one for "
            "all layers: give write a config that describes the model"
        )
    encoding = next(iter(changed.values()))
    rest = {key: value for key, value in values.items() if key not in SAID}
    # In the spelling that the configuration has, which is the one that its readers know.
    if NESTS[0] not in values:
        return {**rest, **_spelled_as_before(values, encoding)}
    return {**rest, NESTS[0]: _written(values, encoding)}


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
