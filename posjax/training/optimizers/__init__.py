"""Optimisers as values, all of them built by optax."""

from posjax.training.optimizers.adafactor import Adafactor
from posjax.training.optimizers.adamw import AdamW
from posjax.training.optimizers.base import Optimizer
from posjax.training.optimizers.lion import Lion
from posjax.training.optimizers.matrices import norm
from posjax.training.optimizers.muon import Muon

__all__ = ["Adafactor", "AdamW", "Lion", "Muon", "Optimizer", "norm"]
