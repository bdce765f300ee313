"""Progress for a reader: a bar in a terminal, a plain line now and then where there is none."""

from __future__ import annotations

import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 5.0
"""Between two plain lines, so that a log file stays short."""


class TrainingProgress:
    """Step, loss, tokens per second and the time left of one run."""

    def __init__(self, label: str, steps: int, start: int, console: Console | None = None):
        self.console = console or Console()
        self.label = label
        self._steps = steps
        self._start = start
        self._began = self._spoke = time.perf_counter()
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            columns = (
                # A run's name is no markup, whatever it looks like.
                TextColumn("{task.description:<12}", markup=False),
                BarColumn(bar_width=16),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("loss {task.fields[loss]:.3f}"),
                TextColumn("{task.fields[speed]:,.0f} tok/s"),
                TimeRemainingColumn(),
            )
            # It goes away at its end, since a line about the run is printed then.
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.__enter__()
            self._task = self._bar.add_task(self.label, total=self._steps, completed=self._start, loss=0.0, speed=0.0)
        return self

    def __exit__(self, *kind: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*kind)

    def update(self, step: int, loss: float, speed: float) -> None:
        """Shows where training is."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, loss=loss, speed=speed)
            return
        now = time.perf_counter()
        if now - self._spoke >= PLAIN_SECONDS or step == self._steps:
            # By the mean of this process's own steps, the first of which compiled.
            seconds_a_step = (now - self._began) / max(step - self._start, 1)
            left = seconds_a_step * (self._steps - step)
            self._spoke = now
            where = f"{self.label}: step {step}/{self._steps}"
            self.say(f"{where}  loss {loss:.3f}  {speed:,.0f} tok/s  {left:.0f} s left")

    def of_stage(self, title: str, steps: int) -> Self:
        """The same for one of several trainings, of so many steps."""
        self.label += title
        self._steps = steps
        return self

    def say(self, line: str) -> None:
        """Prints a line as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
