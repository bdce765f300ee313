"""A text file by its characters, without the whole of it in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from posjax.errors import InputError

CHUNK = 2**20
"""Bytes that are read at once."""


def chunks(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file from `start` up to `stop`, piece by piece. Errors: `InputError` where it has fewer."""
    done = start
    try:
        with path.open("rb") as file:
            file.seek(start)
            while done < stop:
                piece = file.read(min(CHUNK, stop - done))
                # What is appended meanwhile is not read; what is cut off is missed below.
                if not piece:
                    break
                done += len(piece)
                yield piece
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): make it readable or leave it out") from error
    if done < stop:
        raise InputError(f"{path} became shorter while it was read: give the same command again when it is at rest")


@dataclass(frozen=True, eq=False)
class Utf8File:
    """The characters of bytes `start` up to `stop` of a file, read by slices of step 1 as a text is.

    `marks` are places where a character begins, each as (characters before it, bytes before it), the end among them.
    """

    path: Path
    marks: tuple[tuple[int, int], ...]

    @classmethod
    def open(cls, path: Path, key: str, start: int, stop: int) -> Utf8File:
        """Errors: `InputError` where the bytes are not UTF-8; the file is called `key` then."""
        marks = [(0, start)]
        characters = 0
        # The beginning of a character whose end is in the next piece.
        left = b""
        for piece in chunks(path, start, stop):
            content = left + piece
            whole = len(content)
            # The last character may go on in the next piece.
            if marks[-1][1] + whole < stop:
                whole = _whole_characters(content)
            characters += len(decoded(key, content[:whole], marks[-1][1] - start))
            marks.append((characters, marks[-1][1] + whole))
            left = content[whole:]
        return cls(path, tuple(marks))

    def __len__(self) -> int:
        return self.marks[-1][0]

    def __getitem__(self, part: slice, /) -> str:
        start, stop, _ = part.indices(len(self))
        if stop <= start:
            return ""
        first = bisect_right(self.marks, start, key=_characters_before) - 1
        last = bisect_right(self.marks, stop - 1, key=_characters_before)
        # From the mark before to the mark behind: characters differ in size, and there is no other way to find one.
        skipped, begin = self.marks[first]
        _, end = self.marks[last]
        text = b"".join(chunks(self.path, begin, end)).decode()
        return text[start - skipped : stop - skipped]


def decoded(key: str, content: bytes, before: int = 0) -> str:
    """Bytes as text, `before` of the file's being in front of them. Errors: `InputError` where they are not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{key} is not UTF-8 at byte {before + error.start:,}, and a tokenizer reads characters: convert it, "
            "leave it out, or read bytes without a tokenizer"
        ) from error


def _characters_before(mark: tuple[int, int]) -> int:
    return mark[0]


def _whole_characters(content: bytes) -> int:
    """How many bytes are left without the last character, which may not be whole."""
    place = len(content) - 1
    # Bytes of UTF-8 that go on with a character are 10xxxxxx, three at most.
    while place > max(len(content) - 4, 0) and content[place] & 0xC0 == 0x80:
        place -= 1
    return place
