"""Text and tasks as rows of tokens, each row a pure function of (seed, purpose, index)."""

from posjax.data.batches import Batches
from posjax.data.corpus import StandardLibrary, Text
from posjax.data.documents import SEPARATOR, Documents, DocumentTokens
from posjax.data.examples import ExampleRows, Examples
from posjax.data.labelled import Labelled
from posjax.data.masking import masked
from posjax.data.mixture import Mixture, mixed
from posjax.data.needles import Needles
from posjax.data.origins import Origins
from posjax.data.packing import Packed, packed_rows
from posjax.data.pairs import TextPairs
from posjax.data.prepared import StoredDocuments, StoredText
from posjax.data.preparing import prepare
from posjax.data.reversal import Reversal
from posjax.data.source import Form
from posjax.data.task import DepthTask, Task
from posjax.data.tasks import (
    Addition,
    AssociativeRecall,
    CommonWords,
    Copy,
    FlipFlop,
    FrequentWords,
    IndirectIndexing,
    InductionAtDistance,
    Majority,
    MissingDuplicate,
    ModularArithmetic,
    MultiNeedles,
    OddsFirst,
    Parity,
    Reverse,
    Sort,
    VariableTracking,
)
from posjax.data.tokenizer import Tokenizer, read_tokenizer
from posjax.data.training import ExampleData, Loaded, TextData, TrainingData, form_of, training_rows
from posjax.data.windows import begun, target_bytes, training_windows, validation_windows, window_files

__all__ = [
    "SEPARATOR",
    "Addition",
    "AssociativeRecall",
    "Batches",
    "CommonWords",
    "Copy",
    "DepthTask",
    "DocumentTokens",
    "Documents",
    "ExampleData",
    "ExampleRows",
    "Examples",
    "FlipFlop",
    "Form",
    "FrequentWords",
    "IndirectIndexing",
    "InductionAtDistance",
    "Labelled",
    "Loaded",
    "Majority",
    "MissingDuplicate",
    "Mixture",
    "ModularArithmetic",
    "MultiNeedles",
    "Needles",
    "OddsFirst",
    "Origins",
    "Packed",
    "Parity",
    "Reversal",
    "Reverse",
    "Sort",
    "StandardLibrary",
    "StoredDocuments",
    "StoredText",
    "Task",
    "Text",
    "TextData",
    "TextPairs",
    "Tokenizer",
    "TrainingData",
    "VariableTracking",
    "begun",
    "form_of",
    "masked",
    "mixed",
    "packed_rows",
    "prepare",
    "read_tokenizer",
    "target_bytes",
    "training_rows",
    "training_windows",
    "validation_windows",
    "window_files",
]
