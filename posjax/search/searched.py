"""How schedules that are found by gradient compare with those that are given by a formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from posjax.data import Documents, Task, validation_windows
from posjax.data.source import Row
from posjax.encodings import Encoding, Schedule
from posjax.errors import InputError
from posjax.evaluation import TrainedModel
from posjax.evaluation.answers import answers, as_trained, cut
from posjax.evaluation.base import Evaluation
from posjax.evaluation.statistics import bootstrap_ratio
from posjax.fields import check_fields
from posjax.models import Architecture
from posjax.results import Measurement
from posjax.search.aim import Aim
from posjax.search.formulas import FORMULAS, formula
from posjax.search.gradient import Found, GradientSearch
from posjax.search.model import with_schedule
from posjax.search.rows import kind, rows, seed_for

SEARCH = GradientSearch()


@dataclass(frozen=True)
class Searched(Evaluation):
    """A schedule found for each multiple of the trained length L, beside those by formula, on rows no search has read.

    On a text: the loss over the last L/2 targets of `windows` of its validation side, which all end at the same bytes;
    `loss_ratio` is exp(loss at k L - loss of the model as it was trained at L). On a task: the loss of its answers, and
    the share that is right. `ratio_to_yarn` is exp(loss - YaRN's), paired row by row, so that an interval below 1 says
    that a schedule is better than YaRN. Of what is found, `divisor` and `temperature` tell the schedule itself.

    Errors: `InputError` for a multiple below 2, multiples that do not rise, or another number out of range.
    """

    name: ClassVar[str] = "search"

    multiples: tuple[int, ...] = (2, 4, 8, 16)
    windows: int = 64
    search: GradientSearch = SEARCH
    schedules: tuple[str, ...] = ("linear", "ntk", "yarn")

    def __post_init__(self) -> None:
        check_fields(self, positive=("windows",))
        if min(self.multiples, default=0) < 2 or sorted(set(self.multiples)) != list(self.multiples):
            raise InputError(
                f"Searched got multiples={self.multiples}: needed are rising multiples of the trained length, 2 or more"
            )
        # Without YaRN there would be nothing that every row is paired with.
        unknown = [name for name in self.schedules if name not in FORMULAS]
        if unknown or "yarn" not in self.schedules:
            raise InputError(
                f"Searched got schedules={self.schedules}: needed are yarn, which others are compared with, and any "
                f"others of {', '.join(FORMULAS)}"
            )

    def longest(self, trained_length: int) -> int:
        return self.multiples[-1] * trained_length

    def held(self, trained_length: int) -> int:
        # Rows of a search are drawn at once, and lie beside the windows of the comparison.
        compared = self.windows + self.search.checks
        return compared * self.longest(trained_length) + self.search.steps * self.search.tokens

    def smaller(self) -> Searched:
        # Two steps of one row: whether it works at all, not what it finds.
        search = replace(self.search, steps=2, tokens=1, checks=2)
        return replace(self, multiples=self.multiples[:2], windows=2, search=search)

    def require(self, data: Any) -> None:
        # A text that is not read yet is none of a task.
        if isinstance(data, Task):
            kind(data, self.search.on)

    def room(self, data: Any, trained_length: int, seed: int) -> None:
        longest = self.longest(trained_length)
        rows(data, longest, trained_length, 1, seed, self.search.on)
        if isinstance(data, Documents):
            validation_windows(data, longest, 1, seed)

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        for multiple in self.multiples:
            self.search.check(model, trained_length, multiple)

    def run(self, trained_model: TrainedModel, data: Documents | Task, seed: int) -> Iterator[Measurement]:
        table = Comparison.draw(trained_model, data, self.multiples[-1], self.windows, seed)
        for multiple in self.multiples:
            found = self.search.find(trained_model, data, multiple, seed)
            schedules = {name: formula(name, float(multiple), trained_model.trained_length) for name in self.schedules}
            on = kind(data, self.search.on)
            for row in table.of(multiple, {**schedules, "found": found.schedule}):
                yield row.placed(on=on)
            yield from _told(trained_model, found, multiple, on)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model on the same rows under several schedules, paired: windows of a text's validation side, or questions."""

    trained_model: TrainedModel
    data: Documents | Task
    windows: np.ndarray | None
    count: int
    seed: int

    @classmethod
    def draw(
        cls, trained_model: TrainedModel, data: Documents | Task, longest: int, count: int, seed: int
    ) -> Comparison:
        """`count` rows, of a text as long as the `longest` multiple. Errors: `InputError` for a text without room."""
        windows = None
        if isinstance(data, Documents):
            windows = validation_windows(data, longest * trained_model.trained_length, count, seed)
            trained_model.model.check_tokens(jnp.asarray(windows))
        return cls(trained_model, data, windows, count, seed)

    def rows(self, multiple: int) -> Row:
        """What the model is measured on at a multiple of its length."""
        trained = self.trained_model.trained_length
        length = multiple * trained
        if self.windows is None:
            assert isinstance(self.data, Task)
            # Others than the search has read, at each length: a needle is as hard as its text is long.
            return self.data.questions(length, self.count, seed_for(self.seed, "comparison"))
        assert isinstance(self.data, Documents)
        # All end at the same bytes, whatever the length.
        return cut(self.data, self.windows, length, max(trained // 2, 1))

    def of(self, multiple: int, schedules: dict[str, Schedule]) -> Iterator[Measurement]:
        """The measurements of a multiple: of the model as it was trained, and under each schedule."""
        trained_model = self.trained_model
        length = multiple * trained_model.trained_length
        asked = self.rows(multiple)
        changes: dict[str, Callable[[Encoding], Encoding]] = {"raw": as_trained}
        changes |= {name: with_schedule(schedule) for name, schedule in schedules.items()}
        measured = {name: answers(trained_model, change, asked) for name, change in changes.items()}
        # Only windows have the same targets at the trained length.
        base = None
        if self.windows is not None:
            base, _ = answers(trained_model, changes["raw"], self.rows(1))
        for name, (losses, right) in measured.items():
            at = {"variant": name, "kind": "extension", "multiple": multiple, "length": length}
            if name == "raw":
                at["kind"] = "raw"
            yield Measurement("loss", float(losses.mean()), count=self.count, coordinates=at)
            if base is None:
                yield Measurement("accuracy", float(right.mean()), count=self.count, coordinates=at)
            else:
                yield self._ratio("loss_ratio", losses, base, at)
            if "yarn" in measured:
                yield self._ratio("ratio_to_yarn", losses, measured["yarn"][0], at)

    def _ratio(self, metric: str, losses: np.ndarray, base: np.ndarray, at: dict[str, Any]) -> Measurement:
        ratio, low, high = bootstrap_ratio(losses, base, self.seed)
        return Measurement(metric, ratio, low, high, self.count, at)


def _told(trained_model: TrainedModel, found: Found, multiple: int, on: str) -> Iterator[Measurement]:
    """The schedule that was found, as numbers of a table."""
    # So that a table of many runs shows whether they agree on what a pair needs.
    aim = Aim.of(trained_model.architecture, trained_model.trained_length, multiple)
    at = {"variant": "found", "kind": "extension", "multiple": multiple, "length": aim.length, "on": on}
    divisors, temperature = aim.divisors(found.schedule.at_length(aim.length))
    for pair, divisor in enumerate(divisors):
        yield Measurement("divisor", float(divisor), coordinates={**at, "pair": pair})
    yield Measurement("temperature", temperature, coordinates=at)
