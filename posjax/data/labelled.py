"""Texts with a label from a file."""

from __future__ import annotations

from collections.abc import Sequence
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
    read_lines,
    split_examples,
    vocabulary_of,
)
from posjax.data.source import Form, Row
from posjax.data.tokenizer import Tokenizer
from posjax.data.utf8 import decoded
from posjax.errors import InputError
from posjax.fields import check_fields


@dataclass(frozen=True)
class Labelled:
    r"""Texts with a label from a file, a line each: the label, a tab, the text; for classification.

    Blank lines are passed over; the split and the tokens are as of `TextPairs`, and `begin` as of `Text`. A label is
    any text, and its class is its place among all labels of the file in order.

    Rows of `load().rows(length, seed)` are `{"inputs": int32[length], "positions": int32[length], "segments":
    int32[length], "classes": int32}`. Positions count from 0 and segments are 1; behind the text's end they are -1 and
    0, so that nothing there is seen by a model that looks both ways.

    Errors: `InputError` as `TextPairs`, and by `load` and `classes` for fewer than two labels.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labelled.tsv")
    ...     _ = path.write_text("good\tab\nbad\txyz\n")
    ...     data = Labelled(str(path))
    ...     classes, examples = data.classes, data.load()
    >>> row = examples.validation_rows(length=4, count=1, seed=0)
    >>> classes, row["classes"].tolist(), row["positions"].tolist()
    (('bad', 'good'), [0], [[0, 1, 2, -1]])
    """

    form: ClassVar[Form] = "classes"

    path: str
    validation_share: float = 0.1
    tokenizer: str | None = None
    begin: str | None = None

    def __post_init__(self):
        check_fields(self)
        check_file(self.path, self.validation_share, type(self).__name__)
        if self.begin is not None and self.tokenizer is None:
            raise InputError(f"Labelled got begin={self.begin!r} and no tokenizer: give tokenizer or no begin")

    @property
    def vocabulary(self) -> int:
        """256 bytes and the separator, or the tokenizer's, as of `Text`."""
        return vocabulary_of(self.reader())

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, in order."""
        return self._classes(read_lines(Path(self.path), "label, tab, text"))

    def reader(self) -> Tokenizer | None:
        """The tokenizer, read; `None` where bytes are."""
        return named_reader(self.tokenizer, self.begin)

    def load(self) -> Examples:
        """Reads the file, splits and encodes it."""
        reader = self.reader()
        lines = read_lines(Path(self.path), "label, tab, text")
        # Of the lines at hand: another reading might find another file.
        numbers = {label: number for number, label in enumerate(self._classes(lines))}

        def example(line: TsvLine) -> Example:
            number = numbers[_label(line)]
            return Example(line.number, np.array(number, np.int32), encoded_text(line, line.second, reader))

        return split_examples(Path(self.path), self.validation_share, reader, lines, example, self._row)

    def _classes(self, lines: Sequence[TsvLine]) -> tuple[str, ...]:
        # Sorted, so that a class does not depend on the order of the lines.
        labels = tuple(sorted({_label(line) for line in lines}))
        if len(labels) < 2:
            alone = ", ".join(labels)
            raise InputError(f"{self.path} has the one label {alone!r}: needed are two or more to tell apart")
        return labels

    def _row(self, example: Example, length: int) -> Row:
        size = len(example.second)
        if size > length:
            raise InputError(
                f"{self.path} line {example.line} has a text of {size:,} tokens, but there is room for {length:,}: "
                "raise the length, or leave it out"
            )
        # What is behind the end is told by positions: any token may be part of a text.
        inputs = np.zeros(length, np.int32)
        inputs[:size] = example.second
        places = np.arange(length, dtype=np.int32)
        real = places < size
        return {
            "inputs": inputs,
            "positions": np.where(real, places, -1),
            "segments": real.astype(np.int32),
            "classes": example.first,
        }


def _label(line: TsvLine) -> str:
    return decoded(f"{line.path} line {line.number}", line.first)
