"""The names of a command line's options, as the values say that they change."""

from __future__ import annotations

import dataclasses
from typing import Any


def option_names(value: Any, prefix: str = "--") -> list[str]:
    """The option names of a dataclass, or of a value of one and the values inside it."""
    names = []
    for field in dataclasses.fields(value):
        name = prefix + field.name.replace("_", "-")
        # A class, as of a command's options, has no values to look into.
        inner = None
        if not isinstance(value, type):
            inner = getattr(value, field.name)
        names += _names_in(inner, name)
    return names


def _names_in(value: Any, name: str) -> list[str]:
    """The option names of a field's value: its own, or those inside it; entries of a tuple go by their number."""
    if dataclasses.is_dataclass(value):
        return option_names(value, name + ".")
    if not isinstance(value, tuple) or not any(map(dataclasses.is_dataclass, value)):
        return [name]
    names = []
    for at, entry in enumerate(value):
        names += _names_in(entry, f"{name}.{at}")
    return names
