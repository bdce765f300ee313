"""The learning rate over a run as a value: a shape, which a peak and a number of steps make a schedule of optax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import optax

from posjax.errors import InputError
from posjax.fields import check_fields


@dataclass(frozen=True)
class LearningRateSchedule:
    """The shape of a learning rate. Over the first `warmup` share of the steps, w of them, it rises linearly: from 1/w
    of its peak at the first step, which moves already, to the peak. What follows is what the subclasses differ in.

    A schedule of your own is a frozen dataclass with a method `build`.

    Errors: `InputError` for a share outside [0, 1].
    """

    warmup: float = 0.05

    def __post_init__(self) -> None:
        check_fields(self)
        self.require_shares("warmup")

    def require_shares(self, *names: str) -> None:
        """Errors: `InputError` for a field of these that is no share."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{type(self).__name__} got {name}={getattr(self, name)}: needed is a share in [0, 1]")

    def build(self, peak: float, steps: int) -> optax.Schedule:
        """The learning rate by step, the first being step 0, for a run of that many steps."""
        raise NotImplementedError

    def warm_steps(self, steps: int) -> int:
        """How many steps the warm-up takes: one at least, which is at the peak already."""
        return max(1, round(self.warmup * steps))


@dataclass(frozen=True)
class Constant(LearningRateSchedule):
    """After the warm-up, the peak.

    >>> [float(Constant(warmup=0.5).build(1.0, 4)(step)) for step in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """

    def build(self, peak: float, steps: int) -> optax.Schedule:
        return _counted(optax.linear_schedule(0.0, peak, self.warm_steps(steps)))


@dataclass(frozen=True)
class Cosine(LearningRateSchedule):
    """After the warm-up, along half a cosine to `final` times the peak at the last step.

    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, equation 5 without restarts; the floor of a tenth is that of
    Hoffmann et al. 2022, arXiv:2203.15556, appendix B.

    >>> [round(float(Cosine(warmup=0.25, final=0.5).build(1.0, 4)(step)), 3) for step in range(4)]
    [1.0, 0.875, 0.625, 0.5]
    """

    final: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_shares("final")

    def build(self, peak: float, steps: int) -> optax.Schedule:
        warmup = self.warm_steps(steps)
        # optax refuses a decay of no steps, which is all that a run of one step has left.
        end = max(steps, warmup + 1)
        return _counted(optax.warmup_cosine_decay_schedule(0.0, peak, warmup, end, self.final * peak))


@dataclass(frozen=True)
class Linear(LearningRateSchedule):
    """After the warm-up, along a line to `final` times the peak at the last step.

    At `final=0` the last step does not move. Source: Devlin et al. 2018, arXiv:1810.04805, appendix A.2.

    >>> [round(float(Linear(warmup=0.25, final=0.4).build(1.0, 4)(step)), 3) for step in range(4)]
    [1.0, 0.8, 0.6, 0.4]
    """

    final: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_shares("final")

    def build(self, peak: float, steps: int) -> optax.Schedule:
        warmup = self.warm_steps(steps)
        # A line of no steps would divide by zero where the warm-up is all of the run.
        down = optax.linear_schedule(peak, self.final * peak, max(steps - warmup, 1))
        return _counted(_then(peak, warmup, down, warmup))


@dataclass(frozen=True)
class WSD(LearningRateSchedule):
    """Warm-up, stable, decay: after the warm-up the peak, and over the last `decay` share of the steps down to `final`
    times the peak at the last step, with t from 0 to 1:

        linear: 1 - t        cosine: (1 + cos(pi t)) / 2        sqrt: 1 - sqrt(t)

    How long a run will be need not be known before it decays. At `final=0` the last step does not move.

    Errors: `InputError` for a warm-up and a decay that are more than the whole together.
    Source: Hu et al. 2024, arXiv:2404.06395, section 4; the shape `sqrt` and a fifth of the steps are those of
    Hägele et al. 2024, arXiv:2405.18392, section 4.

    >>> [round(float(WSD(warmup=0.2, decay=0.4, final=0.5).build(1.0, 5)(step)), 3) for step in range(5)]
    [1.0, 1.0, 1.0, 0.646, 0.5]
    """

    decay: float = 0.2
    final: float = 0.1
    shape: Literal["linear", "cosine", "sqrt"] = "sqrt"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_shares("decay", "final")
        if self.warmup + self.decay > 1:
            raise InputError(
                f"WSD got warmup={self.warmup} and decay={self.decay}: needed are shares of at most 1 together"
            )

    def build(self, peak: float, steps: int) -> optax.Schedule:
        warmup = self.warm_steps(steps)
        # As many as are left, where rounding gave the warm-up the half of a step that both would have.
        decay = min(round(self.decay * steps), steps - warmup)
        # Too short a run to have one: its peak is then its end.
        if decay < 1:
            return Constant(self.warmup).build(peak, steps)
        return _counted(_then(peak, warmup, self._down(peak, decay), steps - decay))

    def _down(self, peak: float, steps: int) -> optax.Schedule:
        """From the peak to the end, in steps since the decay began."""
        last = self.final * peak
        if self.shape == "linear":
            return optax.linear_schedule(peak, last, steps)
        if self.shape == "cosine":
            return optax.cosine_decay_schedule(peak, steps, self.final)
        # optax has no root: it counts the way, and stops at its end, where a root of more would go on.
        share = optax.linear_schedule(0.0, 1.0, steps)
        return lambda step: peak - (peak - last) * jnp.sqrt(share(step))


def _then(peak: float, warmup: int, down: optax.Schedule, begin: int) -> optax.Schedule:
    """Up to the peak, and from `begin` on down."""
    up = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([up, down], [begin])


def _counted(after: optax.Schedule) -> optax.Schedule:
    """By how many steps have ended after it: optax's own count would waste the first step on a rate of 0."""
    return lambda step: after(step + 1)
