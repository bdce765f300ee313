"""What is to be reached, what was, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from experiments.benchmarks.common.tables import TextTable, digits


@dataclass(frozen=True)
class Goal:
    """A ratio that is to be reached: at most `reach`, or no less.

    `worst`: of what was measured, `None` without any; `where` it was.
    """

    what: str
    reach: float
    at_most: bool = True
    worst: float | None = None
    where: str = ""

    def judged(self, measured: Sequence[tuple[float, str]]) -> Goal:
        """This goal with the worst of what was measured, each number with the place where."""
        if not measured:
            return self
        # A goal is met where every case meets it: a mean would hide the one that does not.
        if self.at_most:
            worst, where = max(measured)
        else:
            worst, where = min(measured)
        return replace(self, worst=worst, where=where)

    @property
    def verdict(self) -> str:
        if self.worst is None:
            return "not measured"
        # What just reaches it has met it, on either side.
        missed = self.worst > self.reach
        if not self.at_most:
            missed = self.worst < self.reach
        if missed:
            return "NOT met"
        return "met"

    def record(self) -> dict[str, Any]:
        """The goal with its verdict, for JSON."""
        return asdict(self) | {"verdict": self.verdict}


def goals_table(title: str, goals: Sequence[Goal]) -> TextTable:
    """The goals, a row each."""
    rows = []
    for goal in goals:
        rows.append([goal.what, f"{goal.reach:.2f}", digits(goal.worst), goal.where or "-", goal.verdict])
    return TextTable([title, "reach", "got", "at", ""], rows)
