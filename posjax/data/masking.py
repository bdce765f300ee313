"""Masked tokens to be foretold, from any rows of text."""

from __future__ import annotations

import grain
import numpy as np

from posjax.arguments import whole
from posjax.data.randomness import rng, whole_seed
from posjax.data.source import Row
from posjax.errors import InputError

MASKED, SWAPPED = 0.8, 0.1
"""Of the chosen tokens: how many are masked, how many are another token, and the rest stay (BERT, section 3.1)."""


def masked(rows: grain.MapDataset, share: float, mask_token: int, vocabulary: int, seed: int) -> grain.MapDataset:
    """Rows whose chosen tokens are to be foretold where they stand, by a model that looks both ways.

    Of the tokens of a row that are no padding, the nearest whole number to their `share` is chosen, at least one. Of
    the chosen, each by itself, 80 % are read as `mask_token`, 10 % as a random token below `vocabulary`, and 10 % as
    they are, so that a model cannot trust what it reads. In the rows that come back, `targets` are the inputs as they
    were, `weights` are 1 at the chosen and 0 elsewhere, and all else is as before. Row i is a pure function of row i
    and (seed, i).

    `rows` have `inputs`, and `segments` 0 or `positions` -1 where there is padding.

    Errors: `InputError` if the share lies outside (0, 1], another number is no whole one or below 0, or a
    row is all padding.

    >>> windows = grain.MapDataset.range(9).map(lambda i: {"inputs": np.arange(8, dtype=np.int32)})
    >>> row = masked(windows, share=0.25, mask_token=9, vocabulary=8, seed=0)[0]
    >>> row["inputs"].tolist(), row["weights"].astype(int).tolist()
    ([0, 1, 2, 3, 4, 9, 3, 7], [0, 0, 0, 0, 0, 1, 1, 0])

    Source: BERT (arXiv:1810.04805), section 3.1.
    """
    known = np.asarray(share)
    is_number = known.shape == () and known.dtype.kind in "fiu"
    if not is_number or not 0 < known <= 1:
        raise InputError(f"share is {share!r}, but it is the part of a row to foretell: give more than 0, up to 1")
    mask_token = whole(mask_token, "mask_token")
    vocabulary = whole(vocabulary, "vocabulary", least=1)
    seed = whole_seed(seed)

    def row(index: int, given: Row) -> Row:
        tokens = given["inputs"]
        real = np.flatnonzero(_is_real(given))
        if not len(real):
            raise InputError(f"row {index} is all padding, and has no token to mask: leave such rows out")
        # By the row's number: each time a text comes again, other tokens are masked.
        generator = rng(seed, "mask", index)
        # Exactly as many in every row, so that no row counts more than another.
        count = max(1, round(share * len(real)))
        chosen = generator.choice(real, count, replace=False)
        lots = generator.random(count)
        # The row that came may be kept by whoever made it.
        inputs = tokens.copy()
        inputs[chosen[lots < MASKED]] = mask_token
        swapped = chosen[lots >= 1 - SWAPPED]
        inputs[swapped] = generator.integers(vocabulary, size=len(swapped))
        weights = np.zeros(len(tokens), np.float32)
        weights[chosen] = 1
        return given | {"inputs": inputs, "targets": tokens, "weights": weights}

    return rows.map_with_index(row)


def _is_real(row: Row) -> np.ndarray:
    # Either says it alone, and rows may have both.
    real = np.ones(len(row["inputs"]), bool)
    if "segments" in row:
        real &= row["segments"] > 0
    if "positions" in row:
        real &= row["positions"] >= 0
    return real
