"""Text and tasks as rows of tokens, each row a pure function of (seed, purpose, index)."""

from posjax.data.batches import Batches
from posjax.data.corpus import SEPARATOR, Documents, StandardLibrary, Text
from posjax.data.needles import Needles
from posjax.data.windows import training_windows, validation_windows

__all__ = [
    "SEPARATOR",
    "Batches",
    "Documents",
    "Needles",
    "StandardLibrary",
    "Text",
    "training_windows",
    "validation_windows",
]
