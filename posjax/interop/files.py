"""A folder of safetensors: one file or several with an index, looked through before any number is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posjax.errors import InputError
from posjax.files import read_json
from posjax.interop.extras import package
from posjax.interop.sources import Index

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
UNFINISHED = ".unfinished"
"""The folder in a model's folder where its files are written before they take their places."""
EXCHANGE = "exchange.json"
"""In that folder, once all of them are whole: which files they are, and whether they replace a model."""
AGAIN = "fetch the folder again"
"""What to do about files that are not as their publisher wrote them."""

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
DTYPES = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "U8": np.dtype(np.uint8),
        "I8": np.dtype(np.int8),
        "I16": np.dtype(np.int16),
        "F16": np.dtype(np.float16),
        "BF16": np.dtype(jnp.bfloat16),
        "I32": np.dtype(np.int32),
        "F32": np.dtype(np.float32),
        "F64": np.dtype(np.float64),
        "I64": np.dtype(np.int64),
    }
)
"""What safetensors calls the types that numpy computes with, in its own order, in which it sorts them."""


@dataclass(frozen=True)
class Folder:
    """The tensors of a folder, a `Source`: `homes` names the file of each."""

    path: Path
    tensors: Mapping[str, jax.ShapeDtypeStruct]
    homes: Mapping[str, str]

    def part(self, name: str, index: Index) -> np.ndarray:
        """A part of a tensor, as a copy of its own; a file is open only as long as it is read."""
        file = self.path / self.homes[name]
        with _opened(file) as reader:
            stored = reader.get_slice(name)
            # The package takes slices of axes, and a scalar has none.
            return np.asarray(stored[index or ...])

    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        return read_json(self.path / CONFIG, AGAIN)


def open_folder(path: Path) -> Folder:
    """Looks through a folder: each file's header is read, and no numbers.

    Errors: `InputError` names what is missing, cut short, listed wrongly, stored twice, or a pickle.
    """
    _require_folder(path)
    tensors: dict[str, jax.ShapeDtypeStruct] = {}
    homes: dict[str, str] = {}
    listed = _listed(path)
    # All files before any answer: a shard that is missing or cut short is told before memory is spent on another.
    for file in sorted(set(listed.values())) or [SINGLE]:
        for name, described in _header(path / file).items():
            if name in tensors:
                raise InputError(f"{path} holds the tensor {name!r} twice, in {homes[name]} and in {file}: {AGAIN}")
            tensors[name] = described
            homes[name] = file
    for name, file in listed.items():
        if homes.get(name) != file:
            raise InputError(f"{path / INDEX} lists the tensor {name!r} in {file}, which does not hold it: {AGAIN}")
    return Folder(path, MappingProxyType(tensors), MappingProxyType(homes))


def require_config(folder: Path) -> None:
    """Errors: `InputError` for a folder without a config.json, with where it is if a model is being replaced."""
    if (folder / CONFIG).is_file():
        return
    # The last of a model's files to take its place: until then those of two lie side by side.
    if (folder / UNFINISHED / EXCHANGE).is_file():
        raise InputError(
            f"{folder} is being replaced by a model that waits whole in {folder / UNFINISHED}: let the command that "
            "writes it end, or give it again if it was interrupted"
        )
    raise InputError(f"{folder} has no {CONFIG}, which says what its tensors mean: {AGAIN}")


def _require_folder(path: Path) -> None:
    if path.is_file():
        raise InputError(f"{path} is a file: give the folder that it lies in, with its {CONFIG}")
    if not path.is_dir():
        raise InputError(f"there is no folder {path}: give that of a published model, or hf:OWNER/NAME to fetch one")
    require_config(path)
    # Other readers take the one or the other, and so read another model than the one that is meant.
    single, index = (path / SINGLE).is_file(), (path / INDEX).is_file()
    if single and index:
        raise InputError(f"{path} holds both {SINGLE} and {INDEX}: take away the one that does not belong to the model")
    if not single and not index:
        raise InputError(_without_weights(path))


def _without_weights(path: Path) -> str:
    names = sorted(file.name for file in path.iterdir())
    pickles = [name for name in names if name.endswith(PICKLES)]
    tensors = [name for name in names if name.endswith(".safetensors")]
    if tensors:
        return f"{path} holds {tensors[0]} without {INDEX}, which says what belongs to it: {AGAIN}"
    if pickles:
        return (
            f"{path} holds its weights as pickles alone ({pickles[0]}), which may run code of others when they are "
            f"read: take a revision with {SINGLE}, or convert them where you trust them"
        )
    return f"{path} holds no weights, neither {SINGLE} nor {INDEX}: {AGAIN}"


def _listed(path: Path) -> dict[str, str]:
    """Which file the index says that each tensor is in. Errors: `InputError`."""
    index = path / INDEX
    if not index.is_file():
        return {}
    listed = read_json(index, AGAIN).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise InputError(f"{index} has no 'weight_map' of tensors to files: {AGAIN}")
    for name, file in listed.items():
        # A path would lead out of the folder.
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise InputError(f"{index} lists {name!r} in {file!r}: needed is a .safetensors file of the same folder")
    files = set(listed.values())
    missing = sorted(file for file in files if not (path / file).is_file())
    if missing:
        raise InputError(f"{path} lacks {len(missing)} of {len(files)} shards, {', '.join(missing)[:200]}: {AGAIN}")
    return listed


def _header(file: Path) -> dict[str, jax.ShapeDtypeStruct]:
    """Names, shapes and types of a file's tensors. Errors: `InputError`."""
    found = {}
    with _opened(file) as reader:
        for name in reader.keys():  # noqa: SIM118 (it is no mapping)
            stored = reader.get_slice(name)
            kind = stored.get_dtype()
            if kind not in DTYPES:
                raise InputError(
                    f"the tensor {name!r} in {file} is of type {kind}: quantised weights are not read, take a folder "
                    "with float32, float16 or bfloat16"
                )
            found[name] = jax.ShapeDtypeStruct(tuple(stored.get_shape()), DTYPES[kind])
    return found


def _opened(file: Path) -> Any:
    """A file of safetensors, mapped into memory; its header has to cover it to the byte. Errors: `InputError`."""
    safetensors = package("safetensors", "reading safetensors")
    try:
        return safetensors.safe_open(str(file), framework="numpy")
    except safetensors.SafetensorError as error:
        with file.open("rb") as opened:
            pointer = opened.read(40).startswith(b"version https://git-lfs")
        if pointer:
            raise InputError(f"{file} is a pointer of Git LFS and not the file itself: git lfs pull") from error
        raise InputError(f"{file} is cut short or damaged ({error}): {AGAIN}") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}): make it readable, or {AGAIN}") from error
