"""Rows made of whole files, one after another, told apart by segments."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

import grain
import numpy as np

from posjax.arguments import whole
from posjax.data.corpus import StandardLibrary, Text
from posjax.data.documents import Documents, DocumentTokens, FileTokens
from posjax.data.order import Shuffled
from posjax.data.prepared import StoredText
from posjax.data.randomness import rng, whole_seed
from posjax.data.source import Row, endless
from posjax.data.tokenizer import Tokenizer
from posjax.errors import InputError
from posjax.fields import check_fields

WINDOW = 4096
"""Pieces of files that are packed together: enough to fill rows, and few enough to leave their order random."""


@dataclass(frozen=True)
class Packed:
    """A text whose rows to train on are whole files instead of windows; what is measured does not change.

    `data`: the text. See `packed_rows` for the rows.
    """

    data: StandardLibrary | Text | StoredText

    def __post_init__(self):
        check_fields(self)

    @property
    def vocabulary(self) -> int:
        """The text's."""
        return self.data.vocabulary

    def reader(self) -> Tokenizer | None:
        """The text's tokenizer; `None` where bytes are read."""
        return self.data.reader()

    def load(self) -> Documents:
        """The text, to be packed."""
        documents = self.data.load()
        # A model of packed rows is another one: its folder must not go on with windows.
        fingerprint = f"packed+{documents.fingerprint}"
        return replace(documents, name=f"{documents.name}, packed", fingerprint=fingerprint, packed=True)


@dataclass(frozen=True)
class _Piece:
    """Tokens `start` up to `stop` of a file, its separator counted as its last token."""

    file: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


def packed_rows(documents: Documents, length: int, seed: int) -> grain.MapDataset:
    """Endless rows of whole training files, by random access.

    A file's separator belongs to it, as its last token. A file longer than a row is cut into pieces of `length` tokens;
    its last, shorter piece is packed as a file is. Which pieces share a row depends on the seed and on the files'
    lengths alone, so that no text is read for it: in a random order, some thousand at a time, each goes into the row
    that it fills best. Rows come in a random order, another one each time all have come, and row i is a pure function
    of (seed, i). A piece of one token foretells nothing, and is left out.

    Items are, each `[length]`: `inputs`, `targets` int32, 0 where there is nothing; `weights` float32, 0 where the
    target is another file's or nothing; `segments` int32, which piece of the row it is, from 1, or 0 for nothing;
    `positions` int32, from 0 in each piece, or -1 for nothing.

    `documents` is the corpus, `length` how many tokens the model reads, `seed` the run's.

    Errors: `InputError` if the length is below 2, a number is no whole one, or no file has two tokens.

    >>> documents = Documents("toy", (b"abc", b"d", b"efg"), (b"h",), "0")
    >>> row = packed_rows(documents, length=7, seed=0)[0]
    >>> row["segments"].tolist(), row["positions"].tolist()
    ([1, 1, 1, 1, 2, 2, 0], [0, 1, 2, 3, 0, 1, -1])
    """
    # One token foretells nothing.
    length = whole(length, "length", least=2)
    seed = whole_seed(seed)
    read = documents.tokens
    pieces = _pieces(read, length)
    if not pieces:
        raise InputError(f"no training file of {documents.name} has two tokens to pack: add text")
    rows = _rows(pieces, length, seed)
    # What shares a row stays together: only then is it known how many rows an epoch has, and where row i begins.
    order = Shuffled(len(rows), seed, "packed-row")

    def row(index: int) -> Row:
        members = rows[order[index]]
        return _row([pieces[member] for member in members], read, length)

    return endless(row)


def _pieces(read: DocumentTokens, length: int) -> list[_Piece]:
    """All that is packed, in the order of the files."""
    separators = int(read.separator is not None)
    pieces = []
    # Lengths alone: of a text on a disk, no token is read here.
    for file, tokens in enumerate(read.train):
        size = len(tokens) + separators
        for start in range(0, size, length):
            piece = _Piece(file, start, min(start + length, size))
            # The only token of a piece is the target of the one before, if of any.
            if piece.size > 1:
                pieces.append(piece)
    return pieces


def _rows(pieces: Sequence[_Piece], length: int, seed: int) -> list[list[int]]:
    """Which pieces each row holds."""
    generator = rng(seed, "packing")
    order = generator.permutation(len(pieces)).tolist()
    rows: list[list[int]] = []
    for start in range(0, len(order), WINDOW):
        # The longest first: what is left between them, the short ones fill.
        together = sorted(order[start : start + WINDOW], key=lambda index: -pieces[index].size)
        rows += _best_fit(together, pieces, length)
    return rows


def _best_fit(chosen: Sequence[int], pieces: Sequence[_Piece], length: int) -> list[list[int]]:
    rows: list[list[int]] = []
    # (tokens that are free, row) in order, so that the fullest row with room is found at once.
    free: list[tuple[int, int]] = []
    for index in chosen:
        size = pieces[index].size
        place = bisect_left(free, (size, -1))
        # A row of its own, where none has room.
        left, row = length, len(rows)
        if place < len(free):
            left, row = free.pop(place)
        else:
            rows.append([])
        rows[row].append(index)
        insort(free, (left - size, row))
    return rows


def _row(pieces: Sequence[_Piece], read: DocumentTokens, length: int) -> Row:
    row: Row = {name: np.zeros(length, np.int32) for name in ("inputs", "targets", "segments")}
    # 0 is a place: what is none says so.
    row["positions"] = np.full(length, -1, np.int32)
    row["weights"] = np.zeros(length, np.float32)
    start = 0
    for number, piece in enumerate(pieces):
        stop = start + piece.size
        # One more, which is there where a file was cut: it is the last one's target.
        tokens = _tokens(read, read.train[piece.file], piece.start, piece.stop + 1)
        targets = tokens[1:]
        row["inputs"][start:stop] = tokens[: piece.size]
        # As windows do, the later pieces of a file begin with the token that files begin with.
        if read.begin is not None:
            row["inputs"][start] = read.begin
        row["targets"][start : start + len(targets)] = targets
        # The last token of a file has no target, and its weight stays 0.
        row["weights"][start : start + len(targets)] = 1
        row["segments"][start:stop] = number + 1
        row["positions"][start:stop] = np.arange(piece.size)
        start = stop
    return row


def _tokens(read: DocumentTokens, file: FileTokens, start: int, stop: int) -> np.ndarray:
    """Tokens of a file, its separator behind them."""
    tokens = file[start:stop].astype(np.int32)
    if read.separator is not None and start <= len(file) < stop:
        tokens = np.append(tokens, np.int32(read.separator))
    return tokens
