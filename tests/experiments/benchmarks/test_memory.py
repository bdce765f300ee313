"""The memory benchmark at tiny sizes."""

import json

import pytest

from experiments.benchmarks.common.peers import OURS
from experiments.benchmarks.memory import page as memory_page
from experiments.benchmarks.memory.program import MemoryOptions
from experiments.benchmarks.memory.rows import MemoryRow
from tests.experiments.benchmarks.pages import committed, narrow, tables_of


def test_the_memory_page_is_that_of_its_numbers():
    numbers, page = committed("memory")
    rows = []
    for kept in numbers["rows"]:
        exponent = kept.pop("exponent")
        row = MemoryRow(**kept | {"lengths": tuple(kept["lengths"]), "bytes": tuple(kept["bytes"])})
        assert row.exponent == exponent
        rows.append(row)
    options = MemoryOptions()
    read = memory_page.Read(numbers["command"], options.heads, options.head_size, numbers["long_run"])
    assert memory_page.page(rows, read, numbers["machine"]) == page
    assert memory_page.goal(rows) == numbers["goal"]


@pytest.mark.exhaustive
def test_memory_tells_linear_from_quadratic_and_runs_a_model(shell, tmp_path):
    answer = shell(
        "benchmarks.memory.program",
        "--lengths",
        "2048",
        "4096",
        "--encodings",
        "T5Bias",
        "--heads",
        "2",
        "--head-size",
        "8",
        "--out",
        tmp_path,
        "--run",
        "--long.length",
        "64",
        "--long.layers",
        "1",
        "--long.width",
        "16",
        "--long.vocabulary",
        "16",
    )
    assert answer.code == 0
    narrow(answer.out.split("Ours grows")[0])
    content = json.loads((tmp_path / "memory.json").read_text())
    exponents = {(row["peer"], row["backward"]): row["exponent"] for row in content["rows"]}
    assert len(exponents) == 4
    for (peer, _), exponent in exponents.items():
        assert exponent < 1.2 if peer == OURS else exponent > 1.8
    ran = content["long_run"]
    assert ran["met"] and 0 < ran["peak_gib"] < 24 and ran["gradient"] > 0 and 2 < ran["loss"] < 5
    page = (tmp_path / "memory.md").read_text()
    assert [len(table) for table in tables_of(page)] == [4, 4] and "64 tokens" in page
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("lengths", [("64",), ("64", "32")])
def test_memory_needs_two_rising_lengths(shell, lengths):
    assert "rising" in shell("benchmarks.memory.program", "--lengths", *lengths).line
