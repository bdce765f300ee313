"""Training: an optimiser, a mesh, a step, a loop, checkpoints."""

from posjax.mesh import Table
from posjax.training.carrying import Carried, carried, carry
from posjax.training.checkpoints import Checkpoints, begun, restore as restored
from posjax.training.checks import Check
from posjax.training.loop import Given, fit
from posjax.training.mesh import Devices, Places
from posjax.training.objectives import CausalLM, Classification, MaskedLM, Objective, SeqToSeq
from posjax.training.optimizers import Adafactor, AdamW, Lion, Muon, Optimizer
from posjax.training.plan import Train, about
from posjax.training.progress import TrainingProgress
from posjax.training.schedules import WSD, Constant, Cosine, LearningRateSchedule, Linear
from posjax.training.step import State, Trainer
from posjax.training.stopping import EarlyStop
from posjax.training.validating import Validation

__all__ = [
    "WSD",
    "Adafactor",
    "AdamW",
    "Carried",
    "CausalLM",
    "Check",
    "Checkpoints",
    "Classification",
    "Constant",
    "Cosine",
    "Devices",
    "EarlyStop",
    "Given",
    "LearningRateSchedule",
    "Linear",
    "Lion",
    "MaskedLM",
    "Muon",
    "Objective",
    "Optimizer",
    "Places",
    "SeqToSeq",
    "State",
    "Table",
    "Train",
    "Trainer",
    "TrainingProgress",
    "Validation",
    "about",
    "begun",
    "carried",
    "carry",
    "fit",
    "restored",
]
