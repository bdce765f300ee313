"""Several processes over the loopback train as one does, and what they keep goes on with another number of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posjax.lines import read
from tests.training.tiny import with_devices

PROGRAM = Path(__file__).with_name("process_program.py")
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(
    count: int, folder: Path, mesh: tuple[int, int], pause: float = 0.0, every: int = 0, kind: str = "plain"
) -> list[subprocess.Popen[str]]:
    """The processes of one training, four devices in all; `pause`: seconds between steps; `every`: that of `Check`.

    `kind`: that of the program.
    """
    port = free_port()
    flags = {"XLA_FLAGS": with_devices(4 // count), "JAX_PLATFORMS": "cpu"}
    environment = {**os.environ, **flags, "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [sys.executable, PROGRAM, *map(str, (index, count, port, folder, *mesh, pause, every, kind))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """The exit code and the words of each."""
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, words) for process, words in zip(processes, said, strict=True)]


def digest(words: str) -> float:
    (line,) = [line for line in words.splitlines() if line.startswith("digest")]
    return float(line.split()[1])


def losses(folder: Path) -> list[float]:
    """Of every step told, those of the stages one after the other."""
    files = sorted((folder / "run").glob("stages/*/metrics.jsonl")) or [folder / "run" / "metrics.jsonl"]
    return [line["loss"] for file in files for line in read(file).steps]


def train(count: int, folder: Path, mesh: tuple[int, int], every: int = 0, kind: str = "plain") -> float:
    """Trains to the last step and returns the digest that all processes found."""
    found = ended(start(count, folder, mesh, every=every, kind=kind))
    assert [code for code, _ in found] == [0] * count, found
    digests = {digest(words) for _, words in found}
    assert len(digests) == 1
    if count > 1:
        assert f"process 0 of {count}: {4 // count} devices here, 4 in all" in found[0][1]
    return digests.pop()


def struck(count: int, folder: Path, mesh: tuple[int, int], number: int, kind: str = "plain") -> list[tuple[int, str]]:
    """How processes end whose last one gets a signal once they have told a step."""
    before = len(losses(folder))
    processes = start(count, folder, mesh, pause=0.5, kind=kind)
    until = time.monotonic() + 240
    # More than before: lines past the last checkpoint are dropped where a training goes on.
    while len(losses(folder)) <= before and time.monotonic() < until:
        time.sleep(0.1)
    processes[-1].send_signal(number)
    return ended(processes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with four devices: its digest and its losses."""
    folder = tmp_path_factory.mktemp("alone")
    return train(1, folder, (2, 2)), losses(folder)


def hold(folder: Path, got: float, alone: tuple[float, list[float]]) -> None:
    """A training whose processes or mesh changed is that of one within 1e-5, and no step is lost or told twice."""
    want, told = alone
    assert losses(folder) == pytest.approx(told, abs=1e-5)
    assert got == pytest.approx(want, rel=1e-5)


@pytest.mark.exhaustive
def test_a_signal_to_one_of_two_stops_both_and_one_goes_on_elsewhere(tmp_path, alone):
    found = struck(2, tmp_path, (2, 2), signal.SIGTERM)
    assert [code for code, _ in found] == [75, 75], found
    assert all("the checkpoint is kept, and the same command goes on from there" in words for _, words in found)
    hold(tmp_path, train(1, tmp_path, (4, 1)), alone)


@pytest.mark.exhaustive
def test_four_processes_to_two_to_one_on_other_meshes(tmp_path, alone):
    assert [code for code, _ in struck(4, tmp_path, (4, 1), signal.SIGTERM)] == [75] * 4
    assert [code for code, _ in struck(2, tmp_path, (1, 2), signal.SIGTERM)] == [75] * 2
    hold(tmp_path, train(1, tmp_path, (1, 4)), alone)


@pytest.mark.exhaustive
def test_a_killed_process_ends_the_others_and_loses_nothing_that_was_kept(tmp_path, alone):
    began = time.monotonic()
    found = struck(2, tmp_path, (2, 2), signal.SIGKILL)
    assert found[1][0] == -signal.SIGKILL and found[0][0] != 0
    # The heartbeat of the program is 10 s.
    assert time.monotonic() - began < 120
    hold(tmp_path, train(2, tmp_path, (2, 2)), alone)


@pytest.mark.exhaustive
def test_four_processes_train_as_one_and_are_checked_as_one(tmp_path, alone):
    hold(tmp_path, train(4, tmp_path, (4, 1), every=4), alone)
    hold(tmp_path / "two", train(2, tmp_path / "two", (2, 2), every=4), alone)


@pytest.mark.exhaustive
def test_stages_of_several_processes_stop_early_and_go_on_as_those_of_one(tmp_path):
    folder = tmp_path / "alone"
    alone = train(1, folder, (2, 2), kind="staged"), losses(folder)
    # Four steps until it is sure that the first was the best, and four of the second stage.
    assert len(alone[1]) == 8
    found = struck(2, tmp_path / "two", (2, 2), signal.SIGTERM, kind="staged")
    assert [code for code, _ in found] == [75, 75], found
    # Once more in a stage, and then to the end on another mesh.
    found = struck(2, tmp_path / "two", (4, 1), signal.SIGTERM, kind="staged")
    assert [code for code, _ in found] == [75, 75], found
    hold(tmp_path / "two", train(2, tmp_path / "two", (1, 2), kind="staged"), alone)
