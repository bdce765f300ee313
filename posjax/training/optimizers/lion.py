"""Lion, built by optax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import optax

from posjax.fields import AtLeast
from posjax.training.optimizers.base import LearningRate, Optimizer
from posjax.training.optimizers.matrices import decaying


@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion: each step is as long as the learning rate in every number, and goes by the sign of the mean of the
    gradients, averaged by `b1` with the one of now, while `b2` is what the mean itself keeps. It has one moment where
    AdamW has two. Matrices alone decay, by `weight_decay` times the learning rate.

    Its learning rate is 3 to 10 times smaller than AdamW's and its decay as much larger: the defaults take 10.

    Errors: `InputError` for moments' shares outside [0, 1), a negative decay, or as `Optimizer`.
    Source: Chen et al. 2023, arXiv:2302.06675, program 1 and section 5.
    """

    learning_rate: LearningRate = 3e-4
    b1: float = 0.9
    b2: float = 0.99
    weight_decay: Annotated[float, AtLeast(0, hint=", about 1.0")] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_moments("b1", "b2")

    def transform(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.lion(rate, b1=self.b1, b2=self.b2, weight_decay=self.weight_decay, mask=decaying)
