"""A folder of safetensors as its publisher would write it: the same tensors give the same bytes."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posjax.errors import InputError, StorageError
from posjax.files import built, entry, read_json, reason, refused, sync, write_json, write_stream, write_whole
from posjax.interop.files import CONFIG, DTYPES, EXCHANGE, INDEX, SINGLE, UNFINISHED
from posjax.interop.rules import Weight, compose, require_tiled

LIMIT = 4 * 2**30
"""Bytes of tensors in one file: more are parted into several."""
REPLACED = "config.json.replaced"
"""In that folder, while they take their places: the configuration of the model that they replace."""
TENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
"""The files of a model's tensors."""


@dataclass(frozen=True)
class Outgoing:
    """A tensor that is made when its turn comes, and dropped when it is written."""

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], np.ndarray]

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize


def outgoing(pieces: Iterable[tuple[Weight, jax.Array]]) -> dict[str, Outgoing]:
    """The tensors of theirs that parameters of ours make, each with its rule.

    A tensor is fetched from its devices when its turn comes. Errors: `InputError` where rules leave a gap or overlap.
    """
    by_key: dict[str, list[tuple[Weight, jax.Array]]] = defaultdict(list)
    for rule, array in pieces:
        by_key[rule.key].append((rule, array))
    return {key: _composed(sharing) for key, sharing in by_key.items()}


def _composed(sharing: list[tuple[Weight, jax.Array]]) -> Outgoing:
    # Now, and not when its turn comes, with half of the model written.
    require_tiled([rule for rule, _ in sharing])
    rule, array = sharing[0]

    def make() -> np.ndarray:
        return compose([(rule, np.asarray(array)) for rule, array in sharing])

    return Outgoing(rule.stored_shape(array.shape), np.dtype(array.dtype), make)


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Outgoing],
    limit: int = LIMIT,
    overwrite: bool = False,
) -> None:
    """Writes config.json and the tensors, one after another, into files of at most `limit` bytes of them.

    Each file is whole or not there; config.json comes last, so that a folder without it is known as unfinished. With
    `overwrite` the model that was there is replaced once the new one is whole, so that the disk holds both for a while.
    What was interrupted while files took their places is finished first, as by `finish_exchange`.

    Errors: `InputError` for a folder with another model; `StorageError`.
    """
    if limit < 1:
        raise InputError(f"files of at most {limit} bytes were asked for: needed is a positive limit")
    shards = _shards(tensors, limit)
    # A model that replaced none and was interrupted is nobody's until its command has ended: it is written again.
    overwrite = not finish_exchange(folder) or overwrite
    held = _held(folder, overwrite)
    # Beside what is there, which may be the only copy of what is being written: it goes when all of this is whole.
    beside = folder / UNFINISHED
    # Of a process that was killed before all of it was whole.
    shutil.rmtree(beside, ignore_errors=True)
    homes = {}
    try:
        for number, names in enumerate(shards, 1):
            file = SINGLE
            if len(shards) > 1:
                file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            homes |= dict.fromkeys(names, file)
            write_stream(beside / file, _file({name: tensors[name] for name in names}))
        written = sorted(set(homes.values()))
        if len(shards) > 1:
            write_whole(beside / INDEX, _json(_index(tensors, homes)))
            written.append(INDEX)
        write_whole(beside / CONFIG, _json(config))
        # From here on this folder is the only whole copy there is, and nothing but the exchange takes it away.
        write_json(beside / EXCHANGE, {"files": [*written, CONFIG], "replaces": bool(held)})
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    finish_exchange(folder)


def finish_exchange(folder: Path) -> bool:
    """Puts what was written whole in the place of what was there, from wherever a process was interrupted at that.

    Returns whether the folder's model is one to keep: false where it has replaced none, and its command did not end.
    Errors: `StorageError` with where the new model waits, `InputError` for a damaged list of its files.
    """
    beside = folder / UNFINISHED
    path = beside / EXCHANGE
    if not path.is_file():
        return True
    tree = read_json(path)
    files = built(path, lambda: _exchanged(tree))
    try:
        # Without its configuration no half of two models passes for one. It is kept until the other half is there.
        if (folder / CONFIG).exists() and (beside / CONFIG).exists():
            (folder / CONFIG).replace(beside / REPLACED)
        for name in files:
            if name == CONFIG:
                _remove_others(folder, files)
            if (beside / name).exists():
                (beside / name).replace(folder / name)
        sync(folder)
    except OSError as error:
        raise StorageError(
            f"cannot write to {folder} ({reason(error)}): the new model waits whole in {beside}; make the folder "
            "writable and give the same command again"
        ) from error
    shutil.rmtree(beside, ignore_errors=True)
    return bool(tree.get("replaces", True))


def _exchanged(tree: Mapping[str, Any]) -> list[str]:
    """The files of an exchange in their order. Errors: `ValueError` for one that is no model's, for `built`."""
    files = [str(name) for name in entry(tree, "files", list)]
    for name in files:
        # A path would lead out of the folder.
        if name not in (CONFIG, INDEX) and not TENSORS.fullmatch(name):
            raise ValueError(f"{name!r} is no file of a model")
    return files


def _remove_others(folder: Path, files: Sequence[str]) -> None:
    """Takes away the files of the model that was replaced whose places no new file has taken."""
    for path in _model_files(folder):
        # An adapter, say, is nothing that is written anew.
        ours = path.suffix == ".json" or TENSORS.fullmatch(path.name)
        if ours and path.name not in files:
            path.unlink()


def _model_files(folder: Path) -> list[Path]:
    every = [folder / CONFIG, folder / INDEX, *sorted(folder.glob("*.safetensors"))]
    return [path for path in every if path.exists()]


def _held(folder: Path, overwrite: bool) -> list[Path]:
    """The files of the model that a folder holds. Errors: `InputError` where they are not to be overwritten."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _model_files(folder)
    except OSError as error:
        raise refused(folder, error) from error
    if held and not overwrite:
        raise InputError(f"{folder} holds a model already ({held[0].name}): choose another folder, or overwrite it")
    return held


def _shards(tensors: Mapping[str, Outgoing], limit: int) -> list[list[str]]:
    """The names of each file, in the order in which they come."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.bytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.bytes
    return shards


def _file(tensors: Mapping[str, Outgoing]) -> Iterator[bytes | memoryview]:
    """A file of safetensors, piece by piece."""
    named = {dtype: name for name, dtype in DTYPES.items()}
    order = _in_order(tensors)
    # Readers of torch look for the format.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name in order:
        tensor = tensors[name]
        end = at + tensor.bytes
        header[name] = {"dtype": named[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # The numbers begin at a multiple of eight bytes.
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in order:
        yield _bytes(name, tensors[name])


def _in_order(tensors: Mapping[str, Outgoing]) -> Sequence[str]:
    """By type, the widest first so that all are aligned, then by name: as the package itself sorts them."""
    ranks = {dtype: rank for rank, dtype in enumerate(DTYPES.values())}
    for name, tensor in tensors.items():
        if tensor.dtype not in ranks:
            raise InputError(f"the tensor {name!r} is of type {tensor.dtype}: written are {', '.join(DTYPES)}")
    return sorted(tensors, key=lambda name: (-ranks[tensors[name].dtype], name))


def _bytes(name: str, tensor: Outgoing) -> memoryview:
    made = np.asarray(tensor.make(), order="C")
    # What the header says of it stands already.
    if made.shape != tensor.shape or made.dtype != tensor.dtype:
        raise InputError(
            f"the tensor {name!r} was made as {made.dtype} {list(made.shape)} and announced as {tensor.dtype} "
            f"{list(tensor.shape)}"
        )
    little = made.astype(made.dtype.newbyteorder("<"), copy=False)
    # As bytes: Python knows no view of numbers of sixteen bits with the range of float32.
    return little.reshape(-1).view(np.uint8).data


def _index(tensors: Mapping[str, Outgoing], homes: Mapping[str, str]) -> dict[str, Any]:
    size = sum(tensor.bytes for tensor in tensors.values())
    parameters = sum(math.prod(tensor.shape) for tensor in tensors.values())
    return {"metadata": {"total_parameters": parameters, "total_size": size}, "weight_map": dict(homes)}


def _json(value: Mapping[str, Any]) -> bytes:
    # As transformers writes it.
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
