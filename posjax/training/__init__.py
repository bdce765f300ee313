"""Training: an optimiser, a mesh, a step, a loop, checkpoints."""

from posjax.mesh import Table
from posjax.training.checkpoints import Checkpoints, begun, restore as restored
from posjax.training.loop import fit
from posjax.training.mesh import Devices, Places
from posjax.training.objectives import CausalLM, Classification, MaskedLM, Objective, SeqToSeq
from posjax.training.optimizer import AdamW
from posjax.training.plan import Train, about
from posjax.training.progress import TrainingProgress
from posjax.training.step import State, Trainer

__all__ = [
    "AdamW",
    "CausalLM",
    "Checkpoints",
    "Classification",
    "Devices",
    "MaskedLM",
    "Objective",
    "Places",
    "SeqToSeq",
    "State",
    "Table",
    "Train",
    "Trainer",
    "TrainingProgress",
    "about",
    "begun",
    "fit",
    "restored",
]
