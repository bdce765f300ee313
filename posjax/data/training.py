"""The rows that a text is trained on, whatever it is made of."""

from __future__ import annotations

import grain

from posjax.data.corpus import StandardLibrary, Text
from posjax.data.documents import Documents
from posjax.data.examples import ExampleRows
from posjax.data.labelled import Labelled
from posjax.data.mixture import MixedDocuments, Mixture, mixed
from posjax.data.origins import Origins
from posjax.data.packing import Packed, packed_rows
from posjax.data.pairs import TextPairs
from posjax.data.prepared import StoredText
from posjax.data.source import Form
from posjax.data.task import Task
from posjax.data.windows import training_windows

TextData = StandardLibrary | Text | StoredText | Packed | Mixture
"""What has `vocabulary`, `reader()` and `load()`, whose documents are trained and measured on."""

ExampleData = TextPairs | Labelled | Origins
"""What has the same, and is read to rows of its own."""
TrainingData = TextData | ExampleData | Task
"""What a run reads."""
Loaded = Documents | ExampleRows
"""What `load()` gives: it has `fingerprint` and `describe()`."""


def form_of(data: TrainingData) -> Form:
    """What the rows of some data hold.

    >>> form_of(StandardLibrary()), form_of(Origins())
    ('tokens', 'classes')
    """
    # A text has windows, which hold no more than tokens.
    if isinstance(data, TextData):
        return "tokens"
    return data.form


def training_rows(documents: Loaded, length: int, seed: int) -> grain.MapDataset:
    """Endless rows of a corpus: its windows, or its packed files, or those of its parts in their shares; or examples.

    Errors: `InputError` as `training_windows` and `packed_rows`.

    >>> documents = Documents("toy", (b"abc", b"de"), (b"f",), "0", packed=True)
    >>> sorted(training_rows(documents, length=8, seed=0)[0])
    ['inputs', 'positions', 'segments', 'targets', 'weights']
    """
    if isinstance(documents, ExampleRows):
        return documents.rows(length, seed)
    if isinstance(documents, MixedDocuments):
        # The same seed for each, so that a part's rows are those of the part alone.
        parts = [training_rows(part, length, seed) for part in documents.parts]
        return mixed(parts, documents.weights, seed)
    if documents.packed:
        return packed_rows(documents, length, seed)
    return training_windows(documents, length, seed)
