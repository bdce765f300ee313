"""Corpora: the source text of Python itself, or any text, as bytes split into training and validation files."""

from __future__ import annotations

import difflib
import hashlib
import os
import platform
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from posjax.errors import InputError
from posjax.fields import check_fields

SNIFFED = 2**16
"""How much of a file tells whether it is text, before the rest is read."""

SEPARATOR = 256
"""The token between two files; the tokens below it are the bytes."""

# What is no part of the library's own source, or differs between distributions of the same Python.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data", "__pycache__"}

# A file: its path relative to the root of its corpus, and its content.
_File = tuple[str, bytes]


@dataclass(frozen=True, eq=False)
class Documents:
    """A corpus in memory.

    Args:
        name: for people.
        train: the training files, in order.
        validation: the validation files, in order.
        fingerprint: 16 hex digits of a SHA-256 over paths, contents and split: equal exactly for equal corpora.
    """

    name: str
    train: tuple[bytes, ...]
    validation: tuple[bytes, ...]
    fingerprint: str

    def describe(self) -> dict[str, str | int]:
        """What a report says about the corpus: its name, fingerprint and sizes.

        >>> Documents("toy", (b"abc", b"de"), (b"f",), "0f").describe()["train_bytes"]
        5
        """
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "train_bytes": sum(map(len, self.train)),
            "validation_bytes": sum(map(len, self.validation)),
            "train_files": len(self.train),
            "validation_files": len(self.validation),
        }


@dataclass(frozen=True)
class StandardLibrary:
    """The source text (`*.py`) of the running Python's own standard library: a corpus that every machine has.

    About 9 MB in 600 files. Its size and content differ between versions of Python, and a distribution may patch it,
    hence the fingerprint: compare losses only where fingerprints agree. Tests, IDLE, lib2to3, pydoc's data, installed
    packages and empty files are left out. Files come in the order of their relative paths, and a file is validation
    when the first 32 bits of SHA-256(relative path), as a fraction of 2^32, lie below `validation_share`, so that a
    file stays on its side whatever is added beside it. Where that leaves a side empty, the file nearest to the
    threshold moves there.

    Args:
        validation_share: expected share of the files that is held out, between 0 and 1.

    Raises:
        InputError: if the share lies outside; by `load`, if the machine has no such source or a file is unreadable.

    >>> StandardLibrary().vocabulary
    257
    """

    validation_share: float = 0.1

    def __post_init__(self):
        check_fields(self)
        _check_share(self.validation_share)

    @property
    def vocabulary(self) -> int:
        """256 bytes and the separator."""
        return SEPARATOR + 1

    def load(self) -> Documents:
        """Reads and splits the files."""
        root = Path(sysconfig.get_path("stdlib"))
        files = []
        for key, path in _walk(root, _is_library_folder):
            if not key.endswith(".py"):
                continue
            content = _read(path)
            # Empty ones, mostly marks of packages, are no text.
            if content:
                files.append((key, content))
        name = f"standard library of Python {platform.python_version()}"
        if len(files) < 2:
            raise InputError(f"the {name} has no source files in {root}: give text of your own with Text(paths=...)")
        train, validation = _split_files(files, self.validation_share)
        return _documents(name, train, validation)


@dataclass(frozen=True)
class Text:
    """Any text files and folders, as bytes.

    A folder stands for all regular files in it, at any depth, ordered by relative path; hidden, empty, unreadable and
    binary ones (those with a NUL byte) are passed over, and so are the folders that posjax itself writes runs to.
    Several paths follow one another as given, and a file that is reached twice counts once. The split goes by a hash
    of a file's path relative to the folder given, or of its name, as `StandardLibrary` describes, and likewise never
    leaves a side empty. A single file is split by position: the last `validation_share` of its bytes is validation.

    Args:
        paths: files or folders.
        validation_share: expected share of the files (of the bytes, for a single file) held out, between 0 and 1.

    Raises:
        InputError: if there are no paths or the share lies outside; by `load`, if a path is missing, a file that was
            named is unreadable or binary, or there is nothing to split.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, "poem.txt").write_text("to be or not to be") and None
    ...     documents = Text(paths=(folder,), validation_share=0.5).load()
    >>> documents.train, documents.validation
    ((b'to be or ',), (b'not to be',))
    """

    paths: tuple[str, ...]
    validation_share: float = 0.1

    def __post_init__(self):
        check_fields(self)
        if not self.paths or "" in self.paths:
            raise InputError(f"Text got paths={self.paths!r}: needed are files or folders: paths=('folder',)")
        _check_share(self.validation_share)

    @property
    def vocabulary(self) -> int:
        """256 bytes and the separator."""
        return SEPARATOR + 1

    def load(self) -> Documents:
        """Reads and splits the files."""
        files = self._files()
        size = sum(len(content) for _, content in files)
        if size < 2:
            raise InputError(
                f"there are {size} bytes of text in {', '.join(map(str, self.paths))}, but 2 or more are needed: "
                "name a text file, or a folder that holds one"
            )
        name = ", ".join(Path(path).name or str(path) for path in self.paths)
        # A single file has no other to be validation: its end is.
        split = _split_files
        if len(files) == 1:
            split = _split_bytes
        train, validation = split(files, self.validation_share)
        return _documents(name, train, validation)

    def _files(self) -> list[_File]:
        """The files that count, each once."""
        seen: set[Path] = set()
        files = []
        for key, path, named in self._candidates():
            # By where it lies in the end, so that a link and its target count once.
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            if named and not path.is_file():
                raise InputError(f"{path} is no regular file, and might never end: name a file or a folder")
            # What was named must be text; what lies in a folder is passed over where it is none.
            content = _read(path) if named else _read_text(path)
            if named and b"\0" in content:
                raise InputError(
                    f"{path} is binary (it has a NUL byte), but text is needed: leave it out or convert it"
                )
            if content:
                files.append((key, content))
        return files

    def _candidates(self) -> Iterator[tuple[str, Path, bool]]:
        """The key of each file in order, its path, and whether the user named it himself."""
        for path in map(Path, self.paths):
            if path.is_dir():
                yield from ((key, file, False) for key, file in _walk(path, _is_visible) if _is_visible(file.name))
            elif path.exists():
                yield path.name, path, True
            else:
                raise InputError(_missing(path))


def _walk(root: Path, enter: Callable[[str], bool]) -> list[tuple[str, Path]]:
    """(relative posix path, path) of the regular files below `root`, in order, entering the folders that pass."""
    found = []
    for folder, folders, names in os.walk(root):
        # In place, which is how os.walk is told not to go there.
        folders[:] = [name for name in folders if enter(name) and not _holds_runs(Path(folder, name))]
        # Regular files alone: a pipe or a device might never end.
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                key = path.relative_to(root).as_posix()
                found.append((key, path))
    return sorted(found)


def _holds_runs(folder: Path) -> bool:
    """Whether a folder is what posjax itself writes: a work folder or a run's, whose files change while one trains."""
    return any((folder / name).exists() for name in ("experiment.json", "run.json", "owner.lock"))


def _is_library_folder(name: str) -> bool:
    is_build = name.startswith("config-")
    return name not in _LEFT_OUT and not is_build


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): make it readable or leave it out") from error


def _read_text(path: Path) -> bytes:
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


def _split_files(files: Sequence[_File], share: float) -> tuple[list[_File], list[_File]]:
    """Files whose hash lies below the share are validation; neither side stays empty."""
    hashes = [_hash(key) for key, _ in files]
    # In the order of their hashes: where a side would be empty, the nearest to the threshold moves over.
    by_hash = sorted(range(len(files)), key=lambda index: (hashes[index], index))
    below = sum(value < share for value in hashes)
    most = len(files) - 1
    held_out = min(max(below, 1), most)
    chosen = set(by_hash[:held_out])
    train = [file for index, file in enumerate(files) if index not in chosen]
    validation = [file for index, file in enumerate(files) if index in chosen]
    return train, validation


def _split_bytes(files: Sequence[_File], share: float) -> tuple[list[_File], list[_File]]:
    """The last part of the only file is validation; neither side stays empty."""
    ((key, content),) = files
    wanted = round(share * len(content))
    most = len(content) - 1
    held_out = min(max(wanted, 1), most)
    train = content[:-held_out]
    validation = content[-held_out:]
    return [(key, train)], [(key, validation)]


def _hash(key: str) -> float:
    """The first 32 bits of SHA-256 as a fraction in [0, 1)."""
    # A name is bytes to the file system, and need not be text.
    encoded = key.encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(encoded).digest()
    number = int.from_bytes(digest[:4], "big")
    return number / 2**32


def _documents(name: str, train: Sequence[_File], validation: Sequence[_File]) -> Documents:
    digest = hashlib.sha256()
    for side, files in (("train", train), ("validation", validation)):
        for key, content in files:
            # Lengths in front keep (path, content) pairs apart that would read the same when joined.
            encoded = key.encode("utf-8", "surrogateescape")
            head = f"{side} {len(encoded)} {len(content)}\n"
            entry = head.encode() + encoded + content
            digest.update(entry)
    return Documents(
        name,
        train=tuple(content for _, content in train),
        validation=tuple(content for _, content in validation),
        fingerprint=digest.hexdigest()[:16],
    )


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"validation_share is {share}, but it has to lie between 0 and 1, both excluded: try 0.1")


def _missing(path: Path) -> str:
    """Says what is not there, with the nearest name that is."""
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
