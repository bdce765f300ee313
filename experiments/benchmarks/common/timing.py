"""Times of several implementations of one thing, taken in turns: A B C A B C, so that what slows one slows them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

AT_LEAST = 0.05
"""Seconds that one sample should last: shorter calls are repeated within it."""
MOST_CALLS = 500
SHORT = 0.3
"""Seconds: a call of less first runs once untimed, as threads of the one before may still be spinning. Beside a longer
one that is nothing."""


class Call(NamedTuple):
    """What is timed: `run` starts the work and returns its result, `wait` returns when that result is there."""

    run: Callable[[], Any]
    wait: Callable[[Any], Any]

    def finished(self) -> Any:
        """The result of one run."""
        result = self.run()
        self.wait(result)
        return result


@dataclass
class Times:
    """Samples of one call, in seconds: of all cores of this process together, and of the clock on the wall."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, float]:
        return median(self.cpu), median(self.wall)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """What our samples are of theirs: the median over the rounds of both, as a machine that is slow slows a round.

    Where one has a single sample, that of the medians.
    """
    if min(len(ours), len(theirs)) == 1:
        return median(ours) / median(theirs)
    return median(a / b for a, b in zip(ours, theirs, strict=False))


def sample(call: Call, calls: int) -> tuple[float, float]:
    """CPU seconds and wall seconds of one call, from as many in a row."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = None
    for _ in range(calls):
        result = call.run()
    call.wait(result)
    return (time.process_time() - cpu) / calls, (time.perf_counter() - wall) / calls


def once(call: Call) -> tuple[Any, tuple[float, float]]:
    """The result of one run, and its CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = call.finished()
    return result, (time.process_time() - cpu, time.perf_counter() - wall)


def interleave(
    calls: Mapping[str, Call], rounds: int, first: Mapping[str, float], most: float = 1e9
) -> dict[str, Times]:
    """Rounds of samples of each call, in turns. `first`: the seconds that each took once.

    A call that has taken `most` seconds in all sits out the rounds that remain; each has one sample at least.
    """
    times = {name: Times() for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    for _ in range(rounds):
        for name, call in calls.items():
            if spent[name] > most:
                continue
            count = min(MOST_CALLS, max(1, int(AT_LEAST / max(first[name], 1e-6))))
            if first[name] < SHORT:
                call.finished()
            cpu, wall = sample(call, count)
            times[name].cpu.append(cpu)
            times[name].wall.append(wall)
            spent[name] += wall * count
    return times
