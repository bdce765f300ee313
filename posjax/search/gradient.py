"""The search itself: Adam on a divisor for each pair and a temperature, the weights of the model frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
import optax

from posjax.data import Documents, Task
from posjax.data.source import Row
from posjax.encodings import Schedule
from posjax.errors import InputError
from posjax.evaluation import TrainedModel
from posjax.evaluation.answers import answers
from posjax.fields import Above, check_fields
from posjax.models import Architecture
from posjax.search.aim import Aim
from posjax.search.formulas import FORMULAS, formula
from posjax.search.model import Point, differentiable, loss_and_gradient, with_schedule
from posjax.search.rows import On, rows, seed_for


@dataclass(frozen=True)
class CheckedSchedule:
    """Where a search stood: the number of its steps, the loss on the rows that it is checked on, and the schedule."""

    number: int
    loss: float
    schedule: Schedule


@dataclass(frozen=True)
class Found:
    """The best of what was checked, the start among it, which `start` names; and all that was checked, in order."""

    start: str
    checked: tuple[CheckedSchedule, ...]

    @property
    def best(self) -> CheckedSchedule:
        # The first of equals: fewer steps are a smaller change.
        return min(self.checked, key=lambda step: step.loss)

    @property
    def schedule(self) -> Schedule:
        # What a config holds: how it was come by stays in `checked`.
        return self.best.schedule


@dataclass(frozen=True)
class GradientSearch:
    """Finds a rotary schedule for k times the trained length: a divisor for each pair and a temperature, by gradient.

        minimise over divisor_i, t:   the mean loss at length k L,   theta_i = base^(-2i/r) / divisor_i

    The search begins at the best of `starts`, extensions by name, and does `steps` of Adam over batches of `tokens`
    tokens, in logarithms, with a learning rate that falls to 0 along a cosine. The step of pair i is multiplied by
    min(1, 1 / (L theta_i)), so that none turns a pair by more than the rate, in radians, at the trained length. Every
    `check_every` steps the schedule is held, exactly as a config would hold it, to `checks` rows that no step reads,
    and the best one is kept: on these it is never worse than any of the starts. `on` says what the loss is of, see
    `rows`: "text" or "needles", by default the answers of a task and the text of all else. Of a text all rows are from
    its training side.

    Within the trained length what is found is the encoding as it was trained (`short_factor`).

    Errors: `InputError` for numbers out of range.
    Source: LongRoPE, Ding et al. 2024, arXiv:2402.13753, searches by evolution what is searched by gradient here;
    LongRoPE2, Shang et al. 2025, arXiv:2502.20082, for a loss on needles alone.
    """

    steps: int = 60
    learning_rate: Annotated[float, Above(0)] = 0.1
    tokens: int = 8192
    check_every: int = 15
    checks: int = 64
    starts: tuple[str, ...] = ("linear", "ntk", "yarn")
    on: On | None = None

    def __post_init__(self) -> None:
        check_fields(self, positive=("tokens", "check_every", "checks"))
        if self.steps < 0:
            raise InputError(f"GradientSearch got steps={self.steps}: needed is 0, for the best of the starts, or more")
        # By formula alone: near and far forms have no frequencies that could be moved.
        unknown = [name for name in self.starts if name not in FORMULAS]
        if unknown or not self.starts:
            raise InputError(f"GradientSearch got starts={self.starts}: needed are some of {', '.join(FORMULAS)}")

    def check(self, architecture: Architecture, trained: int, multiple: int) -> None:
        """Errors: `InputError` for a model that cannot be searched for at that multiple, before it is read."""
        Aim.of(architecture, trained, multiple)

    def find(
        self,
        trained_model: TrainedModel,
        data: Documents | Task,
        multiple: int,
        seed: int,
        say: Callable[[CheckedSchedule], None] = lambda step: None,
    ) -> Found:
        """The schedule for `multiple` times the trained length; `say` is told of every one that is checked.

        Errors: `InputError` for a model without exactly one rotary encoding, a multiple below 2, and data that have no
        room for rows of that length.
        """
        trained = trained_model.trained_length
        # First, since it costs nothing, and what follows draws rows and compiles.
        aim = Aim.of(trained_model.architecture, trained, multiple)
        # Seeds of their own: a schedule that was fitted to a row would look better on it than it is.
        checked_on = rows(data, aim.length, trained, self.checks, seed_for(seed, "checks"), self.on)
        # As many tokens whatever the length, so that a step costs about the same at each multiple.
        batch = max(self.tokens // aim.length, 1)
        read = rows(data, aim.length, trained, max(self.steps, 1) * batch, seed_for(seed, "steps"), self.on)

        def checked_at(number: int, schedule: Schedule) -> CheckedSchedule:
            # By the exact rotation of the model itself, not by the one that has a gradient.
            losses, _ = answers(trained_model, with_schedule(schedule), checked_on)
            step = CheckedSchedule(number, float(losses.mean()), schedule)
            say(step)
            return step

        started = {name: checked_at(0, formula(name, float(multiple), trained)) for name in self.starts}
        # At 2 times NTK is often the best of them, further out YaRN: the rows tell which it is here.
        start = min(started, key=lambda name: started[name].loss)
        checked = [started[start]]
        for number, point in self._descend(trained_model, aim, started[start].schedule, read):
            checked.append(checked_at(number, aim.schedule(point)))
        return Found(start, tuple(checked))

    def _descend(
        self, trained_model: TrainedModel, aim: Aim, start: Schedule, read: Row
    ) -> Iterator[tuple[int, Point]]:
        """Steps that are to be checked, and where each leads: (how many, the point)."""
        graph, constants, state = differentiable(trained_model, start)
        point: Any = aim.point(start)
        reach = jnp.asarray(aim.reach(start), jnp.float32)
        # Small steps at the end, or the last schedule would be a random one around the best.
        optimizer = optax.adam(optax.cosine_decay_schedule(self.learning_rate, max(self.steps, 1)))
        moments = optimizer.init(point)
        batches = {name: np.split(array, max(self.steps, 1)) for name, array in read.items()}
        for number in range(1, self.steps + 1):
            batch = {name: jnp.asarray(parts[number - 1]) for name, parts in batches.items()}
            _, gradient = loss_and_gradient(graph, state, constants, point, batch)
            updates: Any
            updates, moments = optimizer.update(gradient, moments)
            # Adam's steps are of one size, and a fast pair's would turn far tokens by many turns at once.
            updates["log_divisors"] *= reach
            point = optax.apply_updates(point, updates)
            # The last one is checked however the steps divide: the rate has fallen to almost nothing there.
            if number % self.check_every == 0 or number == self.steps:
                yield number, point
