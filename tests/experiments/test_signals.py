"""Signals that a library loses, and codes of commands whose last line nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import ends

ROOT = Path(__file__).resolve().parents[2]

LOST = """
import os, signal, sys, time
from experiments import ends

class Callback:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)

def command(_):
    Callback()
    left = time.monotonic() + 60
    while time.monotonic() < left:
        time.sleep(0.01)

ends.program(command)
"""

AT_THE_END = LOST.replace("Callback()\n", "ends.AGAIN = 100.0; Callback(); return\n")

UNWINDING = """
import os, signal, sys, time
from experiments import ends
ends.AGAIN = 0.1

def command(_):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        time.sleep(1)
        print("whole")

ends.program(command)
"""

IMPORTING = """
import os, signal, sys
sys.argv = ["-m"]
import experiments
os.kill(os.getpid(), signal.SIGTERM)
"""

TWICE = """
import os, signal
from posjax.training.loop import Interrupts
with Interrupts():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
"""


def ended(*arguments, stderr=subprocess.PIPE):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("program", [LOST, pytest.param(AT_THE_END, marks=pytest.mark.exhaustive)])
def test_a_signal_that_a_callback_loses_is_heard(program):
    done = ended("-c", program)
    assert done.returncode == 75 and done.stderr.startswith("posjax: stopped"), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.exhaustive
def test_what_a_signal_unwinds_is_left_to_end():
    done = ended("-c", UNWINDING)
    assert done.returncode == 75 and done.stdout == "whole\n", done


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["full", pytest.param("pipe", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    ("program", "code"),
    [
        (["-m", "experiments.status", "nofolder"], 2),
        pytest.param(["-c", IMPORTING], 75, marks=pytest.mark.exhaustive),
        pytest.param(["-c", TWICE], 75, marks=pytest.mark.exhaustive),
        pytest.param(["-c", LOST], 75, marks=pytest.mark.exhaustive),
    ],
)
def test_a_code_is_the_same_where_nobody_reads_the_line(program, code, gone):
    if gone == "full":
        if not Path("/dev/full").exists():
            pytest.skip("there is no disk that is always full")
        stream = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, stream = os.pipe()
        os.close(reading)
    done = ended(*program, stderr=stream)
    os.close(stream)
    assert done.returncode == code


def test_another_pipe_that_breaks_is_no_success(capsys):
    def command(_):
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SystemExit) as stop:
        ends.main(command)
    assert stop.value.code == 74 and "Broken pipe" in capsys.readouterr().err
