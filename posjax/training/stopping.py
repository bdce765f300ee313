"""When a training stops before its last step: a value that says so, and its decision from what was measured so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from posjax.fields import AtLeast, check_fields


@dataclass(frozen=True)
class StopDecision:
    """What is decided after some measurements: whether to stop, and where the loss was lowest, `None` before the first.

    `waited`: how many measurements in a row have not been better by now.
    """

    stop: bool
    best_step: int | None
    best_loss: float
    waited: int


@dataclass(frozen=True)
class EarlyStop:
    """Stops a training whose validation loss does not fall any more.

    The loss is measured on the same `windows` windows of the validation text every `every` steps. A measurement counts
    as better where it is more than `least` nats below the best one; the training stops at the `patience`-th in a row
    that is not. Its result is the state of the best step.

    Errors: `InputError` for a number below its least.
    Source: Prechelt 1998, Early Stopping - But When?, section 2.2, criterion UP, counted from the best measurement.

    >>> EarlyStop(patience=2).verdict([(100, 2.0), (200, 1.5), (300, 1.6), (400, 1.5)])
    StopDecision(stop=True, best_step=200, best_loss=1.5, waited=2)
    """

    every: Annotated[int, AtLeast(1)] = 100
    patience: Annotated[int, AtLeast(1)] = 5
    least: Annotated[float, AtLeast(0)] = 0.0
    windows: Annotated[int, AtLeast(1)] = 64

    def __post_init__(self) -> None:
        check_fields(self)

    def measures(self, step: int, steps: int) -> bool:
        """Whether the loss is measured after a step, the first being step 1, of a training of so many."""
        # After the last one too: the end may be better than every step that was measured.
        return step % self.every == 0 or step == steps

    def verdict(self, history: Sequence[tuple[int, float]]) -> StopDecision:
        """What follows from the losses so far, each with its step, in order.

        A function of the history alone, which a training that goes on reads from its lines: so it decides as one that
        was never interrupted. A loss that is not a number is never better.
        """
        best_step = None
        best_loss = math.inf
        waited = 0
        for step, loss in history:
            # Once it has stopped, nothing is measured: lines behind that are of a longer patience, and count no more.
            if waited >= self.patience:
                break
            if loss < best_loss - self.least:
                best_step = step
                best_loss = loss
                waited = 0
            # Not a number, too: of a comparison with it nothing is true.
            else:
                waited += 1
        return StopDecision(waited >= self.patience, best_step, best_loss, waited)
