"""A corpus in memory: its files as bytes, and as the tokens that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SEPARATOR = 256
"""The token between two files of bytes; the tokens below it are the bytes."""


class FileTokens(Protocol):
    """The tokens of a file, integers `[tokens of it]`: an array, or what is read by slices as one is."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


Files = Sequence[FileTokens]
"""The tokens of each file."""


@dataclass(frozen=True, eq=False)
class DocumentTokens:
    """What a model reads of a corpus.

    `train` and `validation` hold the tokens of each file, and `validation_bytes` how many bytes of text each of the
    latter stands for, `None` where that is one everywhere. Files are told apart in one of two ways: by `separator`
    between neighbours, or by `begin`, the token that each file and each window begins with. The other one is `None`.
    `joined` is the whole of `train`, separators and all, where it lies so on a disk.
    """

    train: Files
    validation: Files
    validation_bytes: Files | None
    separator: int | None
    begin: int | None
    vocabulary: int
    joined: FileTokens | None = None


@dataclass(frozen=True, eq=False)
class Documents:
    """A corpus in memory: the files of both sides in order, each as its bytes.

    `name` is for people. `fingerprint` is 16 hex digits of a SHA-256 over paths, contents and split, equal exactly
    for equal corpora; a tokenizer adds a hyphen and its own. `encoded` is what a tokenizer, called `tokenizer`, makes
    of the files; without one the tokens are the bytes. `packed`: rows to train on are whole files, see `Packed`.
    """

    name: str
    train: tuple[bytes, ...]
    validation: tuple[bytes, ...]
    fingerprint: str
    encoded: DocumentTokens | None = None
    tokenizer: str = ""
    packed: bool = False

    @property
    def tokens(self) -> DocumentTokens:
        """What a model reads.

        >>> Documents("toy", (b"abc", b"de"), (b"f",), "0f").tokens.train[1].tolist()
        [100, 101]
        """
        if self.encoded is not None:
            return self.encoded
        # Views: the text is in memory once.
        train = tuple(np.frombuffer(file, np.uint8) for file in self.train)
        validation = tuple(np.frombuffer(file, np.uint8) for file in self.validation)
        return DocumentTokens(train, validation, None, SEPARATOR, None, SEPARATOR + 1)

    @property
    def unit(self) -> str:
        """What one token is called."""
        if self.encoded is None:
            return "byte"
        return "token"

    def describe(self) -> dict[str, str | int]:
        """What a report says about the corpus: its name, fingerprint and sizes, in tokens too where they differ.

        >>> Documents("toy", (b"abc", b"de"), (b"f",), "0f").describe()["train_bytes"]
        5
        """
        described: dict[str, str | int] = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "train_bytes": sum(map(len, self.train)),
            "validation_bytes": sum(map(len, self.validation)),
            "train_files": len(self.train),
            "validation_files": len(self.validation),
        }
        if self.encoded is not None:
            described |= {
                "tokenizer": self.tokenizer,
                "vocabulary": self.encoded.vocabulary,
                "train_tokens": sum(map(len, self.encoded.train)),
                "validation_tokens": sum(map(len, self.encoded.validation)),
            }
        return described
