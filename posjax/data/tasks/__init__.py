"""Tasks by their kinds: length generalisation, RULER's synthetic ones, recall and state."""

from posjax.data.tasks.arithmetic import Addition, ModularArithmetic, Parity
from posjax.data.tasks.flip_flop import FlipFlop
from posjax.data.tasks.frequencies import CommonWords, FrequentWords
from posjax.data.tasks.indirect_indexing import IndirectIndexing
from posjax.data.tasks.multi_needles import MultiNeedles
from posjax.data.tasks.noticing import Majority, MissingDuplicate
from posjax.data.tasks.rearranging import Copy, OddsFirst, Reverse, Sort
from posjax.data.tasks.recall import AssociativeRecall, InductionAtDistance
from posjax.data.tasks.variables import VariableTracking

__all__ = [
    "Addition",
    "AssociativeRecall",
    "CommonWords",
    "Copy",
    "FlipFlop",
    "FrequentWords",
    "IndirectIndexing",
    "InductionAtDistance",
    "Majority",
    "MissingDuplicate",
    "ModularArithmetic",
    "MultiNeedles",
    "OddsFirst",
    "Parity",
    "Reverse",
    "Sort",
    "VariableTracking",
]
