"""Windows of text: random ones for training, a fixed set within single files for evaluation."""

from __future__ import annotations

import grain
import numpy as np

from posjax.arguments import whole
from posjax.data.documents import Documents, Files
from posjax.data.randomness import rng, whole_seed
from posjax.data.source import Row, endless
from posjax.errors import InputError


def training_windows(documents: Documents, length: int, seed: int) -> grain.MapDataset:
    """Endless random windows of the training documents, by random access.

    The documents are joined, with one separator between neighbours where there is one, and item i is the window of
    `length + 1` tokens that starts at a uniformly random token, a pure function of (seed, i). Items are `{"inputs":
    int32[length], "targets": int32[length], "weights": float32[length]}`, where `targets` are the tokens behind the
    inputs and all weights are 1. Where windows begin with a token of their own, it takes the place of the first input.

    `documents` is the corpus, `length` how many tokens the model reads, `seed` the run's.

    Errors: `InputError` if the length is below 1, a number is no whole one, or the corpus shorter than a window.

    >>> documents = Documents("toy", (b"abc", b"de"), (b"f",), "0")
    >>> item = training_windows(documents, length=5, seed=0)[0]
    >>> item["inputs"].tolist(), item["targets"].tolist()
    ([97, 98, 99, 256, 100], [98, 99, 256, 100, 101])
    """
    length = whole(length, "length", least=1)
    # Now, and not when the first row is read.
    seed = whole_seed(seed)
    read = documents.tokens
    # Once, and not for each row: rows are views of it until they are widened.
    tokens = read.joined
    if tokens is None:
        tokens = _joined(read.train, read.separator)
    starts = len(tokens) - length
    if starts < 1:
        units = f"{documents.unit}s"
        if read.separator is not None:
            units += " and separators"
        raise InputError(
            f"the training text of {documents.name} has {len(tokens):,} {units}, but a window of length "
            f"{length:,} needs {length + 1:,}: shorten the window or add text"
        )

    def row(index: int) -> Row:
        generator = rng(seed, "train-window", index)
        start = int(generator.integers(starts))
        window = tokens[start : start + length + 1]
        inputs = window[:-1].astype(np.int32)
        if read.begin is not None:
            inputs[0] = read.begin
        return {
            "inputs": inputs,
            "targets": window[1:].astype(np.int32),
            "weights": np.ones(length, np.float32),
        }

    return endless(row)


def validation_windows(documents: Documents, length: int, count: int, seed: int) -> np.ndarray:
    """A fixed set of windows, each inside one validation file: int32 `[count, length + 1]`.

    Every token at which a window can start is as likely as any other, so a file counts by its usable starts. No window
    comes twice before all have come once. Window i is a pure function of (seed, i): a smaller count gives a prefix.
    They hold the text as it is; `begun` puts the token in front that windows begin with, where there is one.

    `documents` is the corpus, `length` how many tokens the model reads (a window holds one more, the last target),
    `count` how many windows, `seed` the run's.

    Errors: `InputError` if the length or the count is below 1, a number is no whole one, or no validation file holds a
    window.

    >>> documents = Documents("toy", (b"f",), (b"abc", b"de"), "0")
    >>> sorted(validation_windows(documents, length=1, count=3, seed=0).tolist())
    [[97, 98], [98, 99], [100, 101]]
    """
    return _windows(documents, documents.tokens.validation, length, count, seed)


def target_bytes(documents: Documents, length: int, count: int, seed: int) -> np.ndarray:
    """How many bytes of text each target of `validation_windows` stands for: int32 `[count, length]`.

    The arguments and errors are the same.

    >>> documents = Documents("toy", (b"f",), (b"abc", b"de"), "0")
    >>> target_bytes(documents, length=1, count=3, seed=0).tolist()
    [[1], [1], [1]]
    """
    sizes = documents.tokens.validation_bytes
    if sizes is None:
        # Bytes are their own tokens. Each file takes no room, and is held to the same errors as the text.
        sizes = tuple(np.broadcast_to(np.int32(1), len(file)) for file in documents.tokens.validation)
    # Arrays as long as those of the tokens, so the same windows.
    windows = _windows(documents, sizes, length, count, seed)
    return windows[:, 1:]


def window_files(documents: Documents, length: int, count: int, seed: int) -> np.ndarray:
    """In which validation file each of `validation_windows` lies, by its number: int32 `[count]`.

    The arguments and errors are the same.

    >>> documents = Documents("toy", (b"f",), (b"abc", b"de"), "0")
    >>> sorted(window_files(documents, length=1, count=3, seed=0).tolist())
    [0, 0, 1]
    """
    # A file of its own number everywhere, as long as the file and taking no room.
    numbered = tuple(np.broadcast_to(np.int32(i), len(file)) for i, file in enumerate(documents.tokens.validation))
    return _windows(documents, numbered, length, count, seed)[:, 0]


def begun(documents: Documents, windows: np.ndarray) -> np.ndarray:
    """Windows `[count, length + 1]`, their first token replaced by the one that windows begin with, if there is one."""
    begin = documents.tokens.begin
    if begin is None:
        return windows
    changed = windows.copy()
    changed[:, 0] = begin
    return changed


def _windows(documents: Documents, of_files: Files, length: int, count: int, seed: int) -> np.ndarray:
    """The windows of validation, cut out of arrays that are as long as its files."""
    length = whole(length, "length", least=1)
    count = whole(count, "count", least=1)
    files = [file for file in of_files if len(file) > length]
    if not files:
        raise InputError(
            f"the longest validation file of {documents.name} has {max(map(len, of_files), default=0):,} "
            f"{documents.unit}s, but a window of length {length:,} needs {length + 1:,}: shorten the longest context "
            "or add longer files"
        )
    # All tokens at which a window can start, counted through: `ends` says up to which of them each file reaches.
    starts_of_files = [len(file) - length for file in files]
    ends = np.cumsum(starts_of_files)
    windows = np.empty((count, length + 1), np.int32)
    starts = _distinct(int(ends[-1]), count, seed)
    for window, start in zip(windows, starts, strict=True):
        file = int(np.searchsorted(ends, start, side="right"))
        offset = int(start)
        if file > 0:
            offset -= int(ends[file - 1])
        content = files[file]
        window[:] = content[offset : offset + length + 1]
    return windows


def _distinct(total: int, count: int, seed: int) -> np.ndarray:
    """`count` numbers below `total` in a random order, repeating only after all have come."""
    # Grain takes a seed of 32 bits, while a run's may be any number.
    generator = rng(seed, "validation-window")
    shuffle_seed = int(generator.integers(2**32))
    # Random access, so that a few windows of a large text need no permutation of all of it.
    order = grain.MapDataset.range(total).shuffle(seed=shuffle_seed)
    chosen = [order[index] for index in range(count)]
    return np.array(chosen, np.int64)


def _joined(files: Files, separator: int | None) -> np.ndarray:
    """The files as one array, a separator between neighbours where there is one."""
    if separator is None:
        return np.concatenate([file[:] for file in files])
    separators = max(len(files) - 1, 0)
    size = sum(map(len, files)) + separators
    # Separators everywhere, and then the files over them; two bytes a token where that is enough.
    width = np.promote_types(np.min_scalar_type(separator), np.uint16)
    tokens = np.full(size, separator, width)
    start = 0
    for file in files:
        end = start + len(file)
        tokens[start:end] = file[:]
        start = end + 1
    return tokens
