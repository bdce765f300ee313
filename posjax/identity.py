"""What a configuration is, as plain values that a file can keep, and where two of them differ."""

from __future__ import annotations

import dataclasses
from typing import Any

from posjax.definitions import definition

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
        fields = {f.name: tree(getattr(value, f.name)) for f in dataclasses.fields(value)}
        own = definition(type(value))
        named = {"is": type(value).__name__} if own is None else {"is": type(value).__name__, DEFINITION: own}
        return {**named, **fields}
    if isinstance(value, dict):
        return {str(name): tree(item) for name, item in value.items()}
    return [tree(item) for item in value] if isinstance(value, (tuple, list)) else value


def differences(there: Any, here: Any, path: str = "") -> list[str]:
    """Where a kept tree differs from a config value, as "train.steps is 400 there and 50 here".

    A field that the tree does not know, since it was written before there was such a field, differs only where it is
    not at its default.

    >>> from posjax import Alibi
    >>> differences({"is": "Alibi", "factor": 2.0}, Alibi())
    ['factor is 2.0 there and 1.0 here']
    """
    mine = tree(here)
    if isinstance(there, dict) and isinstance(mine, dict):
        known = {f.name: f for f in dataclasses.fields(here)} if dataclasses.is_dataclass(here) else {}
        lines = []
        if DEFINITION in there and there.get("is") == mine.get("is") and there[DEFINITION] != mine.get(DEFINITION):
            lines.append(f"{path} is a {mine['is']} there whose source differs from the one here")
        for name in dict.fromkeys([*there, *mine]):
            if name == DEFINITION:
                continue
            below = f"{path}.{name}" if path else name
            field = known.get(name)
            if name in there or field is None or _default(field) != mine[name]:
                value = getattr(here, name) if field else here.get(name) if isinstance(here, dict) else mine.get(name)
                lines += differences(there.get(name), value, below)
        return lines
    if isinstance(there, list) and isinstance(mine, list) and len(there) == len(mine) and _holds_values(here):
        return [
            line
            for i, (one, other) in enumerate(zip(there, here, strict=True))
            for line in differences(one, other, f"{path}.{i}")
        ]
    return [] if there == mine else [f"{path} is {there!r} there and {mine!r} here"]


def _holds_values(items: Any) -> bool:
    """Whether a sequence is of values with fields, whose difference lies further down."""
    return any(dataclasses.is_dataclass(item) for item in items)


def _default(field: dataclasses.Field[Any]) -> Any:
    """A field's default as a plain value; a value that equals nothing where it has none."""
    if field.default is not dataclasses.MISSING:
        return tree(field.default)
    return tree(field.default_factory()) if field.default_factory is not dataclasses.MISSING else dataclasses.MISSING
