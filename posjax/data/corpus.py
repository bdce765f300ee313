"""Corpora: the source text of Python itself, or any text, split into training and validation files."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from posjax.data.documents import SEPARATOR, Documents, DocumentTokens
from posjax.data.found import binary, border, found_files, held_out, read_text, walk
from posjax.data.paths import read_named
from posjax.data.tokenizer import Tokenizer, read_tokenizer
from posjax.data.utf8 import decoded
from posjax.errors import InputError
from posjax.fields import check_fields

# What is no part of the library's own source, or differs between distributions of the same Python.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data", "__pycache__"}

# A file: its path relative to the root of its corpus, and its content.
_File = tuple[str, bytes]


@dataclass(frozen=True)
class StandardLibrary:
    """The source text (`*.py`) of the running Python's own standard library: a corpus that every machine has.

    About 9 MB in 600 files. Its size and content differ between versions of Python, and a distribution may patch it,
    hence the fingerprint: compare losses only where fingerprints agree. Tests, IDLE, lib2to3, pydoc's data, installed
    packages and empty files are left out. Files come in the order of their relative paths, and a file is validation
    when the first 32 bits of SHA-256(relative path), as a fraction of 2^32, lie below `validation_share`, so that a
    file stays on its side whatever is added beside it. Where that leaves a side empty, the file nearest to the
    threshold moves there.

    `validation_share`: the expected share of the files that is held out, between 0 and 1.

    Errors: `InputError` if the share lies outside; by `load`, if the machine has no such source or a file is
    unreadable.

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

    def reader(self) -> Tokenizer | None:
        """No tokenizer: bytes are read."""
        return None

    def load(self) -> Documents:
        """Reads and splits the files."""
        name, files = library_files()
        return split_documents(name, files, self.validation_share)


@dataclass(frozen=True)
class Text:
    """Any text files and folders, as bytes or in the tokens of a tokenizer.

    A folder stands for all regular files in it, at any depth, ordered by relative path; hidden, empty, unreadable and
    binary ones (those with a NUL byte) are passed over, and so are the folders that posjax itself writes runs to.
    Several paths follow one another as given, and a file that is reached twice counts once. The split goes by a hash
    of a file's path relative to the folder given, or of its name, as `StandardLibrary` describes, and likewise never
    leaves a side empty. A single file is split by position: the last `validation_share` of its bytes is validation.

    `tokenizer` names a `tokenizer.json`, read by the package `tokenizers` (the extra `hf`). Then every file has to be
    UTF-8, and each is encoded by itself, with no special token added. `begin` is the exception, and is spelled as the
    tokenizer has it, such as "<s>": it begins each file and each window. Without it one token of our own, behind the
    tokenizer's, stands between two files. Losses are in nats per byte either way, so that vocabularies compare.

    All of it is held in memory: what is larger is prepared once, and read by `StoredText`.

    Errors: `InputError` if there are no paths, the share lies outside, or there is a `begin` and no tokenizer; by
    `load`, if a path is missing, a file that was named is unreadable or binary, there is nothing to split, or a file
    is not UTF-8 and a tokenizer is to read it; by `load` and `vocabulary`, what `read_tokenizer` raises.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, "poem.txt").write_text("to be or not to be") and None
    ...     documents = Text(paths=(folder,), validation_share=0.5).load()
    >>> documents.train, documents.validation
    ((b'to be or ',), (b'not to be',))
    """

    paths: tuple[str, ...]
    validation_share: float = 0.1
    tokenizer: str | None = None
    begin: str | None = None

    def __post_init__(self):
        check_fields(self)
        if not self.paths or "" in self.paths:
            raise InputError(f"Text got paths={self.paths!r}: needed are files or folders: paths=('folder',)")
        _check_share(self.validation_share)
        if self.tokenizer == "":
            raise InputError("Text got tokenizer='': needed is a file such as tokenizer.json, or None to read bytes")
        if self.begin is not None and self.tokenizer is None:
            raise InputError(f"Text got begin={self.begin!r} and no tokenizer that has it: give tokenizer or no begin")

    @property
    def vocabulary(self) -> int:
        """256 bytes and the separator, or the tokenizer's."""
        reader = self.reader()
        if reader is None:
            return SEPARATOR + 1
        return reader.vocabulary

    def reader(self) -> Tokenizer | None:
        """The tokenizer, read; `None` where bytes are."""
        if self.tokenizer is None:
            return None
        return read_tokenizer(Path(self.tokenizer), self.begin)

    def load(self) -> Documents:
        """Reads and splits the files, and encodes them."""
        # First, since it is small: a mistake in it should not wait for the text.
        reader = self.reader()
        files = self._files()
        size = sum(len(content) for _, content in files)
        if size < 2:
            raise InputError(
                f"there are {size} bytes of text in {', '.join(map(str, self.paths))}, but 2 or more are needed: "
                "name a text file, or a folder that holds one"
            )
        name = ", ".join(Path(path).name or str(path) for path in self.paths)
        if len(files) > 1:
            train, validation = _split_files(files, self.validation_share)
        else:
            # A single file has no other to be validation: its end is.
            train, validation = _split_bytes(files, self.validation_share, whole_characters=reader is not None)
        documents = _documents(name, train, validation)
        if reader is None:
            return documents
        encoded = _encoded(train, validation, reader)
        fingerprint = f"{documents.fingerprint}-{reader.fingerprint}"
        return replace(documents, fingerprint=fingerprint, encoded=encoded, tokenizer=reader.path.name)

    def _files(self) -> list[_File]:
        """The files that count, each once."""
        files = []
        for file in found_files(self.paths):
            # What was named must be text; what lies in a folder is passed over where it is none.
            content = read_named(file.path) if file.named else read_text(file.path)
            if file.named and b"\0" in content:
                raise binary(file.path)
            if content:
                files.append((file.key, content))
        return files


def library_files() -> tuple[str, list[_File]]:
    """What people call the running Python's library, and its files. Errors: `InputError` where it has no source."""
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for key, path in walk(root, _is_library_folder):
        if not key.endswith(".py"):
            continue
        content = read_named(path)
        # Empty ones, mostly marks of packages, are no text.
        if content:
            files.append((key, content))
    name = f"standard library of Python {platform.python_version()}"
    if len(files) < 2:
        raise InputError(f"the {name} has no source files in {root}: give text of your own with Text(paths=...)")
    return name, files


def split_documents(name: str, files: Sequence[_File], share: float) -> Documents:
    """The documents of two files or more, split by their paths as `StandardLibrary` describes."""
    train, validation = _split_files(files, share)
    return _documents(name, train, validation)


def _is_library_folder(name: str) -> bool:
    is_build = name.startswith("config-")
    return name not in _LEFT_OUT and not is_build


def _split_files(files: Sequence[_File], share: float) -> tuple[list[_File], list[_File]]:
    """Files whose hash lies below the share are validation; neither side stays empty."""
    chosen = held_out([key for key, _ in files], share)
    train = [file for index, file in enumerate(files) if index not in chosen]
    validation = [file for index, file in enumerate(files) if index in chosen]
    return train, validation


def _split_bytes(files: Sequence[_File], share: float, whole_characters: bool) -> tuple[list[_File], list[_File]]:
    """The last part of the only file is validation; neither side stays empty, of bytes or of `whole_characters`."""
    ((key, content),) = files
    cut = border(content, share, whole_characters)
    return [(key, content[:cut])], [(key, content[cut:])]


def _encoded(train: Sequence[_File], validation: Sequence[_File], reader: Tokenizer) -> DocumentTokens:
    """Both sides in tokens; the sizes of those that are trained on nobody asks for."""
    # Two bytes a token where that is enough: a corpus stays in memory.
    smallest = np.min_scalar_type(reader.vocabulary - 1)
    width = np.promote_types(smallest, np.uint16)
    train_tokens = []
    for key, content in train:
        tokens, _ = reader.encode(decoded(key, content))
        train_tokens.append(tokens.astype(width))
    validation_tokens, sizes = [], []
    for key, content in validation:
        tokens, bytes_of_tokens = reader.encode(decoded(key, content))
        validation_tokens.append(tokens.astype(width))
        sizes.append(bytes_of_tokens)
    return DocumentTokens(
        train=tuple(train_tokens),
        validation=tuple(validation_tokens),
        validation_bytes=tuple(sizes),
        separator=reader.separator,
        begin=reader.begin,
        vocabulary=reader.vocabulary,
    )


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
