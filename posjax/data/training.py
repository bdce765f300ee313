"""The rows that a text is trained on, whatever it is made of."""

from __future__ import annotations

import grain

from posjax.data.corpus import StandardLibrary, Text
from posjax.data.documents import Documents
from posjax.data.mixture import MixedDocuments, Mixture, mixed
from posjax.data.packing import Packed, packed_rows
from posjax.data.prepared import StoredText
from posjax.data.windows import training_windows

TextData = StandardLibrary | Text | StoredText | Packed | Mixture
"""What has `vocabulary`, `reader()` and `load()`, whose documents are trained and measured on."""


def training_rows(documents: Documents, length: int, seed: int) -> grain.MapDataset:
    """Endless rows of a corpus: its windows, or its packed files, or those of its parts in their shares.

    Errors: `InputError` as `training_windows` and `packed_rows`.

    >>> documents = Documents("toy", (b"abc", b"de"), (b"f",), "0", packed=True)
    >>> sorted(training_rows(documents, length=8, seed=0)[0])
    ['inputs', 'positions', 'segments', 'targets', 'weights']
    """
    if isinstance(documents, MixedDocuments):
        # The same seed for each, so that a part's rows are those of the part alone.
        parts = [training_rows(part, length, seed) for part in documents.parts]
        return mixed(parts, documents.weights, seed)
    if documents.packed:
        return packed_rows(documents, length, seed)
    return training_windows(documents, length, seed)
