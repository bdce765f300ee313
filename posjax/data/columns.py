"""Long arrays on disk: written in order, read by slices, and each block of them checked whenever it is read."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from posjax.errors import InputError
from posjax.files import damaged

BLOCK = 2**14
"""Bytes that one checksum covers: whoever reads a window reads a block or two."""
SHARD = 2**30
"""Bytes of a file, a whole number of blocks; the last one of a column has what is left."""
REMEDY = "bring back the file as it was, or remove the folder and prepare it again with experiments.prepare"


class ColumnWriter:
    """Writes one column, in a context: its shards `NAME-000.bin`, and `NAME.crc` with the checksum of each block.

    Nothing here says that a column is whole: what `close` returns does, wherever that is kept.
    """

    def __init__(self, folder: Path, name: str, dtype: Any):
        self.count = 0
        self._folder = folder
        self._name = name
        # The bytes are the same on a machine that has them in the other order.
        self._dtype = np.dtype(dtype).newbyteorder("<")
        # Less than a block, which has no checksum yet.
        self._pending = bytearray()
        self._checks: list[int] = []
        self._file: BinaryIO | None = None

    def __enter__(self) -> ColumnWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, values: np.ndarray) -> None:
        """Adds integers that the column's type holds. Errors: `OSError`."""
        self.count += len(values)
        self._pending += values.astype(self._dtype).tobytes()
        whole = len(self._pending) // BLOCK * BLOCK
        self._write(self._pending[:whole])
        del self._pending[:whole]

    def close(self) -> dict[str, Any]:
        """Has the disk keep all, and returns what `Column.open` needs. Errors: `OSError`."""
        self._write(self._pending)
        self._keep()
        checks = np.array(self._checks, "<u4").tobytes()
        # Last: without it the column does not open.
        self._file = (self._folder / f"{self._name}.crc").open("wb")
        self._file.write(checks)
        self._keep()
        return {"type": self._dtype.str, "count": self.count, "checks": hashlib.sha256(checks).hexdigest()}

    def _write(self, content: bytearray) -> None:
        for start in range(0, len(content), BLOCK):
            block = content[start : start + BLOCK]
            # A shard has whole blocks, so that none lies in two files.
            number, place = divmod(len(self._checks) * BLOCK, SHARD)
            if place == 0:
                self._keep()
                self._file = shard(self._folder, self._name, number).open("wb")
            assert self._file is not None
            self._file.write(block)
            self._checks.append(zlib.crc32(block))

    def _keep(self) -> None:
        """Ends a file, if one is open."""
        if self._file is not None:
            self._file.flush()
            # After a power cut a header might else vouch for empty files.
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


@dataclass(frozen=True, eq=False)
class Column:
    """An array on disk `[count]`, read by slices of step 1: `column[3:8]`.

    Read and not mapped: a mapped file that somebody cuts off kills the process without a word, and its pages count as
    the process's own memory. Errors of a slice: `InputError` where a shard is missing, cut off or changed.
    """

    folder: Path
    name: str
    dtype: np.dtype[Any]
    count: int
    checks: np.ndarray

    @classmethod
    def open(cls, folder: Path, name: str, kept: dict[str, Any]) -> Column:
        """The column of which a writer said this. Errors: `InputError` where its files have other sizes."""
        path = folder / f"{name}.crc"
        checks = _whole(path)
        if hashlib.sha256(checks).hexdigest() != kept["checks"]:
            raise damaged(path, "it is not what was prepared", REMEDY)
        column = cls(folder, name, np.dtype(kept["type"]), kept["count"], np.frombuffer(checks, "<u4"))
        # Sizes tell what is most often wrong, a copy that broke off, before the hours and not within them.
        for number, size in column._sizes():
            there = _size(shard(folder, name, number))
            if there != size:
                raise damaged(shard(folder, name, number), f"it has {there:,} bytes of {size:,}", REMEDY)
        return column

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.count)
        if stop <= start:
            return np.empty(0, self.dtype)
        width = self.dtype.itemsize
        # Whole blocks, since a checksum is of one.
        first = start * width // BLOCK
        last = (stop * width - 1) // BLOCK
        content = b"".join(self._blocks(first, last + 1))
        values = np.frombuffer(content, self.dtype)
        # The first block begins before the slice does.
        skipped = first * BLOCK // width
        return values[start - skipped : stop - skipped]

    def _sizes(self) -> Iterator[tuple[int, int]]:
        """The number and the bytes of each shard."""
        size = self.count * self.dtype.itemsize
        for number in range(-(-size // SHARD)):
            yield number, min(SHARD, size - number * SHARD)

    def _blocks(self, first: int, last: int) -> Iterator[bytes]:
        """The blocks from `first` up to `last`, those of one shard at once."""
        in_shard = SHARD // BLOCK
        while first < last:
            number = first // in_shard
            end = min(last, (number + 1) * in_shard)
            path = shard(self.folder, self.name, number)
            # A file that ends too early gives fewer bytes, which their checksum does not fit.
            content = _part(path, first % in_shard * BLOCK, (end - first) * BLOCK)
            for block in range(first, end):
                place = (block - first) * BLOCK
                if zlib.crc32(content[place : place + BLOCK]) != self.checks[block]:
                    where = f"bytes {block % in_shard * BLOCK:,} and following are not what was prepared"
                    raise damaged(path, where, REMEDY)
            yield content
            first = end


def shard(folder: Path, name: str, number: int) -> Path:
    """Where a shard of a column lies."""
    return folder / f"{name}-{number:03}.bin"


def _part(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from error


def _whole(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read ({error.strerror}): {REMEDY}")
