"""The golden vectors: numbers made by independent implementations."""

import json
import pathlib
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent


def load(name: str) -> dict[str, Any]:
    """The content of the golden file `name`, with its ".json"."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def cases(name: str, key: str = "cases") -> list[Any]:
    """The entries under `key` of a golden file, for `parametrize`."""
    entries = load(name)[key]
    return list(entries.items()) if isinstance(entries, dict) else entries
