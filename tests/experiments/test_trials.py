"""What may happen to somebody's run, tried many times: races, readers, full disks, damage.

The number of tries is `POSJAX_TRIES`, a few without it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.experiments.test_ends import command
from tests.experiments.test_interruptions import losses, results

TRIES = int(os.environ.get("POSJAX_TRIES", "3"))
pytestmark = pytest.mark.exhaustive
each_try = pytest.mark.parametrize("trial", range(TRIES))


def started(name: str, home: Path, *arguments: str) -> subprocess.Popen:
    given, more = command(name, *arguments, cwd=home, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.Popen(given, **more)


def assert_as_if_alone(home: Path, finished_once: Path) -> None:
    assert results(home) == results(finished_once)
    assert losses(home) == losses(finished_once)


@each_try
def test_two_equal_commands_at_once(trial, home, finished_once):
    both = [started("run", home, "tiny.py", "--only", "rope")]
    time.sleep(random.Random(trial).choice([0, 0, 0.5, 2, 4]))
    both.append(started("run", home, "tiny.py", "--only", "rope"))
    for process in both:
        _, err = process.communicate(timeout=200)
        assert process.returncode in (0, 75) and "Traceback" not in err, err
        if process.returncode:
            other = both[1 - both.index(process)]
            assert f"is in use by process {other.pid} on " in err and err.count("\n") == 1, err
    assert 0 in [process.returncode for process in both]
    assert_as_if_alone(home, finished_once)


@each_try
def test_readers_beside_a_trainer(trial, home, finished_once):
    slow = (
        "import sys, time; from posjax.data import Batches; real = Batches.rows; "
        "Batches.rows = lambda self, *given: (time.sleep(1.5), real(self, *given))[1]; "
        "sys.argv = ['run', 'tiny.py', '--only', 'rope']; from experiments import cli, run; cli.main(run.command)"
    )
    _, more = command("run", cwd=home, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    trainer = subprocess.Popen([sys.executable, "-c", slow], **more)
    time.sleep(random.Random(trial).uniform(0, 6))
    name, *arguments = [
        ("generate", "tiny.py", "--only", "rope"),
        ("evaluate", "tiny.py", "--only", "rope"),
        ("report", "runs/tiny"),
    ][trial % 3]
    reader = started(name, home, *arguments)
    _, said = reader.communicate(timeout=200)
    _, err = trainer.communicate(timeout=200)
    assert trainer.returncode == 0, err
    assert reader.returncode in (0, 2, 75) and "Traceback" not in said and said.count("\n") <= 1, said
    assert_as_if_alone(home, finished_once)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, which can be full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


@each_try
def test_a_full_disk_ends_in_one_line_and_soon(trial, disk, home, finished_once, shell, monkeypatch):
    for name in ("tiny.py", "text"):
        source = home / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, disk / name)
    filler = disk / "filler"
    room = 4096 * random.Random(trial).randint(1, 60)
    filler.write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - room))
    process = started("run", disk, "tiny.py", "--only", "rope")
    assert process.stderr is not None
    said = process.stderr.readline()
    told = time.monotonic()
    rest = process.stderr.read()
    process.communicate(timeout=60)
    if process.returncode:
        assert process.returncode == 74 and said.startswith("posjax: ") and rest == "", (said, rest)
        assert time.monotonic() - told < 5
    filler.unlink()
    monkeypatch.chdir(disk)
    again = shell("run", "tiny.py", "--only", "rope")
    assert again.code == 0, again.err
    assert_as_if_alone(disk, finished_once)


FAILURES = (
    "import os, sys, itertools; at, seen = int(sys.argv.pop(1)), itertools.count()\n"
    "def failing(real):\n"
    "    def call(*a, **k):\n"
    "        if next(seen) >= at: raise OSError(28, 'No space left on device', *a[:1])\n"
    "        return real(*a, **k)\n"
    "    return call\n"
    "from experiments import cli, run\n"
    "for name in ('fsync', 'replace', 'mkdir'): setattr(os, name, failing(getattr(os, name)))\n"
    "sys.argv[0] = 'run'; cli.program(run.command)"
)
"""A command whose disk takes nothing any more from the N-th write, name or folder on that Python makes."""


@pytest.mark.parametrize("point", range(1, 50, 8))
def test_a_disk_that_is_full_from_any_point_on(point, home, finished_once, shell):
    _, more = command("run", cwd=home, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    arguments = [sys.executable, "-c", FAILURES, str(point), "tiny.py", "--only", "rope"]
    process = subprocess.Popen(arguments, **more)
    assert process.stderr is not None
    said = process.stderr.readline()
    told = time.monotonic()
    rest = process.stderr.read()
    process.communicate(timeout=60)
    # Past the last point nothing fails.
    if process.returncode:
        assert process.returncode == 74 and said.startswith("posjax: ") and rest == "", (said, rest)
        assert time.monotonic() - told < 5
    again = shell("run", "tiny.py", "--only", "rope")
    assert again.code == 0, again.err
    assert_as_if_alone(home, finished_once)


def damage(path: Path, chance: random.Random) -> str:
    """One thing that goes wrong with a file."""
    whole = path.read_bytes()
    how = chance.choice(["gone", "empty", "cut", "bit", "bytes", "line", "folder"])
    if how == "gone":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "bit" and whole:
        at = chance.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
    elif how == "bytes":
        at = chance.randrange(len(whole) + 1)
        path.write_bytes(whole[:at] + chance.randbytes(7) + whole[at + 7 :])
    elif how == "line":
        lines = whole.splitlines(keepends=True)
        path.write_bytes(b"".join(line for i, line in enumerate(lines) if i != len(lines) // 2))
    else:
        path.write_bytes(whole[: 0 if how == "empty" else chance.randrange(len(whole) + 1)])
    return how


@pytest.mark.parametrize("trial", range(max(10, 5 * TRIES)))
def test_a_damaged_folder_has_a_page_or_a_line_that_names_the_file(trial, finished, shell):
    chance = random.Random(trial)
    files = sorted(
        path
        for path in (finished / "runs/tiny").rglob("*")
        if path.is_file()
        and "checkpoints" not in path.parts
        and path.suffix in (".json", ".jsonl", ".html", ".csv", ".py")
    )
    path = chance.choice(files)
    how = damage(path, chance)
    answer = shell("report", "runs/tiny")
    if answer.code == 0:
        assert "</html>" in (finished / "runs/tiny/report.html").read_text(), (path, how)
    else:
        assert path.name in answer.line, (path, how, answer.line)


@pytest.mark.parametrize("trial", range(max(10, 5 * TRIES)))
def test_a_damaged_folder_is_finished_by_the_same_command(trial, finished_once, home, shell):
    """Damage anywhere: the command ends as before, or says in one line which file is in its way."""
    shutil.rmtree(home / "runs", ignore_errors=True)
    shutil.copytree(finished_once / "runs", home / "runs")
    shutil.copy(finished_once / "tiny.py", home / "tiny.py")
    chance = random.Random(trial)
    path = chance.choice(sorted(path for path in (home / "runs/tiny/rope").rglob("*") if path.is_file()))
    how = damage(path, chance)
    answer = shell("run", "tiny.py", "--only", "rope")
    if answer.code:
        assert answer.line, (path, how)
        return
    kept = json.loads((home / "runs/tiny/rope/results.json").read_text())
    alone = json.loads((finished_once / "runs/tiny/rope/results.json").read_text())
    assert {**kept, "seconds": 0} == {**alone, "seconds": 0}, (path, how)
