"""Rows of several texts, in exact shares."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import grain

from posjax.data.corpus import StandardLibrary, Text
from posjax.data.documents import Documents, DocumentTokens, Files
from posjax.data.packing import Packed
from posjax.data.prepared import StoredText
from posjax.data.randomness import rng
from posjax.data.source import Row, endless
from posjax.data.tokenizer import Tokenizer
from posjax.errors import InputError
from posjax.fields import check_fields


@dataclass(frozen=True)
class Mixture:
    """Several texts that are trained on together, each a share of the rows.

    `parts`: (text, weight) of each; weights are any positive numbers, and a part's share is its weight of their sum.
    Row j of a part is what the part alone gives as its row j; see `mixed` for the order. It is measured on the
    validation files of all parts together, however they are weighted.

    Errors: `InputError` for fewer than two parts or a weight that is not positive; by `load` and `vocabulary`, where
    parts are not read in the same tokens, and by `load` where some are packed and some are not.

    >>> mixture = Mixture(parts=((StandardLibrary(), 3.0), (StandardLibrary(validation_share=0.5), 1.0)))
    >>> mixture.vocabulary
    257
    """

    parts: tuple[tuple[StandardLibrary | Text | StoredText | Packed, float], ...]

    def __post_init__(self):
        check_fields(self)
        if len(self.parts) < 2:
            raise InputError(f"Mixture got {len(self.parts)} parts: needed are two or more, or the one without Mixture")
        _check_weights([weight for _, weight in self.parts])

    @property
    def vocabulary(self) -> int:
        """That of all parts."""
        # Before any text is read, which may take a minute.
        sizes = [data.vocabulary for data, _ in self.parts]
        for number, size in enumerate(sizes):
            if size != sizes[0]:
                raise _differ(self.parts, number, f"{sizes[0]:,} tokens", f"{size:,} tokens")
        return sizes[0]

    def reader(self) -> Tokenizer | None:
        """The tokenizer of all parts; `None` where bytes are read."""
        first, _ = self.parts[0]
        return first.reader()

    def load(self) -> MixedDocuments:
        """All parts."""
        loaded = [data.load() for data, _ in self.parts]
        for number, documents in enumerate(loaded):
            self._check_tokens(number, loaded[0], documents)
        weights = tuple(weight for _, weight in self.parts)
        told = [f"{documents.fingerprint} {weight!r}" for documents, weight in zip(loaded, weights, strict=True)]
        # With the weights: other shares train another model.
        digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
        # Of one kind, as was just held: the first one's separator and size are those of all.
        together = [documents.tokens for documents in loaded]
        tokens = replace(
            together[0],
            train=_chained([part.train for part in together]),
            validation=_chained([part.validation for part in together]),
            validation_bytes=_chained_bytes(together),
            # Each part's own rows are cut from its own stream.
            joined=None,
        )
        encoded = None
        if loaded[0].encoded is not None:
            encoded = tokens
        return MixedDocuments(
            " + ".join(documents.name for documents in loaded),
            train=(),
            validation=(),
            fingerprint=f"mixture+{digest}{_of_tokenizer(loaded[0])}",
            encoded=encoded,
            tokenizer=loaded[0].tokenizer,
            parts=tuple(loaded),
            weights=weights,
            together=tokens,
        )

    def _check_tokens(self, number: int, first: Documents, other: Documents) -> None:
        """Errors: `InputError` where a part's rows are of another kind than the first's."""
        here, there = first.tokens, other.tokens
        if here.vocabulary != there.vocabulary:
            raise _differ(self.parts, number, f"{here.vocabulary:,} tokens", f"{there.vocabulary:,} tokens")
        # As many tokens may still be others.
        if (_of_tokenizer(first), here.begin) != (_of_tokenizer(other), there.begin):
            raise _differ(self.parts, number, "one tokenizer", "another one")
        # Rows of one batch need the same arrays.
        if first.packed != other.packed:
            raise _differ(self.parts, number, _kind(first), _kind(other))


@dataclass(frozen=True, eq=False)
class MixedDocuments(Documents):
    """Several corpora with their weights, and their tokens `together`."""

    parts: tuple[Documents, ...] = field(kw_only=True)
    weights: tuple[float, ...] = field(kw_only=True)
    together: DocumentTokens = field(kw_only=True)

    @property
    def tokens(self) -> DocumentTokens:
        return self.together

    def describe(self) -> dict[str, str | int]:
        described = [part.describe() for part in self.parts]
        together = described[0] | {"name": self.name, "fingerprint": self.fingerprint}
        for name in together:
            # Sizes add up, where the tokenizer and its vocabulary are one.
            if name.startswith(("train_", "validation_")):
                together[name] = sum(int(part[name]) for part in described)
        return together


def mixed(parts: Sequence[grain.MapDataset], weights: Sequence[float], seed: int) -> grain.MapDataset:
    """Endless rows of several datasets in exact shares, each one's own rows in their order, by random access.

    Of any number of first rows, each dataset has its share to within as many rows as there are datasets, so that every
    batch is mixed. Which dataset row i is of, and which row of it, is a pure function of (seed, i) and the weights.

    Errors: `InputError` where there are not as many weights as parts, or one is not positive.

    >>> ones, twos = (grain.MapDataset.range(100).map(lambda i, part=part: {"at": (part, i)}) for part in "ab")
    >>> rows = mixed([ones, twos], weights=[3.0, 1.0], seed=0)
    >>> [rows[i]["at"] for i in range(5)]
    [('a', 0), ('b', 0), ('a', 1), ('a', 2), ('a', 3)]
    """
    if len(parts) != len(weights):
        raise InputError(f"{len(parts)} parts have {len(weights)} weights: give one for each")
    _check_weights(weights)
    # Random access to each part: a row that was drawn before is not gone through again.
    schedule = MixtureSchedule.of(weights, seed)

    def row(index: int) -> Row:
        part, place = schedule.place(index)
        chosen = parts[part][place]
        assert chosen is not None
        return chosen

    return endless(row)


@dataclass(frozen=True)
class MixtureSchedule:
    """Which part each row is of: the first takes its share of all rows, the second its share of the rest, and so on.

    Of n rows a share s takes floor(n s + offset), which is at most one more for each row more, is counted without
    going through them, and is never a row away from n s. Shares are exact fractions: no rounding adds up.
    """

    shares: tuple[Fraction, ...]
    offsets: tuple[Fraction, ...]

    @classmethod
    def of(cls, weights: Sequence[float], seed: int) -> MixtureSchedule:
        exact = [Fraction(weight) for weight in weights]
        # The last part takes all that is left.
        shares = [exact[part] / sum(exact[part:]) for part in range(len(exact))]
        # Else every mixture would begin with the same part, whatever the seed.
        drawn = [rng(seed, "mixture", part).integers(2**32) for part in range(len(exact))]
        return cls(tuple(shares), tuple(Fraction(int(number), 2**32) for number in drawn))

    def place(self, index: int) -> tuple[int, int]:
        """The part that row `index` is of, and which of its own rows it is."""
        rest = index
        for part, (share, offset) in enumerate(zip(self.shares, self.offsets, strict=True)):
            before = math.floor(rest * share + offset)
            after = math.floor((rest + 1) * share + offset)
            # Always so at the last part, whose share of what is left is 1.
            if after > before:
                return part, before
            rest -= before
        raise AssertionError("shares end with 1")


def _check_weights(weights: Sequence[float]) -> None:
    for weight in weights:
        if weight <= 0:
            raise InputError(f"a part of a mixture has the weight {weight}: needed is a positive number; leave it out")


def _of_tokenizer(documents: Documents) -> str:
    """What a tokenizer adds to the fingerprint of a text; nothing where bytes are read."""
    _, hyphen, added = documents.fingerprint.rpartition("-")
    if not hyphen:
        return ""
    return f"-{added}"


def _kind(documents: Documents) -> str:
    if documents.packed:
        return "packed rows"
    return "windows"


def _differ(parts: Sequence[tuple[object, float]], number: int, first: str, other: str) -> InputError:
    """What parts that cannot be mixed are told as."""
    one, another = parts[0][0], parts[number][0]
    return InputError(
        f"a mixture's parts are of one kind, but {one} has {first} and {another} {other}: change one of them"
    )


def _chained(of_parts: Sequence[Files]) -> Files:
    return tuple(itertools.chain.from_iterable(of_parts))


def _chained_bytes(parts: Sequence[DocumentTokens]) -> Files | None:
    of_parts = [part.validation_bytes for part in parts if part.validation_bytes is not None]
    # Of one byte each, where no part says more: they are of one tokenizer.
    if not of_parts:
        return None
    return _chained(of_parts)
