"""Training: an optimiser, a mesh, a step, a loop, checkpoints."""

from posjax.training.checkpoints import Checkpoints, begun, restore as restored
from posjax.training.loop import Train, about, fit
from posjax.training.mesh import Devices
from posjax.training.optimizer import AdamW
from posjax.training.progress import TrainingProgress
from posjax.training.step import State, Trainer

__all__ = [
    "AdamW",
    "Checkpoints",
    "Devices",
    "State",
    "Train",
    "Trainer",
    "TrainingProgress",
    "about",
    "begun",
    "fit",
    "restored",
]
