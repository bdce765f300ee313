"""The benchmark of whole models: what needs no other library runs, and its goals are judged as they say."""

import pytest

from experiments.benchmarks.models import decoding, loops


@pytest.mark.exhaustive
def test_every_way_to_compute_a_step_is_measured_and_judged():
    rows = loops.measure(loops.LoopsCase(layers=2, width=16, heads=2, rows=1, length=16))
    assert [row.way for row in rows] == [*loops.WAYS, loops.ALONE]
    assert all(row.compiling > 0 and row.temporary > 0 and row.step > 0 for row in rows)
    compiled, kept = loops.goals(rows)
    assert kept.worst == rows[3].temporary / rows[0].temporary and compiled.worst > 0
    assert "a loop, all computed again" in loops.table(rows).columns()


def test_one_row_without_windows_is_what_the_goal_is_of():
    rows = [decoding.DecodingRow(name, 8.0, 2.0, times) for name, times in (("1 x 9", 3.9), ("8 x 9", 1.0))]
    rows.append(decoding.DecodingRow(decoding.DecodingCase(1, 9, 4).name, 8.0, 2.0, 9.0))
    assert decoding.goal(rows).worst == 3.9 and decoding.goal(rows).verdict == "NOT met"
    assert "1 x 9 tokens, windows of 4" in decoding.table(rows).columns()
