"""Folders of a published model, made where a test needs one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posjax.interop.writing import LIMIT, Outgoing, write_folder


def held(arrays: Mapping[str, np.ndarray]) -> dict[str, Outgoing]:
    return {name: Outgoing(array.shape, array.dtype, lambda array=array: array) for name, array in arrays.items()}


def published(folder: Path, arrays: Mapping[str, np.ndarray], limit: int = LIMIT, **config: Any) -> Path:
    """A folder with these tensors."""
    write_folder(folder, {"model_type": "llama", **config}, held(arrays), limit)
    return folder


def edited(path: Path, **changes: Any) -> None:
    """A JSON file with some keys replaced."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
