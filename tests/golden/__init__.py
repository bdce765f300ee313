"""The golden vectors: numbers made by independent implementations."""

import json
import pathlib
from typing import Any

import pytest

HERE = pathlib.Path(__file__).resolve().parent
CHECKPOINTS = HERE.parents[2] / "shared" / "checkpoints"
"""What came from elsewhere and is not part of the project: tests of it are skipped where the folder is absent."""


def load(name: str) -> dict[str, Any]:
    """The content of the golden file `name`, with its ".json"."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def cases(name: str, key: str = "cases") -> list[Any]:
    """The entries under `key` of a golden file, for `parametrize`."""
    entries = load(name)[key]
    return list(entries.items()) if isinstance(entries, dict) else entries


def published(name: str, key: str) -> list[Any]:
    """The entries under `key` of a file of others, for `parametrize`: one skipped entry where the file is absent."""
    path = CHECKPOINTS / name
    if not path.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{path} is not a file"), id="absent")]
    return json.loads(path.read_text(encoding="utf-8"))[key]
