"""Excerpts of Python's standard library, and the package that each comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import grain
import numpy as np

from posjax.arguments import whole
from posjax.data.corpus import library_files, split_documents
from posjax.data.documents import SEPARATOR
from posjax.data.examples import ExampleRows
from posjax.data.randomness import rng, whole_seed
from posjax.data.source import Form, Row, endless, stacked
from posjax.errors import InputError
from posjax.fields import check_fields

PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "xml")
"""Packages of about as many bytes each, whose authors and habits differ."""


@dataclass(frozen=True)
class Origins:
    """Which package of Python's own standard library an excerpt comes from: classification that every machine has.

    A row is `{"inputs": int32[length], "classes": int32}`: bytes of a random place in a package's files, the class
    being the package's place among `packages`. Each is as likely as any other, however long its files are. Held-out
    rows are of held-out files, split as `StandardLibrary` describes, each package by itself: what is asked is whose
    manner of writing it is, and not which file.

    Errors: `InputError` for fewer than two packages, one that is named twice, or a share outside (0, 1); by `load`, for
    a package without two files; by rows, where no file of a package is as long as they are.

    >>> data = Origins(packages=("asyncio", "email"))
    >>> row = data.load().rows(length=16, seed=0)[0]
    >>> row["inputs"].shape, int(row["classes"]) in (0, 1)
    ((16,), True)
    """

    form: ClassVar[Form] = "classes"

    packages: tuple[str, ...] = PACKAGES
    validation_share: float = 0.25

    def __post_init__(self):
        check_fields(self)
        if len(set(self.packages)) < max(2, len(self.packages)):
            raise InputError(f"Origins got packages={self.packages}: needed are two or more, each once")
        # Without either side there would be nothing to train on, or nothing that was not seen.
        if not 0 < self.validation_share < 1:
            raise InputError(f"Origins got validation_share={self.validation_share}: it lies between 0 and 1")

    @property
    def vocabulary(self) -> int:
        """As many as of a text of bytes, so that one model can read both."""
        return SEPARATOR + 1

    @property
    def classes(self) -> tuple[str, ...]:
        """What the numbers of classes stand for."""
        return self.packages

    def reader(self) -> None:
        """No tokenizer: bytes are read."""

    def load(self) -> PackageFiles:
        """Reads and splits the files of each package."""
        name, files = library_files()
        train = []
        validation = []
        prints = []
        for package in self.packages:
            # A package by the beginning of its files' paths: its own packages belong to it.
            own = [(key, content) for key, content in files if key.startswith(f"{package}/")]
            if len(own) < 2:
                raise InputError(
                    f"the {name} has {len(own)} files of the package {package!r}: needed are two or more to hold one "
                    "out; name others"
                )
            documents = split_documents(name, own, self.validation_share)
            train.append(documents.train)
            validation.append(documents.validation)
            prints.append(documents.fingerprint)
        # In order, since a class is a package's place.
        together = hashlib.sha256(",".join(prints).encode()).hexdigest()[:16]
        return PackageFiles(f"packages of the {name}", together, tuple(train), tuple(validation))


@dataclass(frozen=True, eq=False)
class PackageFiles(ExampleRows):
    """The files of each class, on both sides of the split."""

    train: tuple[tuple[bytes, ...], ...]
    validation: tuple[tuple[bytes, ...], ...]

    def describe(self) -> dict[str, Any]:
        """With how many bytes each side has."""
        return {**super().describe(), "train_bytes": _size(self.train), "validation_bytes": _size(self.validation)}

    def rows(self, length: int, seed: int) -> grain.MapDataset:
        """Endless training rows; row i is a pure function of (seed, i)."""
        length = whole(length, "length", least=1)
        seed = whole_seed(seed)
        # Where rows can begin is the same for all of them, and found once.
        places = [_Starts(files, length) for files in self.train]

        def row(index: int) -> Row:
            generator = rng(seed, "excerpt", index)
            return _row(places, int(generator.integers(len(places))), length, generator)

        return endless(row)

    def validation_rows(self, length: int, count: int, seed: int) -> Row:
        """Held-out rows, each array `[count, ...]`, as many of each class as of any other, to within one."""
        if count < 1:
            raise InputError(f"{count} validation rows were asked for: ask for 1 or more")
        places = [_Starts(files, length) for files in self.validation]
        rows = []
        for index in range(count):
            generator = rng(seed, "validation-excerpt", index)
            rows.append(_row(places, index % len(places), length, generator))
        return stacked(rows)


class _Starts:
    """Where excerpts of a length can begin in some files, each place as likely as any other."""

    def __init__(self, files: Sequence[bytes], length: int):
        self._length = length
        self._files = [file for file in files if len(file) >= length]
        if not self._files or length < 1:
            longest = max(map(len, files), default=0)
            raise InputError(f"excerpts of {length:,} bytes were asked for, and the longest file has {longest:,}")
        self._ends = np.cumsum([len(file) - length + 1 for file in self._files])

    def excerpt(self, generator: np.random.Generator) -> np.ndarray:
        # One draw over all files laid end to end, so that long files are not rarer by the byte.
        start = int(generator.integers(self._ends[-1]))
        file = int(np.searchsorted(self._ends, start, side="right"))
        if file > 0:
            start -= int(self._ends[file - 1])
        return np.frombuffer(self._files[file], np.uint8, self._length, start).astype(np.int32)


def _row(places: Sequence[_Starts], number: int, length: int, generator: np.random.Generator) -> Row:
    return {"inputs": places[number].excerpt(generator), "classes": np.array(number, np.int32)}


def _size(classes: Sequence[Sequence[bytes]]) -> int:
    return sum(len(file) for files in classes for file in files)
