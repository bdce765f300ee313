"""A text that `experiments.prepare` has made into tokens on a disk, read as it is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from posjax.data.columns import REMEDY, Column
from posjax.data.documents import Documents, DocumentTokens
from posjax.data.paths import not_there, read_named
from posjax.data.tokenizer import Tokenizer, read_tokenizer, tokenizer_fingerprint
from posjax.errors import InputError
from posjax.fields import check_fields
from posjax.files import damaged, json_bytes, read_json

HEADER = "prepared.json"
"""The file that says that a folder is whole, written last."""
TOKENIZER = "tokenizer.json"
FORMAT = 1


@dataclass(frozen=True)
class StoredText:
    """A folder that `python -m experiments.prepare SOURCE... --to FOLDER` has made of a text.

    The same windows as `Text` gives for the same paths, share and tokenizer, to the bit, and the same fingerprint. The
    text stays on the disk: neither memory nor start-up grows with it. Whatever is read of it is held to the checksums
    of when it was written, so that damage is an error wherever it is met.

    Errors: `InputError` for a folder without a name; by `load`, `vocabulary` and `reader`, for one that is missing, not
    whole, damaged, or of another format.

    >>> import pathlib, tempfile
    >>> from posjax.data import Text, prepare, training_windows
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source, made = pathlib.Path(folder, "source.txt"), pathlib.Path(folder, "made")
    ...     _ = source.write_text("to be or not to be")
    ...     _ = prepare(Text(paths=(str(source),)), made)
    ...     windows = training_windows(StoredText(str(made)).load(), length=4, seed=0)
    ...     bytes(windows[0]["inputs"].tolist())
    b'o be'
    """

    folder: str

    def __post_init__(self):
        check_fields(self)
        if not self.folder:
            raise InputError("StoredText got folder='': needed is a folder that experiments.prepare has made")

    @property
    def vocabulary(self) -> int:
        """256 bytes and the separator, or the tokenizer's."""
        return read_header(Path(self.folder))["vocabulary"]

    def reader(self) -> Tokenizer | None:
        """The tokenizer that the text was read by, as it was then; `None` where bytes were."""
        header = read_header(Path(self.folder))
        if not header["tokenizer"]:
            return None
        # The copy in the folder, so that the two go together wherever the folder goes.
        _check_tokenizer(Path(self.folder), header)
        return read_tokenizer(Path(self.folder, TOKENIZER), header["begins"])

    def load(self) -> StoredDocuments:
        """Opens the folder; the text stays where it is."""
        folder = Path(self.folder)
        header = read_header(folder)
        # All of them now, so that what is missing is told before anything is trained.
        columns = {name: Column.open(folder, name, kept) for name, kept in header["columns"].items()}
        gap = 1
        # Where files begin with a token of their own, nothing stands between them.
        if header["separator"] is None:
            gap = 0
        validation_bytes = None
        if header["tokenizer"]:
            _check_tokenizer(folder, header)
            validation_bytes = _files(columns, "validation", "bytes", gap)
        stored = DocumentTokens(
            train=_files(columns, "train", "tokens", gap),
            validation=_files(columns, "validation", "tokens", gap),
            validation_bytes=validation_bytes,
            separator=header["separator"],
            begin=header["begin"],
            vocabulary=header["vocabulary"],
            joined=columns["train-tokens"],
        )
        encoded = None
        if header["tokenizer"]:
            encoded = stored
        return StoredDocuments(
            header["name"],
            train=(),
            validation=(),
            fingerprint=header["fingerprint"],
            encoded=encoded,
            tokenizer=header["tokenizer"],
            stored=stored,
            sizes=header["sizes"],
        )


@dataclass(frozen=True, eq=False)
class StoredDocuments(Documents):
    """A corpus on a disk: its tokens alone, read by slices, and its `sizes` as a report tells them."""

    stored: DocumentTokens = field(kw_only=True)
    sizes: Mapping[str, str | int] = field(kw_only=True)

    @property
    def tokens(self) -> DocumentTokens:
        return self.stored

    def describe(self) -> dict[str, str | int]:
        return {"name": self.name, "fingerprint": self.fingerprint, **self.sizes}


@dataclass(frozen=True, eq=False)
class StoredFile:
    """Part of a column: the tokens of one file, or what else there is of each."""

    column: Column
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice, /) -> np.ndarray:
        first, last, _ = part.indices(len(self))
        return self.column[self.start + first : self.start + last]


@dataclass(frozen=True, eq=False)
class StoredFiles(Sequence[StoredFile]):
    """The files of a column: file n reaches from `starts[n]` to `gap` before `starts[n + 1]`."""

    column: Column
    starts: np.ndarray
    gap: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> StoredFile: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[StoredFile]: ...

    def __getitem__(self, index: int | slice) -> StoredFile | Sequence[StoredFile]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            # How Python's own loop over a sequence learns of its end.
            raise IndexError(index)
        # The end of the last one is kept too, as the start of a file behind it.
        start, after = self.starts[index : index + 2]
        return StoredFile(self.column, int(start), int(after) - self.gap)


def read_header(folder: Path) -> dict[str, Any]:
    """What a prepared folder says of itself. Errors: `InputError` for one that is missing, not whole, or changed."""
    # A name that is wrong, before what may be wrong within.
    if not folder.is_dir():
        raise InputError(not_there(folder))
    path = folder / HEADER
    try:
        header = read_json(path, REMEDY)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no {HEADER}: it is being prepared, or that was interrupted, or it is no prepared text; "
            f"python -m experiments.prepare SOURCE... --to {folder} makes it whole"
        ) from error
    # Before the seal, which another format may make in another way.
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path} is of format {header.get('format')!r}, and this posjax reads format {FORMAT}: prepare the text "
            "again with experiments.prepare, in another folder"
        )
    if header.get("seal") != seal(header):
        raise damaged(path, "it is not what was prepared", REMEDY)
    return header


def seal(header: Mapping[str, Any]) -> str:
    """What an edit of the header would change, over all else that is in it."""
    others = {name: value for name, value in header.items() if name != "seal"}
    return hashlib.sha256(json_bytes(others)).hexdigest()[:16]


def _files(columns: Mapping[str, Column], side: str, kind: str, gap: int) -> StoredFiles:
    starts = columns[f"{side}-starts"]
    return StoredFiles(columns[f"{side}-{kind}"], starts[: len(starts)], gap)


def _check_tokenizer(folder: Path, header: Mapping[str, Any]) -> None:
    """Errors: `InputError` for a copy of the tokenizer that is another than the text was read by."""
    # Its tokens would mean other text, and nothing in their numbers would tell.
    path = folder / TOKENIZER
    found = tokenizer_fingerprint(read_named(path), header["begins"])
    if not header["fingerprint"].endswith(f"-{found}"):
        raise damaged(path, "it is not what was prepared", REMEDY)
