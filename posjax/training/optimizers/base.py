"""The contract of an optimiser: a value that makes a transformation of optax for a run of so many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import optax

from posjax.errors import InputError
from posjax.fields import Above, check_fields
from posjax.training.optimizers import matrices
from posjax.training.schedules import WSD, Constant, Cosine, LearningRateSchedule, Linear

LearningRate = Annotated[float, Above(0)]


@dataclass(frozen=True)
class Optimizer:
    """How parameters follow their gradients. `learning_rate` is the peak of `schedule`; gradients are clipped to a
    global norm of `clip`, and a large one switches that off.

    An optimiser of your own is a frozen dataclass with a method `transform`. State that has a parameter's path and
    shape lies on a mesh as the parameter does.

    Errors: `InputError` for a learning rate or a norm that is not positive.
    """

    learning_rate: LearningRate = 3e-3
    """The peak."""
    schedule: Constant | Cosine | Linear | WSD | LearningRateSchedule = Cosine()  # noqa: RUF009
    """How the learning rate runs over the steps: Constant, Cosine, Linear or WSD."""
    clip: Annotated[float, Above(0, "; a large norm switches it off")] = 1.0
    """The largest norm that all gradients may have together."""

    def __post_init__(self) -> None:
        check_fields(self)

    def transform(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """The optax transformation at a learning rate by step."""
        raise NotImplementedError

    def rate(self, steps: int) -> optax.Schedule:
        """The learning rate by step, the first being step 0."""
        return self.schedule.build(self.learning_rate, steps)

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optax transformation for a run of that many steps, its gradients clipped."""
        # Clipped before the moments see it: one wild gradient would stay in them for many steps.
        return optax.chain(matrices.clip(self.clip), self.transform(self.rate(steps)))

    def require_moments(self, *names: str) -> None:
        """Errors: `InputError` for a field of these that is no moment's share."""
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"{type(self).__name__} got {name}={getattr(self, name)}: needed is a share in [0, 1), near 1"
                )
