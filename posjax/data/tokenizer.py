"""Text to tokens and back by a `tokenizer.json`, and how many bytes of text each token stands for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from posjax.data.paths import not_there, read_named
from posjax.errors import InputError

BLOCK = 2**18
"""Characters that are encoded at once: the package keeps some hundred bytes a token while it works."""
MARGIN = 2**10
"""Characters that are encoded again at either side of a block, since a token there depends on its neighbours."""
FALLBACK = re.compile(r"<0x[0-9A-F]{2}>")
"""How a token for a single byte is spelled, where a vocabulary lacks the character."""


class Characters(Protocol):
    """A text, or what is read by slices as one is."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> str: ...


class _BordersDiffer(Exception):
    """Two neighbouring blocks of a text do not agree about its tokens around their border."""


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer file, read.

    `rules` is the `tokenizers` package's own object. `begin` is the token that each text begins with, if there is
    one. `fingerprint` is 16 hex digits of a SHA-256 over the file and the spelling of `begin`.
    """

    path: Path
    rules: Any
    begin: int | None
    fingerprint: str

    @property
    def vocabulary(self) -> int:
        """One more than the largest token; where no token begins a text, one of our own separates two of them."""
        size = self._size()
        if self.begin is None:
            return size + 1
        return size

    @property
    def separator(self) -> int | None:
        """The token between two texts, behind the tokenizer's own; `None` where a token of its own begins each."""
        if self.begin is None:
            return self._size()
        return None

    @property
    def between(self) -> int:
        """The token that stands between two texts: `begin`, or the separator."""
        if self.begin is None:
            return self._size()
        return self.begin

    def _size(self) -> int:
        # Not how many there are: a vocabulary may have gaps.
        return max(self.rules.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: Characters) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of a text, and how many bytes of it in UTF-8 each stands for, two arrays of int32.

        The bytes add up to the text's, exactly: what a tokenizer drops, such as a space, counts to the token behind
        it, and tokens that share a character share its bytes. No special token is added, apart from `begin`, and
        none is read out of the text, where `<s>` is three characters.
        """
        tokens: list[np.ndarray] = []
        sizes: list[np.ndarray] = []
        for part in self.blocks(text):
            if part is None:
                tokens.clear()
                sizes.clear()
                continue
            tokens.append(part[0])
            sizes.append(part[1])
        return _together(tokens), _together(sizes)

    def blocks(self, text: Characters) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
        """What `encode` returns, block by block, of a text that need not be in memory.

        `None` says to forget what came so far: two blocks differed about the text that both read, and larger ones
        begin anew. In the end there is one block.
        """
        block, margin = BLOCK, MARGIN
        while True:
            if self.begin is not None:
                yield np.array([self.begin], np.int32), np.zeros(1, np.int32)
            try:
                yield from self._parts(text, block, margin)
                return
            except _BordersDiffer:
                yield None
            block *= 4
            margin *= 4

    def decode(self, tokens: np.ndarray) -> str:
        """The text of tokens, without the special ones."""
        return self.rules.decode([int(token) for token in tokens], skip_special_tokens=True)

    def _parts(self, text: Characters, block: int, margin: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Tokens and sizes block by block. Errors: `_BordersDiffer`."""
        done = 0
        seam = None
        held = None
        for start in range(0, len(text), block):
            stop = start + block
            pieces = self._pieces(text, max(start - margin, 0), stop + margin)
            if seam is not None:
                same = _around(pieces, start, margin)
                # Without a token that begins there, one may be cut off by either end of what was encoded.
                if not len(seam) or not np.array_equal(seam, same):
                    raise _BordersDiffer
            seam = _around(pieces, stop, margin)
            mine = pieces[_first_lead(pieces, start) :]
            if stop < len(text):
                mine = mine[: _first_lead(mine, stop)]
            if not len(mine):
                continue
            if held is not None:
                yield held
            held = mine[:, 0].astype(np.int32), self._sizes(text, done, mine)
            done = max(done, int(mine[:, 2].max()))
        if held is not None:
            # What the tokenizer drops at the end has no token behind it.
            held[1][-1] += len(text[done : len(text)].encode())
            yield held

    def _pieces(self, text: Characters, start: int, stop: int) -> np.ndarray:
        """The tokens of a part of the text, and the characters each spans: integers `[n, (token, first, end)]`."""
        encoding = self.rules.encode(text[start:stop], add_special_tokens=False)
        tokens = np.array(encoding.ids, np.int64)
        spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return np.column_stack([tokens, spans + start])

    def _sizes(self, text: Characters, done: int, pieces: np.ndarray) -> np.ndarray:
        """The bytes of each of `pieces [n, 3]`, whose text up to the character `done` is counted already."""
        ends = np.maximum.accumulate(np.maximum(pieces[:, 2], done))
        # Bytes up to each character, since tokens are told in characters.
        up_to = np.cumsum(_bytes_of(text[done : ends[-1]]))
        up_to = np.append(0, up_to)
        # Pieces of one character are one group.
        firsts = np.flatnonzero(_leads(pieces))
        lasts = np.append(firsts[1:], len(pieces)) - 1
        totals = np.diff(up_to[ends[lasts] - done], prepend=0)
        sizes = np.zeros(len(pieces), np.int32)
        sizes[lasts] = totals
        for group in np.flatnonzero(lasts > firsts):
            members = slice(firsts[group], lasts[group] + 1)
            own = [self._own_size(token) for token in pieces[members, 0]]
            # Else the last has them all: the sum is right, and who has which byte of a character is not known.
            if sum(own) == totals[group]:
                sizes[members] = own
        return sizes

    def _own_size(self, token: np.integer) -> int:
        """The bytes that a piece of a character stands for, by its spelling."""
        piece = self.rules.id_to_token(int(token))
        if FALLBACK.fullmatch(piece):
            return 1
        # Byte-level vocabularies spell each byte as one character.
        return len(piece)


def read_tokenizer(path: Path, begin: str | None = None) -> Tokenizer:
    """Reads a `tokenizer.json`; `begin` spells the token that each text begins with, such as "<s>".

    Errors: `InputError` for a file that is missing or no tokenizer, one that draws at random, or an unknown `begin`.
    """
    package = _package()
    content = _content(path)
    try:
        rules = package.from_str(content.decode())
    except Exception as error:  # The package raises nothing narrower, whatever is wrong with a file.
        why = str(error).splitlines()[0]
        raise InputError(
            f"{path} is no tokenizer file, or not whole ({why}): needed is a tokenizer.json as the tokenizers "
            "package writes it"
        ) from error
    if not rules.get_vocab(with_added_tokens=True):
        raise InputError(f"{path} is a tokenizer without tokens: needed is one that was trained")
    if getattr(rules.model, "dropout", None):
        raise InputError(
            f"{path} drops merges at random (dropout is {rules.model.dropout}), and a text would be other tokens each "
            "time: set dropout to null in it"
        )
    # A file may ask for these, and a text would be cut at 512 tokens, say, with nobody told.
    rules.no_truncation()
    rules.no_padding()
    # What looks like a special token in a text is text.
    rules.encode_special_tokens = True
    number = None
    if begin is not None:
        number = rules.token_to_id(begin)
        if number is None:
            raise InputError(f"{path} has no token {begin!r} to begin texts with{_special(rules)}")
    return Tokenizer(path, rules, number, tokenizer_fingerprint(content, begin))


def tokenizer_fingerprint(content: bytes, begin: str | None) -> str:
    """What tells a tokenizer from another one: its file, and the spelling of the token that texts begin with."""
    digest = hashlib.sha256(content)
    digest.update(b"\0" + (begin or "").encode())
    return digest.hexdigest()[:16]


def _package() -> Any:
    # Within a function: whoever reads bytes needs no such package.
    try:
        from tokenizers import Tokenizer as Rules
    except ImportError as error:
        raise InputError(
            "a tokenizer needs the package tokenizers, which is not installed: pip install 'posjax[hf]'"
        ) from error
    return Rules


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"the tokenizer {path} is a folder: name the file in it, {path / 'tokenizer.json'} perhaps")
    if not path.exists():
        raise InputError(f"the tokenizer {not_there(path)}")
    if not path.is_file():
        raise InputError(f"the tokenizer {path} is no regular file, and might never end: name a tokenizer.json")
    return read_named(path)


def _special(rules: Any) -> str:
    """The special tokens that there are, as the remedy of a message."""
    added = rules.get_added_tokens_decoder().values()
    names = [repr(token.content) for token in added if token.special]
    if not names:
        return ": name a token that it has"
    return f": its special ones are {', '.join(names[:8])}"


def _around(pieces: np.ndarray, border: int, margin: int) -> np.ndarray:
    """The pieces that begin within half a margin of a border, far enough from both ends of what was encoded."""
    return pieces[np.abs(pieces[:, 1] - border) < margin // 2]


def _leads(pieces: np.ndarray) -> np.ndarray:
    """Whether each piece begins behind all before it, and thus shares no character with them."""
    ends = np.maximum.accumulate(pieces[:, 2])
    behind = pieces[1:, 1] >= ends[:-1]
    return np.append(True, behind)


def _first_lead(pieces: np.ndarray, border: int) -> int:
    """The first piece at or behind a border that shares no character with those before it; else how many there are."""
    found = np.flatnonzero(_leads(pieces) & (pieces[:, 1] >= border))
    if len(found):
        return int(found[0])
    return len(pieces)


def _bytes_of(text: str) -> np.ndarray:
    """How many bytes each character takes in UTF-8."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    # From these points on, a character takes one byte more.
    longer = np.searchsorted([0x80, 0x800, 0x10000], points, side="right")
    return longer + 1


def _together(parts: list[np.ndarray]) -> np.ndarray:
    if not parts:
        return np.empty(0, np.int32)
    return np.concatenate(parts)
