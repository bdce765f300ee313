"""From a function of an index to a Grain dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import grain
import numpy as np

Row = dict[str, np.ndarray]
Form = Literal["tokens", "pairs", "classes"]
"""What rows have: `inputs`, `targets` and `weights`; `source` and `real` beside them; or `inputs` and `classes`."""

# Grain needs a length: more rows than any run reads (at a million a second, twelve days).
ENDLESS = 2**40


@dataclass(frozen=True, eq=False)
class RowSource:
    """Random access to endlessly many rows, row i being `row(i)`."""

    row: Callable[[int], Row]

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Row:
        return self.row(index)


def endless(row: Callable[[int], Row]) -> grain.MapDataset:
    """A Grain dataset whose item i is `row(i)`, for a pure function `row`.

    >>> endless(lambda i: {"inputs": np.full(2, i)})[41]["inputs"].tolist()
    [41, 41]
    """
    return grain.MapDataset.source(RowSource(row))


def stacked(items: Sequence[Row]) -> Row:
    """Rows with the same keys and shapes as one, an axis of rows in front."""
    together = {}
    for name in items[0]:
        arrays = [item[name] for item in items]
        together[name] = np.stack(arrays)
    return together


def target_row(tokens: np.ndarray, begin: int, end: int, length: int) -> Row:
    """What a decoder reads and foretells of a target: `begin` in front of it, and `end` behind it."""
    count = len(tokens)
    row: Row = {"inputs": np.zeros(length, np.int32), "targets": np.zeros(length, np.int32)}
    row["inputs"][0] = begin
    row["inputs"][1 : count + 1] = tokens
    row["targets"][:count] = tokens
    # Where a target ends is foretold too, or nothing would stop a decoder.
    row["targets"][count] = end
    row["weights"] = (np.arange(length) <= count).astype(np.float32)
    return row
