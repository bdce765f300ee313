"""The rotation's benchmark at tiny sizes."""

import json

import pytest

from experiments.benchmarks.rope import page as rope_page, rows as rope
from experiments.benchmarks.rope.program import RotationOptions
from tests.experiments.benchmarks.pages import committed, narrow, tables_of

# Where torch is installed, importing it is noisy.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def test_the_rotation_page_is_that_of_its_numbers():
    numbers, page = committed("rope")
    rows = [rope.RotationRow(**row) for row in numbers["rows"]]
    assert rope_page.page(rows, RotationOptions().sizes(), numbers["command"], numbers["machine"]) == page
    assert rope_page.goal(rows) == numbers["goal"]


@pytest.mark.exhaustive
def test_rope_writes_its_table(shell, tmp_path):
    answer = shell(
        "benchmarks.rope.program",
        "--lengths",
        "32",
        "--rounds",
        "1",
        "--heads",
        "2",
        "--head-size",
        "8",
        "--out",
        tmp_path,
    )
    assert answer.code == 0
    narrow(answer.out.split("In bfloat16")[0])
    rows = [rope.RotationRow(**row) for row in json.loads((tmp_path / "rope.json").read_text())["rows"]]
    assert len(rows) == 2 * len({row.name for row in rows})
    (table,) = tables_of((tmp_path / "rope.md").read_text())
    assert len(table) == 2 + len(rows)
    for row in rows:
        if row.error is not None:  # They all turn by the same angles.
            assert row.error < (4e-2 if row.dtype == "bfloat16" else 1e-6), row
    assert {row.name for row in rows if row.error is not None} >= {"posjax", "rotate_half", "halves concatenated"}
