"""The text files that a user's paths stand for, and which of them are held out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from posjax.data.paths import not_there
from posjax.errors import InputError
from posjax.files import LOCK

SNIFFED = 2**16
"""How much of a file tells whether it is text, before the rest is read."""
OURS = ("experiment.json", "run.json", LOCK, "prepared.json")
"""What marks a folder that posjax itself writes: a work folder, a run's, a prepared text."""


class ByteArray(Protocol):
    """Bytes in memory, or a mapped file."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> int: ...


@dataclass(frozen=True)
class FoundFile:
    """A file: its path relative to the root of its corpus, where it lies, and whether the user named it himself."""

    key: str
    path: Path
    named: bool


def found_files(paths: Sequence[str]) -> Iterator[FoundFile]:
    """The files of a text in order, each once. Errors: `InputError` for a path that is missing or no regular file."""
    seen: set[Path] = set()
    for file in _candidates(paths):
        # By where it lies in the end, so that a link and its target count once.
        place = file.path.resolve()
        if place in seen:
            continue
        seen.add(place)
        if file.named and not file.path.is_file():
            raise InputError(f"{file.path} is no regular file, and might never end: name a file or a folder")
        yield file


def walk(root: Path, enter: Callable[[str], bool]) -> list[tuple[str, Path]]:
    """(relative posix path, path) of the regular files below `root`, in order, entering the folders that pass."""
    found = []
    for folder, folders, names in os.walk(root):
        # In place, which is how os.walk is told not to go there.
        folders[:] = [name for name in folders if enter(name) and not _is_ours(Path(folder, name))]
        # Regular files alone: a pipe or a device might never end.
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                key = path.relative_to(root).as_posix()
                found.append((key, path))
    return sorted(found)


def read_text(path: Path) -> bytes:
    """The content, or nothing if the file cannot be read or is binary."""
    try:
        with path.open("rb") as file:
            content = file.read(SNIFFED)
            if b"\0" not in content:  # Else the rest, which may be gigabytes, is not even read.
                content += file.read()
    except OSError:
        return b""
    if b"\0" in content:
        return b""
    return content


def binary(path: Path) -> InputError:
    """What a named file that is no text is told as."""
    return InputError(f"{path} is binary (it has a NUL byte), but text is needed: leave it out or convert it")


def held_out(keys: Sequence[str], share: float) -> set[int]:
    """Which files are validation: those whose hash lies below the share; neither side stays empty."""
    hashes = [_hash(key) for key in keys]
    # In the order of their hashes: where a side would be empty, the nearest to the threshold moves over.
    by_hash = sorted(range(len(keys)), key=lambda index: (hashes[index], index))
    below = sum(value < share for value in hashes)
    most = len(keys) - 1
    count = min(max(below, 1), most)
    return set(by_hash[:count])


def border(content: ByteArray, share: float, whole_characters: bool) -> int:
    """Where the only file is cut in two; neither side stays empty, of bytes or of `whole_characters`."""
    # From the end: what is written last is what a model has not seen.
    wanted = round(share * len(content))
    most = len(content) - 1
    cut = len(content) - min(max(wanted, 1), most)
    if whole_characters:
        cut = _between_characters(content, cut)
    return cut


def _candidates(paths: Sequence[str]) -> Iterator[FoundFile]:
    for path in map(Path, paths):
        if path.is_dir():
            for key, file in walk(path, _is_visible):
                if _is_visible(file.name):
                    yield FoundFile(key, file, named=False)
        elif path.exists():
            yield FoundFile(path.name, path, named=True)
        else:
            raise InputError(not_there(path))


def _is_ours(folder: Path) -> bool:
    """Whether a folder is what posjax itself writes, whose files are no text and may change while one trains."""
    return any((folder / name).exists() for name in OURS)


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _between_characters(content: ByteArray, cut: int) -> int:
    """The last border of two characters at or before `cut`, or the first behind it if that leaves nothing before."""

    def inside(place: int) -> bool:
        # Bytes of UTF-8 that go on with a character are 10xxxxxx.
        return 0 < place < len(content) and content[place] & 0xC0 == 0x80

    while inside(cut):
        cut -= 1
    if cut == 0:
        cut = 1
        while inside(cut):
            cut += 1
    return cut


def _hash(key: str) -> float:
    """The first 32 bits of SHA-256 as a fraction in [0, 1)."""
    # A name is bytes to the file system, and need not be text.
    encoded = key.encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(encoded).digest()
    number = int.from_bytes(digest[:4], "big")
    return number / 2**32
