"""Text made into tokens on a disk, once, a piece of it in memory at a time."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posjax.data.columns import ColumnWriter
from posjax.data.corpus import Text
from posjax.data.documents import SEPARATOR
from posjax.data.found import FoundFile, binary, border, found_files, held_out
from posjax.data.paths import read_named
from posjax.data.prepared import FORMAT, HEADER, TOKENIZER, read_header, seal
from posjax.data.tokenizer import Tokenizer
from posjax.data.utf8 import Utf8File, chunks
from posjax.errors import InputError
from posjax.files import LOCK, PART, owned, refused, write_json, write_whole

MADE = re.compile(
    r"(train|validation)-(tokens|starts|bytes)(-\d{3}\.bin|\.crc)|tokenizer\.json|"
    rf"\.(tokenizer|prepared)\.json\.{PART}[0-9a-f]{{16}}"
)
"""What a preparation writes before the header."""
SIDES = ("train", "validation")
SPOOL = 2**22
"""Bytes of tokens that wait in memory until their file is known to be encoded well; then on the disk."""


@dataclass(frozen=True)
class _FilePart:
    """Bytes `start` up to `stop` of a file: all of it, unless it is the only one."""

    key: str
    path: Path
    start: int
    stop: int


def prepare(text: Text, folder: Path) -> dict[str, Any]:
    """Writes a text into a folder that `StoredText(folder)` reads, and returns its header, which is written last.

    Until then the folder is not whole, and says so to whoever reads it; the same call begins it anew. Where it is whole
    already and was made of the same files, nothing is done. Memory does not grow with the text.

    Errors: `InputError` as `Text.load`, for a folder with anything else in it, and for one that holds another text;
    `Busy` while another process prepares it; `StorageError`.
    """
    # First, since it is small: a mistake in it should not wait for the text.
    reader = text.reader()
    found = list(found_files(text.paths))
    _require_ours(folder)
    with owned(folder):
        source = _source(text, reader, found)
        if (folder / HEADER).exists():
            header = read_header(folder)
            if header["source"] != source:
                raise InputError(
                    f"{folder} was prepared from other files, or in another way: name another folder, or remove this "
                    "one first"
                )
            return header
        _require_elsewhere(folder, found)
        # Read before anything is taken away: it may be the copy that an interrupted preparation has left here.
        content = None
        if reader is not None:
            content = read_named(reader.path)
        # Begun anew, and not gone on with: files may have changed since.
        try:
            _clear(folder, reader)
            if content is not None:
                write_whole(folder / TOKENIZER, content)
            header = _written(text, reader, _split(text, found, reader), folder)
        except OSError as error:
            raise refused(folder, error) from error
        # The one file that makes the folder whole, and the last.
        header["source"] = source
        header["seal"] = seal(header)
        write_json(folder / HEADER, header)
    return header


def _require_ours(folder: Path) -> None:
    """Errors: `InputError` for a folder with files in it that no preparation has written."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder, which is made")
    if not folder.is_dir() or (folder / HEADER).exists():
        return
    # A name that was typed wrong must not cost anybody a file.
    for path in sorted(folder.iterdir()):
        # A preparation owns its folder before it writes anything.
        ours = path.name == LOCK or ((folder / LOCK).exists() and MADE.fullmatch(path.name))
        if not ours:
            raise InputError(f"{folder} holds {path.name}: name a folder that is empty or not there yet")


def _require_elsewhere(folder: Path, found: Sequence[FoundFile]) -> None:
    """Errors: `InputError` where a file of the text lies in the folder, and would be taken away or written over."""
    for file in found:
        if file.path.resolve().parent == folder.resolve():
            raise InputError(f"{file.path} is to be prepared and lies in {folder}: name another folder, which is made")


def _clear(folder: Path, reader: Tokenizer | None) -> None:
    """Takes away what an interrupted preparation has left, but for the tokenizer that is read."""
    for path in folder.iterdir():
        is_read = reader is not None and path.resolve() == reader.path.resolve()
        if MADE.fullmatch(path.name) and not is_read:
            path.unlink()


def _source(text: Text, reader: Tokenizer | None, found: Sequence[FoundFile]) -> dict[str, Any]:
    """What a text is prepared from, as far as it is known without reading it."""
    listed = hashlib.sha256()
    for file in found:
        # Enough to tell an edit by, and nothing is read.
        about = file.path.stat()
        listed.update(f"{file.key!r} {about.st_size} {about.st_mtime_ns}\n".encode("utf-8", "backslashreplace"))
    tokenizer = None
    if reader is not None:
        tokenizer = reader.fingerprint
    return {"files": listed.hexdigest()[:16], "share": text.validation_share, "tokenizer": tokenizer}


def _split(text: Text, found: Sequence[FoundFile], reader: Tokenizer | None) -> dict[str, list[_FilePart]]:
    """The pieces of both sides, as `Text.load` has them. Errors: `InputError`."""
    # All files are read twice: where each goes depends on which of them are text.
    whole = []
    for file in found:
        size = _size_of_text(file)
        if size:
            whole.append(_FilePart(file.key, file.path, 0, size))
    size = sum(piece.stop for piece in whole)
    if size < 2:
        raise InputError(
            f"there are {size} bytes of text in {', '.join(text.paths)}, but 2 or more are needed: name a text file, "
            "or a folder that holds one"
        )
    if len(whole) == 1:
        (only,) = whole
        # Mapped, since a few bytes of it are looked at.
        content = np.memmap(only.path, np.uint8, "r", shape=(only.stop,))
        cut = border(content, text.validation_share, whole_characters=reader is not None)
        first = _FilePart(only.key, only.path, 0, cut)
        last = _FilePart(only.key, only.path, cut, only.stop)
        return {"train": [first], "validation": [last]}
    chosen = held_out([piece.key for piece in whole], text.validation_share)
    sides: dict[str, list[_FilePart]] = {side: [] for side in SIDES}
    for index, piece in enumerate(whole):
        side = SIDES[index in chosen]
        sides[side].append(piece)
    return sides


def _size_of_text(file: FoundFile) -> int:
    """The bytes of a file; 0 for what lies in a folder and cannot be read, or is binary. Errors: `InputError`."""
    size = file.path.stat().st_size
    try:
        for piece in chunks(file.path, 0, size):
            if b"\0" not in piece:
                continue
            if file.named:
                raise binary(file.path)
            return 0
    except InputError:
        if file.named:
            raise
        return 0
    return size


def _written(text: Text, reader: Tokenizer | None, sides: dict[str, list[_FilePart]], folder: Path) -> dict[str, Any]:
    """Writes both sides, and returns the header without its seal."""
    vocabulary, separator = SEPARATOR + 1, SEPARATOR
    begin = None
    suffix, name = "", ""
    if reader is not None:
        vocabulary = reader.vocabulary
        separator, begin = reader.separator, reader.begin
        suffix, name = f"-{reader.fingerprint}", reader.path.name
    # Two bytes a token where that is enough.
    width = np.promote_types(np.min_scalar_type(vocabulary - 1), np.uint16)
    # The sides in order, as `Text` takes them into its fingerprint.
    digest = hashlib.sha256()
    columns: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for side, pieces in sides.items():
        with _Side(folder, side, width, separator, reader) as writer:
            for piece in pieces:
                writer.add(piece, digest)
            columns |= writer.close()
        counts[side] = writer.of_text
    # In the words in which `Text` describes itself, so that reports of both are one.
    sizes: dict[str, str | int] = {}
    for side, pieces in sides.items():
        sizes[f"{side}_bytes"] = sum(piece.stop - piece.start for piece in pieces)
    for side, pieces in sides.items():
        sizes[f"{side}_files"] = len(pieces)
    if reader is not None:
        sizes |= {"tokenizer": name, "vocabulary": vocabulary}
        sizes |= {f"{side}_tokens": count for side, count in counts.items()}
    return {
        "format": FORMAT,
        "name": ", ".join(Path(path).name or path for path in text.paths),
        "fingerprint": digest.hexdigest()[:16] + suffix,
        "vocabulary": vocabulary,
        "separator": separator,
        "begin": begin,
        "begins": text.begin,
        "tokenizer": name,
        "sizes": sizes,
        "columns": columns,
    }


class _Side(ExitStack):
    """Writes the columns of one side, in a context: tokens with separators, starts of files, and bytes of tokens."""

    def __init__(self, folder: Path, side: str, width: Any, separator: int | None, reader: Tokenizer | None):
        super().__init__()
        self.of_text = 0
        self._folder = folder
        self._side = side
        self._reader = reader
        self._gap = np.empty(0, width)
        if separator is not None:
            self._gap = np.array([separator], width)
        self._columns = {"tokens": self._column("tokens", width), "starts": self._column("starts", np.int64)}
        # How many bytes a token of training stands for nobody asks.
        if reader is not None and side == "validation":
            self._columns["bytes"] = self._column("bytes", np.uint32)
        self._files = 0

    def add(self, piece: _FilePart, digest: Any) -> None:
        """One file, encoded by itself; `digest` takes in what `Text` takes into its fingerprint."""
        if self._files:
            self._append(self._gap, np.zeros(len(self._gap)))
        tokens = self._columns["tokens"]
        start = tokens.count
        self._columns["starts"].append(np.array([start]))
        self._files += 1
        # A name is bytes to the file system, and need not be text.
        key = piece.key.encode("utf-8", "surrogateescape")
        digest.update(f"{self._side} {len(key)} {piece.stop - piece.start}\n".encode() + key)
        for content in chunks(piece.path, piece.start, piece.stop):
            digest.update(content)
            if self._reader is None:
                tokens.append(np.frombuffer(content, np.uint8))
        if self._reader is not None:
            self._encode(self._reader, piece)
        self.of_text += tokens.count - start

    def close(self) -> dict[str, Any]:
        """What the header says of each column."""
        # The end too, as if another file began there.
        end = self._columns["tokens"].count + len(self._gap)
        self._columns["starts"].append(np.array([end]))
        return {f"{self._side}-{name}": column.close() for name, column in self._columns.items()}

    def _column(self, name: str, width: Any) -> ColumnWriter:
        return self.enter_context(ColumnWriter(self._folder, f"{self._side}-{name}", width))

    def _append(self, tokens: np.ndarray, sizes: np.ndarray) -> None:
        self._columns["tokens"].append(tokens)
        if "bytes" in self._columns:
            self._columns["bytes"].append(sizes)

    def _encode(self, reader: Tokenizer, piece: _FilePart) -> None:
        # By characters, since a tokenizer's blocks are of these.
        text = Utf8File.open(piece.path, piece.key, piece.start, piece.stop)
        # Blocks may turn out to be too short, at the end of a long file: until then nothing is appended.
        with tempfile.SpooledTemporaryFile(SPOOL, dir=str(self._folder)) as spool:
            for block in reader.blocks(text):
                if block is None:
                    spool.seek(0)
                    spool.truncate()
                    continue
                pairs = np.column_stack(block)
                spool.write(pairs.tobytes())
            spool.seek(0)
            for pairs in _pairs(spool):
                self._append(pairs[:, 0], pairs[:, 1])


def _pairs(spool: Any) -> Iterator[np.ndarray]:
    """The (token, bytes) that were put aside, int32 `[n, 2]`, a piece at a time."""
    while content := spool.read(SPOOL):
        yield np.frombuffer(content, np.int32).reshape(-1, 2)
