"""What a configuration is, as plain values that a file can keep, and where two of them differ."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from posjax.definitions import definition, described
from posjax.errors import InputError

DEFINITION = "def"
"""Under which name a tree keeps a class's definition: no field can be called so."""


def tree(value: Any) -> Any:
    """A config value as nested plain values, every dataclass with the name of its class under "is".

    A class that is not posjax's own has its `definition` beside its name: it may be edited between two commands.

    >>> from posjax import Alibi
    >>> tree({"encoding": Alibi(), "sizes": (1, 2)})["sizes"]
    [1, 2]
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {"is": type(value).__name__}
        source = definition(type(value))
        if source is not None:
            plain[DEFINITION] = source
        for field in dataclasses.fields(value):
            plain[field.name] = tree(getattr(value, field.name))
        return plain
    # As JSON has it, so that a tree and what a file kept of it are equal.
    if isinstance(value, dict):
        return {str(name): tree(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [tree(item) for item in value]
    if isinstance(value, bool | int | float | str | None):
        return value
    # A function, a class or an array: by what it is made of, since no file keeps it.
    made_of = described(value)
    if made_of is None:
        raise InputError(
            f"the config holds a {type(value).__name__}, which nothing tells from another one: needed are numbers, "
            "texts, functions, arrays, and tuples, dicts and dataclasses of these"
        )
    return {"is": type(value).__name__, DEFINITION: made_of}


def fingerprint(value: Any) -> str:
    """A hash of what a config value is. A field at its default does not count, as one that was added later does not.

    >>> from posjax import Alibi
    >>> fingerprint(Alibi()) == fingerprint(Alibi(factor=1.0)) != fingerprint(Alibi(factor=2.0))
    True
    """
    return hashlib.sha256(json.dumps(_without_defaults(value), sort_keys=True).encode()).hexdigest()[:16]


def _without_defaults(value: Any) -> Any:
    """A value's tree, less the fields that are at their defaults."""
    plain = tree(value)
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if plain[field.name] == _default(field):
                del plain[field.name]
            else:
                plain[field.name] = _without_defaults(getattr(value, field.name))
    elif isinstance(value, dict):
        plain = {str(name): _without_defaults(item) for name, item in value.items()}
    elif isinstance(value, (tuple, list)):
        plain = [_without_defaults(item) for item in value]
    return plain


def differences(there: Any, here: Any, path: str = "") -> list[str]:
    """Where a kept tree differs from a config value, as "train.steps is 400 there and 50 here".

    A field that the tree does not know, since it was written before there was such a field, differs only where it is
    not at its default.

    >>> from posjax import Alibi
    >>> differences({"is": "Alibi", "factor": 2.0}, Alibi())
    ['factor is 2.0 there and 1.0 here']
    """
    mine = tree(here)
    # As far down as both have parts: a reader wants the field that differs, and not the model that holds it.
    if isinstance(there, dict) and isinstance(mine, dict):
        return _differences_by_name(there, here, mine, path)
    if isinstance(there, list) and isinstance(mine, list) and len(there) == len(mine) and _holds_values(here):
        lines = []
        for place, (one, other) in enumerate(zip(there, here, strict=True)):
            lines += differences(one, other, f"{path}.{place}")
        return lines
    if there == mine:
        return []
    return [f"{path} is {there!r} there and {mine!r} here"]


def _differences_by_name(there: dict[str, Any], here: Any, mine: dict[str, Any], path: str) -> list[str]:
    """The differences of a value with named parts, whose own tree is `mine`."""
    lines = []
    # Of the same class, else its name is the difference; and kept, as folders of before do not know it.
    if DEFINITION in there and there.get("is") == mine.get("is") and there[DEFINITION] != mine.get(DEFINITION):
        lines.append(f"{path} is a {mine['is']} there whose source differs from the one here")
    fields = {}
    if dataclasses.is_dataclass(here):
        fields = {field.name: field for field in dataclasses.fields(here)}
    for name in dict.fromkeys([*there, *mine]):
        if name == DEFINITION:
            continue
        field = fields.get(name)
        # A field that the tree does not know yet had its default.
        if name not in there and field is not None and _default(field) == mine[name]:
            continue
        below = f"{path}.{name}".removeprefix(".")
        lines += differences(there.get(name), _part(here, mine, name), below)
    return lines


def _part(here: Any, mine: dict[str, Any], name: str) -> Any:
    """A part of a value as it is: its class knows the defaults of fields further down, which its tree does not."""
    if dataclasses.is_dataclass(here):
        return getattr(here, name, mine.get(name))
    if isinstance(here, dict):
        return here.get(name)
    return mine.get(name)


def _holds_values(items: Any) -> bool:
    """Whether a sequence is of values with fields, whose difference lies further down."""
    return any(dataclasses.is_dataclass(item) for item in items)


def _default(field: dataclasses.Field[Any]) -> Any:
    """A field's default as a plain value; a value that equals nothing where it has none."""
    # As a tree too, which is what it is compared with.
    if field.default is not dataclasses.MISSING:
        return tree(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return tree(field.default_factory())
    return dataclasses.MISSING
