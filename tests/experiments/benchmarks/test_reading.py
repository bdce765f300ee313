"""The benchmark of reading a published model, at tiny sizes."""

import json

import pytest

from experiments.benchmarks.memory import reader, reading
from tests.experiments.benchmarks.pages import committed, narrow, tables_of


def test_the_page_is_that_of_its_numbers_and_the_goal_is_met():
    numbers, page = committed("reading")
    rows = []
    for kept in numbers["rows"]:
        ratio = kept.pop("ratio")
        row = reading.ReadingRow(**kept)
        assert row.ratio == ratio
        rows.append(row)
    assert reading.page(rows, numbers["shards"], numbers["command"], numbers["machine"]) == page
    assert reading.goal(rows) == numbers["goal"]
    assert "(met)" in numbers["goal"]
    assert {row.devices for row in rows} == {1, 4} and {row.weights for row in rows} == {256 * 2**20}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_both_ways_are_watched(shell, tmp_path):
    answer = shell("benchmarks.memory.reading", "--mib", "32", "--devices", "2", "--out", tmp_path)
    assert answer.code == 0
    narrow(answer.out.split("Reading takes")[0])
    content = json.loads((tmp_path / "reading.json").read_text())
    ratios = {row["way"]: row["ratio"] for row in content["rows"]}
    # All of the weights are there at the end, and of the way that holds them twice, twice.
    assert 0.9 < ratios[reader.STREAMED] < ratios[reader.WHOLE] - 0.5
    assert [len(table) for table in tables_of((tmp_path / "reading.md").read_text())] == [4]


@pytest.mark.parametrize("given", [("--mib", "3"), ("--shards", "0"), ("--devices", "0")])
def test_sizes_that_make_no_model_are_refused(shell, given):
    assert "needed are" in shell("benchmarks.memory.reading", *given).line
