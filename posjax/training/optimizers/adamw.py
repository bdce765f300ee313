"""AdamW, built by optax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import optax

from posjax.fields import AtLeast, moved
from posjax.training.optimizers.base import Optimizer
from posjax.training.optimizers.matrices import decaying


@moved(warmup="schedule=Cosine(warmup=...)", final="schedule=Cosine(final=...)")
@dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW: each step goes by the mean of the gradients over the root of the mean of their squares, averaged over
    about 1 / (1 - `b1`) and 1 / (1 - `b2`) steps. Matrices alone decay, by `weight_decay` times the learning rate.

    Errors: `InputError` for moments' shares outside [0, 1), a negative decay, or as `Optimizer`.
    Source: Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2; `b2` and the decay are those of Brown et al.
    2020, arXiv:2005.14165, appendix B.

    >>> AdamW(learning_rate=1e-3).schedule
    Cosine(warmup=0.05, final=0.1)
    """

    b1: float = 0.9
    b2: float = 0.95
    weight_decay: Annotated[float, AtLeast(0, hint=", about 0.1")] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_moments("b1", "b2")

    def transform(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(rate, b1=self.b1, b2=self.b2, weight_decay=self.weight_decay, mask=decaying)
