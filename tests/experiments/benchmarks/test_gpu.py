"""The GPU benchmark where there is no GPU: its rows are complete, and what goes wrong with one is told."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from experiments.benchmarks.gpu import page as gpu_page, rows as gpu_rows, workers
from tests.experiments.benchmarks.pages import ROOT, committed, tables_of


def test_the_gpu_page_is_that_of_its_numbers():
    numbers, page = committed("gpu")
    rows = [gpu_rows.GpuRow(**row) for row in numbers["rows"]]
    taken = gpu_page.Taken(numbers["command"], numbers["seconds"], numbers["sizes"])
    made = gpu_page.page(rows, taken, numbers["machine"])
    # From its table on: the prose says how the next rows will be taken, and these were taken before.
    assert made.partition("| TFLOP/s")[2] == page.partition("| TFLOP/s")[2] != ""
    told = [(goal.what, goal.worst, goal.verdict) for goal in gpu_page.goals(rows)]
    assert told == [(goal["what"], goal["worst"], goal["verdict"]) for goal in numbers["goals"]]


@pytest.mark.exhaustive
def test_the_gpu_command_ends_with_a_table_where_there_is_no_gpu_and_with_jax_alone(tmp_path):
    """In a process that cannot import posjax's other libraries, as on a machine that has jax and nothing more."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('chex', 'flax', 'grain', 'matplotlib', 'optax', 'orbax', 'rich', 'tyro'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [ROOT / "experiments/benchmarks/gpu.sh", "--smoke", "--out", tmp_path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "gpu.json").read_text())
    rows = [gpu_rows.GpuRow(**row) for row in content["rows"]]
    assert {(row.name, row.encoding, row.backward) for row in rows} == set(gpu_rows.names())
    assert content["machine"]["date"] and content["machine"]["devices"]
    for row in rows:
        assert (row.seconds is None) == (row.tflops is None) and (row.seconds is not None or row.why), row
        assert row.agrees is not False, row
    ran = {row.name for row in rows if row.seconds is not None}
    assert {"matmul", "RoPE, posjax auto", "ALiBi, posjax auto", "T5, whole bias, XLA"} <= ran
    assert all("cuDNN" not in name or "XLA" in name for name in ran)
    table, goals = tables_of((tmp_path / "gpu.md").read_text())
    assert len(table) == 2 + len(gpu_rows.names()) and len(goals) == 2 + len(content["goals"])


def test_without_a_gpu_the_gpu_command_says_what_it_needs(tmp_path):
    done = subprocess.run(
        [ROOT / "experiments/benchmarks/gpu.sh", "--out", tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHON": sys.executable, "JAX_PLATFORMS": "cpu"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "runs on cpu" in done.stderr and "--smoke" in done.stderr
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


class Dying(workers.Workers):
    """Workers that die in the middle of a row, and on the next attempt while they time."""

    def start(self, shape, path, skip, rounds):
        row = gpu_rows.GpuRow("matmul", "", shape.head_size, shape.length, False, 1.0, 1.0)
        lines = [{"begin": "cuDNN, no bias|False"}]
        if skip:
            lines = [{"begin": "RoPE, then cuDNN|False"}, {"begin": "timing"}, {"row": asdict(row)}]
        text = "\n".join(map(json.dumps, lines))
        return subprocess.Popen(
            [sys.executable, "-c", f"open({str(path)!r}, 'w').write({text!r}); import os; os.kill(os.getpid(), 11)"],
            stderr=subprocess.DEVNULL,
        )


def test_a_kernel_that_brings_its_process_down_costs_its_rows_alone(tmp_path):
    shape = gpu_rows.Shape(16, 64)
    rows = {row.key: row for row in Dying(tmp_path, time.time() + 60).measure(shape)}
    assert len(rows) == len(gpu_rows.names())
    assert rows["matmul|False"].seconds == 1.0
    assert rows["cuDNN, no bias|False"].why == "the process was ended by signal 11 while cuDNN, no bias ran"
    assert "signal 11 while timing" in rows["RoPE, posjax auto|True"].why


def test_the_gpu_goals_take_the_lowest_speed():
    rows = [
        gpu_rows.GpuRow(name, "", 64, length, True, seconds, 1.0)
        for name, length, seconds in (
            ("T5 learned, fused", 2048, 1.2),
            ("T5 fixed, fused", 2048, 1.0),
            ("T5 learned, FlexAttention", 2048, 1.5),
            ("T5 learned, fused", 8192, 1.4),
            ("T5 fixed, fused", 8192, 1.0),
            ("T5 learned, FlexAttention", 8192, 1.5),
        )
    ]
    verdicts = {goal.what: (goal.verdict, goal.where) for goal in gpu_page.goals(rows)}
    assert verdicts["T5 learned, fused: of FlexAttention"] == ("met", "D=64 S=8k both")
    assert verdicts["T5 learned, fused: of fixed"] == ("NOT met", "D=64 S=8k both")
    assert verdicts["KERPLE learned, fused: of fixed"] == ("not measured", "")
