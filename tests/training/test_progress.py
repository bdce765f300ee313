"""A bar where there is a terminal, whole lines where there is none."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from posjax.training import progress
from posjax.training.progress import TrainingProgress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to move."""

    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_plain_lines_come_now_and_then_and_at_the_end(clock):
    out = io.StringIO()
    with TrainingProgress("rope", 10, 0, Console(file=out, width=40)) as shown:
        for step in range(1, 11):
            clock.now += 2.0
            shown.update(step, 5.0 - step / 10, 1234.5)
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "rope: step 3/10",
        "rope: step 6/10",
        "rope: step 9/10",
        "rope: step 10/10",
    ]
    assert lines[0] == "rope: step 3/10  loss 4.700  1,234 tok/s  14 s left"
    assert lines[-1].endswith("0 s left")
    assert "\x1b" not in out.getvalue()


def test_the_time_left_counts_only_this_process(clock):
    out = io.StringIO()
    with TrainingProgress("rope", 10, 6, Console(file=out)) as shown:
        clock.now += 6.0
        shown.update(8, 1.0, 1.0)
    assert "6 s left" in out.getvalue()


def test_a_terminal_gets_a_bar_that_goes_away():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with TrainingProgress("rope", 10, 0, console) as shown:
        shown.update(7, 3.25, 98765.0)
        shown._bar.refresh()
    text = out.getvalue()
    assert all(part in text for part in ("rope", "7/10", "loss 3.250", "98,765 tok/s", "\x1b["))
    assert "step 7/10" not in text


def test_a_narrow_terminal_is_enough():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=30, _environ={"TERM": "xterm"})
    with TrainingProgress("rope", 10, 0, console) as shown:
        shown.update(7, 3.25, 98765.0)
    assert out.getvalue()
