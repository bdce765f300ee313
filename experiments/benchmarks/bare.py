"""Encodings and attention alone, where not all of posjax's libraries are installed: call before importing posjax."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path


def allow() -> str | None:
    """Makes `posjax.attention` and `posjax.encodings` importable with jax alone; returns the library that is missing.

    The package's front page imports models and invariants too. Where that fails, the package stands in `sys.modules`
    without its front page, and its parts are imported as always.
    """
    try:
        importlib.import_module("posjax")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "posjax":
            raise
        folder = Path(__file__).resolve().parents[2] / "posjax"
        spec = importlib.machinery.ModuleSpec("posjax", None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules["posjax"] = importlib.util.module_from_spec(spec)
        return error.name
    return None
