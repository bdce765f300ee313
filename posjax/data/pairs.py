"""Pairs of texts from a file, a source and its target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from posjax.data.examples import (
    Example,
    Examples,
    TsvLine,
    check_file,
    encoded_text,
    named_reader,
    read_aligned,
    read_lines,
    split_examples,
    vocabulary_of,
)
from posjax.data.source import Form, Row, target_row
from posjax.data.tokenizer import Tokenizer
from posjax.errors import InputError
from posjax.fields import check_fields


@dataclass(frozen=True)
class TextPairs:
    r"""Sources and targets from a file, a pair a line with a tab between them, for an encoder and a decoder.

    With `targets`, another file, `path` holds sources alone, and lines of the same number belong together.

    Blank lines are passed over. A pair is validation when the hash of its line lies below `validation_share`, as
    `Text` has it for files. Both sides are read as bytes, or by a `tokenizer`, whose file is a `tokenizer.json`; then
    the file has to be UTF-8. A token of our own, behind those, begins and ends each target. The encoder reads
    `source_length` tokens.

    Rows of `load().rows(length, seed)` are `{"source": int32[source_length], "real": bool[source_length], "inputs":
    int32[length], "targets": int32[length], "weights": float32[length]}`, 0 where there is nothing.

    Errors: `InputError` if a field is out of range; by `load`, for a line without exactly one tab or with an empty
    side, fewer than two pairs, and what `Text` refuses of a file; by `rows`, for a pair that is too long.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.tsv")
    ...     _ = path.write_text("ab\tcde\nxy\tz\n")
    ...     examples = TextPairs(str(path), source_length=3).load()
    >>> row = examples.validation_rows(length=5, count=1, seed=0)
    >>> bytes(row["source"][0, :2].tolist()), row["targets"][0].tolist()
    (b'ab', [99, 100, 101, 256, 0])
    """

    form: ClassVar[Form] = "pairs"

    path: str
    source_length: int
    validation_share: float = 0.1
    tokenizer: str | None = None
    targets: str | None = None

    def __post_init__(self):
        check_fields(self, positive=("source_length",))
        if self.targets == "":
            raise InputError("TextPairs got targets='': needed is a file of lines, or None where path has both sides")
        check_file(self.path, self.validation_share, type(self).__name__)

    @property
    def vocabulary(self) -> int:
        """256 bytes or the tokenizer's tokens, and the one that begins and ends a target."""
        return vocabulary_of(self.reader())

    def reader(self) -> Tokenizer | None:
        """The tokenizer, read; `None` where bytes are."""
        return named_reader(self.tokenizer, None)

    def load(self) -> Examples:
        """Reads the file, splits and encodes it."""
        reader = self.reader()
        if self.targets is None:
            lines = read_lines(Path(self.path), "source, tab, target")
        else:
            lines = read_aligned(Path(self.path), Path(self.targets))
        # Once: a tokenizer's file is not read again for each row.
        between = vocabulary_of(reader) - 1

        def example(line: TsvLine) -> Example:
            return Example(line.number, encoded_text(line, line.first, reader), encoded_text(line, line.second, reader))

        def row(example: Example, length: int) -> Row:
            return self._row(example, length, between)

        return split_examples(Path(self.path), self.validation_share, reader, lines, example, row)

    def _row(self, example: Example, length: int, between: int) -> Row:
        size, of_target = len(example.first), len(example.second)
        # One more: the token that begins the target, or ends it.
        if size > self.source_length or of_target + 1 > length:
            raise InputError(
                f"{self.path} line {example.line} has a source of {size:,} tokens and a target of {of_target:,}, but "
                f"there is room for {self.source_length:,} and {length - 1:,}: raise source_length or the length, or "
                "leave it out"
            )
        # What `real` does not cover is never attended to.
        source = np.zeros(self.source_length, np.int32)
        source[:size] = example.first
        row = target_row(example.second, between, between, length)
        return row | {"source": source, "real": np.arange(self.source_length) < size}
