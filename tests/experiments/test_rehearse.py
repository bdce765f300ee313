"""The command that rehearses a config, with the devices of this process in the place of simulated ones."""

import json

import jax
import pytest

from experiments.benchmarks.rehearsals import program
from posjax import rehearsal
from tests.experiments.benchmarks.pages import committed


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(rehearsal, "devices", lambda topology: jax.devices())


def test_a_run_is_rehearsed_and_kept(shell, home, two):
    fsdp = ("--train.devices.data", 1, "--train.devices.fsdp", 2)
    answer = shell("rehearse", "tiny.py", "--topology", "cpu:2", "--only", "rope", "--work", "kept", *fsdp)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("rope on cpu:2: planned, not run\n")
    assert max(map(len, answer.out.splitlines())) <= 80
    kept = json.loads((home / "kept/rope.json").read_text())
    assert kept["lines"] == answer.out.splitlines()[1:]
    assert kept["command"].endswith("--train.devices.data 1 --train.devices.fsdp 2")
    assert kept["found"]["mesh"] == {"data": 1, "fsdp": 2, "tensor": 1, "context": 1}
    # Nothing else is written, and no text is read.
    assert sorted(path.name for path in home.iterdir()) == ["kept", "text", "tiny.py"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--topology v5e:16x16"),
        (("--topology", "v5e"), "has no size"),
        (("--topology", "cpu:2", "--vocabulary", "0"), "--vocabulary is 0"),
        (("--topology", "cpu:2", "--only", "rope"), "rope: the mesh takes 1 devices and the topology has 2"),
        (("--topology", "cpu:2", "--train.devices.fsdp", "4"), "4 on the others and 2 are there"),
    ],
)
def test_a_mistake_is_one_line(shell, home, monkeypatch, arguments, told):
    if "cpu:2" in arguments:
        monkeypatch.setattr(rehearsal, "devices", lambda topology: jax.devices())
    assert told in shell("rehearse", "tiny.py", *arguments).line


def test_the_page_is_that_of_its_numbers():
    numbers, page = committed("rehearsals")
    assert page == program.page(numbers["cases"])
    assert [case["run"] for case in numbers["cases"]] == list(program.CASES)
    assert all(case["fits"] for case in numbers["cases"])
