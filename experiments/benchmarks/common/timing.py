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


class Timed(NamedTuple):
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

    def add(self, cpu: float, wall: float) -> None:
        self.cpu.append(cpu)
        self.wall.append(wall)

    @property
    def medians(self) -> tuple[float, float]:
        return median(self.cpu), median(self.wall)


class Stopwatch:
    """CPU seconds of all threads, and seconds on the wall, since it was made."""

    def __init__(self) -> None:
        self.cpu = time.process_time()
        self.wall = time.perf_counter()

    def taken(self) -> tuple[float, float]:
        cpu = time.process_time() - self.cpu
        wall = time.perf_counter() - self.wall
        return cpu, wall


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """What our samples are of theirs: the median over the rounds of both, as a machine that is slow slows a round.

    Where one has a single sample, that of the medians.
    """
    if min(len(ours), len(theirs)) == 1:
        return median(ours) / median(theirs)
    # Not strict: a slow peer sits out rounds at the end, and the rounds that both ran are at the beginning.
    return median(a / b for a, b in zip(ours, theirs, strict=False))


def sample(call: Timed, calls: int) -> tuple[float, float]:
    """CPU seconds and wall seconds of one call, from as many in a row."""
    watch = Stopwatch()
    result = None
    for _ in range(calls):
        result = call.run()
    # Waited for once: a device then goes from call to call, and is not idle while the next one is started.
    call.wait(result)
    cpu, wall = watch.taken()
    return cpu / calls, wall / calls


def once(call: Timed) -> tuple[Any, tuple[float, float]]:
    """The result of one run, and its CPU and wall seconds."""
    watch = Stopwatch()
    result = call.finished()
    return result, watch.taken()


def interleave(
    calls: Mapping[str, Timed], rounds: int, first: Mapping[str, float], most: float = 1e9
) -> dict[str, Times]:
    """Rounds of samples of each call, in turns. `first`: the seconds that each took once.

    A call that has taken `most` seconds in all sits out the rounds that remain; each has one sample at least.
    """
    times = {name: Times() for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    # Rounds are the outer loop: what slows the machine for a while then slows all calls, and not one.
    for _ in range(rounds):
        for name, call in calls.items():
            if spent[name] > most:
                continue
            # Untimed, see `SHORT`: the call of another peer has just ended.
            if first[name] < SHORT:
                call.finished()
            count = _calls_in_a_sample(first[name])
            cpu, wall = sample(call, count)
            times[name].add(cpu, wall)
            spent[name] += wall * count
    return times


def _calls_in_a_sample(seconds: float) -> int:
    # A call may take less than the clock can tell, and nothing is divided by zero.
    wanted = int(AT_LEAST / max(seconds, 1e-6))
    return min(MOST_CALLS, max(1, wanted))
