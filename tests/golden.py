"""The golden vectors: numbers made by independent implementations, kept outside the package."""

import json
import pathlib
from typing import Any

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "shared" / "reference"


def reason(name: str) -> str:
    """Why tests of the file `name` are skipped where it is absent."""
    return f"golden vectors absent: {FOLDER / name} is not a file"


def load(name: str) -> dict[str, Any]:
    """The content of the golden file `name` (with its ".json"); skips the calling test where the file is absent."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(reason(name))
    return json.loads(path.read_text(encoding="utf-8"))


def cases(name: str, key: str = "cases") -> list[Any]:
    """The entries under `key` of a golden file, for `parametrize`: one skipped entry where the file is absent."""
    if not (FOLDER / name).is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason(name)), id="absent")]
    entries = load(name)[key]
    return list(entries.items()) if isinstance(entries, dict) else entries
