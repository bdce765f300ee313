"""Examples from a file of tab-separated lines, split and in tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import numpy as np

from posjax.data.documents import SEPARATOR
from posjax.data.found import binary, held_out
from posjax.data.order import Shuffled
from posjax.data.paths import not_there, read_named
from posjax.data.source import Row, endless, stacked
from posjax.data.tokenizer import Tokenizer, read_tokenizer
from posjax.data.utf8 import decoded
from posjax.errors import InputError


@dataclass(frozen=True, eq=False)
class Example:
    """A line, read: its number from 1, and its two sides, as tokens or as the number of a label."""

    line: int
    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True, eq=False)
class ExampleRows:
    """What was read of data whose rows are no windows of a text: rows to train on, and others that are held out.

    `name` is for people, `fingerprint` 16 hex digits of a SHA-256 over all that was read and the split, a hyphen and
    the tokenizer's where there is one.
    """

    name: str
    fingerprint: str

    def rows(self, length: int, seed: int) -> grain.MapDataset:
        """Endless training rows; row i is a pure function of (seed, i)."""
        raise NotImplementedError

    def validation_rows(self, length: int, count: int, seed: int) -> Row:
        """Held-out rows, each array `[count, ...]`; a smaller count gives a prefix."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What a report says of it: its name, fingerprint and sizes."""
        return {"name": self.name, "fingerprint": self.fingerprint}


@dataclass(frozen=True, eq=False)
class Examples(ExampleRows):
    """The examples of a file on both sides of the split. `row` makes a row of one example and the length."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    row: Callable[[Example, int], Row]

    def describe(self) -> dict[str, Any]:
        """With how many examples each side has."""
        sizes = {"train_examples": len(self.train), "validation_examples": len(self.validation)}
        return {**super().describe(), **sizes}

    def rows(self, length: int, seed: int) -> grain.MapDataset:
        """Endless training rows, each example once before any comes again; row i is a pure function of (seed, i).

        Errors: `InputError` where an example of either side is longer than `length` has room for, with its line.
        """
        # All of them now: the one that is too long may come after hours.
        for example in (*self.train, *self.validation):
            self.row(example, length)
        order = Shuffled(len(self.train), seed, "example")
        return endless(lambda index: self.row(self.train[order[index]], length))

    def validation_rows(self, length: int, count: int, seed: int) -> Row:
        """Held-out rows, each array `[count, ...]`; none comes twice before all have come.

        Errors: `InputError` where the count is below 1 or an example is too long.
        """
        if count < 1:
            raise InputError(f"{count} validation rows were asked for: ask for 1 or more")
        # Drawn, since neighbours in a file are often alike.
        order = Shuffled(len(self.validation), seed, "validation-example")
        return stacked([self.row(self.validation[order[index]], length) for index in range(count)])


@dataclass(frozen=True)
class TsvLine:
    """A line of a file, its number from 1, and what stands on both sides of its tab."""

    path: Path
    number: int
    first: bytes
    second: bytes


def check_file(path: str, share: float, name: str) -> None:
    """Errors: `InputError` where the fields of the data value called `name` are out of range."""
    if not path:
        raise InputError(f"{name} got path='': needed is a file of tab-separated lines")
    if not 0 < share < 1:
        raise InputError(f"{name} got validation_share={share}: it lies between 0 and 1, both excluded")


def named_reader(tokenizer: str | None, begin: str | None) -> Tokenizer | None:
    """The tokenizer, read; `None` where bytes are."""
    if tokenizer is None:
        return None
    return read_tokenizer(Path(tokenizer), begin)


def vocabulary_of(reader: Tokenizer | None) -> int:
    """256 bytes and the separator, or the tokenizer's."""
    if reader is None:
        return SEPARATOR + 1
    return reader.vocabulary


def read_lines(path: Path, form: str) -> list[TsvLine]:
    """The lines of a file that are not blank. Errors: `InputError` for one that is not of this form."""
    lines = []
    for number, line in enumerate(_lines(path, form), start=1):
        sides = line.split(b"\t")
        if not any(sides) and len(sides) == 1:
            continue
        if len(sides) != 2 or not all(sides):
            # Enough to find it by, of a line that may be very long.
            shown = line[:40].decode(errors="replace")
            raise InputError(f"{path} line {number} is {shown!r}: needed is {form}, neither side empty")
        lines.append(TsvLine(path, number, *sides))
    return _enough(path, lines)


def read_aligned(path: Path, other: Path) -> list[TsvLine]:
    """Lines of two files, of which those of one number belong together, but for pairs that are blank on both sides.

    Errors: `InputError` for files of different lengths, and a line that is blank in one of them.
    """
    form = "a text whose line of the same number in the other file belongs to it"
    firsts, seconds = _lines(path, form), _lines(other, form)
    if len(firsts) != len(seconds):
        raise InputError(
            f"{path} has {len(firsts):,} lines and {other} has {len(seconds):,}: needed is a line for each line"
        )
    lines = []
    for number, (first, second) in enumerate(zip(firsts, seconds, strict=True), start=1):
        if bool(first) != bool(second):
            raise InputError(f"line {number} is blank in one of {path} and {other}: give both, or neither")
        if first:
            lines.append(TsvLine(path, number, first, second))
    return _enough(path, lines)


def _lines(path: Path, form: str) -> list[bytes]:
    if not path.exists():
        raise InputError(not_there(path))
    if not path.is_file():
        raise InputError(f"{path} is no regular file: name a file of lines, each {form}")
    content = read_named(path)
    if b"\0" in content:
        raise binary(path)
    lines = content.split(b"\n")
    # Behind the end of the last line there is none.
    if not lines[-1]:
        lines = lines[:-1]
    # Files that were written on Windows end their lines with both.
    return [line.removesuffix(b"\r") for line in lines]


def _enough(path: Path, lines: list[TsvLine]) -> list[TsvLine]:
    # One for each side.
    if len(lines) < 2:
        raise InputError(
            f"{path} has {len(lines)} examples, and one side of the split would be empty: give two or more"
        )
    return lines


def split_examples(
    path: Path,
    share: float,
    reader: Tokenizer | None,
    lines: Sequence[TsvLine],
    example: Callable[[TsvLine], Example],
    row: Callable[[Example, int], Row],
) -> Examples:
    """All examples, split by what their lines hold."""
    # By what a line says and not where it stands, so that it stays on its side when others come before it.
    keys = [f"{line.first!r}\t{line.second!r}" for line in lines]
    chosen = held_out(keys, share)
    sides: tuple[list[Example], list[Example]] = ([], [])
    digest = hashlib.sha256()
    for index, line in enumerate(lines):
        is_validation = index in chosen
        sides[is_validation].append(example(line))
        # With its side: the same lines split in another way train another model.
        digest.update(f"{is_validation:d} {keys[index]}\n".encode())
    fingerprint = digest.hexdigest()[:16]
    if reader is not None:
        fingerprint += f"-{reader.fingerprint}"
    train, validation = sides
    return Examples(path.name, fingerprint, tuple(train), tuple(validation), row)


def encoded_text(line: TsvLine, content: bytes, reader: Tokenizer | None) -> np.ndarray:
    """Part of a line in tokens. Errors: `InputError` where a tokenizer cannot read it, or drops all of it."""
    if reader is None:
        return np.frombuffer(content, np.uint8)
    where = f"{line.path} line {line.number}"
    tokens, _ = reader.encode(decoded(where, content))
    # A tokenizer may drop spaces, say; a row without a token would attend to nothing.
    if not len(tokens):
        raise InputError(f"{where} has a side without a token: leave it out")
    return tokens
