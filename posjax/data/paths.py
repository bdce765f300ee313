"""Files that a user names: read, or refused with the nearest name that is there."""

from __future__ import annotations

import difflib
from pathlib import Path

from posjax.errors import InputError


def read_named(path: Path) -> bytes:
    """The content of a file. Errors: `InputError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): make it readable or leave it out") from error


def not_there(path: Path) -> str:
    """What is told of a path that does not exist, with the nearest name that does."""
    folder, name = path.parent, path.name
    # Up to the first folder that is there: it is the name below it that is wrong.
    while not folder.is_dir() and folder != folder.parent:
        folder, name = folder.parent, folder.name
    there = []
    if folder.is_dir():
        there = sorted(entry.name for entry in folder.iterdir())
    nearest = difflib.get_close_matches(name, there, n=1)
    remedy = "name a file or folder that exists"
    if nearest:
        remedy = f"did you mean {folder / nearest[0]}?"
    return f"{path} does not exist: {remedy}"
