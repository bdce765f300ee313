"""Packages that reading published models needs and positional encodings do not, imported when they are asked for."""

from __future__ import annotations

import importlib
from types import ModuleType

from posjax.errors import InputError


def package(name: str, purpose: str) -> ModuleType:
    """A package of the extra `hf`. Errors: `InputError` with what to install, where it is missing."""
    # By name, so that importing posjax needs none of them.
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs the package {name!r}, which is not installed: pip install 'posjax[hf]'"
        ) from error
