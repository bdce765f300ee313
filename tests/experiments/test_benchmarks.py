"""The benchmark commands at tiny sizes: what they measure is right and complete. Never how long anything took."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
import pytest

import posjax
from experiments.benchmarks.common import cases, pages, peers, timing
from experiments.benchmarks.common.cases import ENCODINGS, Case, Unable
from experiments.benchmarks.common.peers import BASELINE, OURS, PEERS, SDPA
from experiments.benchmarks.cpu import page as cpu_page
from experiments.benchmarks.cpu import rows as cpu_rows
from experiments.benchmarks.cpu.rows import UNBIASED, CpuRow, Limits
from experiments.benchmarks.gpu import page as gpu_page
from experiments.benchmarks.gpu import rows as gpu_rows
from experiments.benchmarks.gpu import workers
from experiments.benchmarks.memory import page as memory_page
from experiments.benchmarks.memory.program import MemoryOptions
from experiments.benchmarks.memory.rows import MemoryRow
from experiments.benchmarks.rope import page as rope_page
from experiments.benchmarks.rope import rows as rope
from experiments.benchmarks.rope.program import RotationOptions

ROOT = Path(__file__).resolve().parents[2]
# Where torch is installed, importing it is noisy.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
LIMITS = Limits(rounds=1, memory=1.0, longest=60.0, row_seconds=1.0, all_peers=True)


def tables_of(text):
    """The Markdown tables of a page, each as rows of cells; every row of a table has as many cells as its head."""
    found, before = [], False
    for line in text.splitlines():
        now = line.startswith("| ")
        if now:
            if not before:
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = now
    assert all(len({len(row) for row in table}) == 1 for table in found)
    return found


def narrow(text):
    assert max(map(len, text.split("Left out")[0].splitlines())) <= 80, text


# Pages ----------------------------------------------------------------------------------------------------------------
def committed(name):
    """The numbers of a benchmark as they are committed, and its page."""
    numbers = json.loads((ROOT / f"experiments/results/benchmarks/{name}.json").read_text())
    return numbers, (ROOT / f"docs/benchmarks/{name}.md").read_text()


def test_the_attention_page_is_that_of_its_numbers():
    numbers, page = committed("attention")
    rows = [CpuRow(**row) for row in numbers["rows"]]
    assert cpu_page.page(rows, numbers["command"], numbers["machine"]) == page
    told = [(goal.what, goal.worst, goal.verdict) for goal in cpu_page.goals(rows)]
    assert told == [(goal["what"], goal["worst"], goal["verdict"]) for goal in numbers["goals"]]


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


def test_the_rotation_page_is_that_of_its_numbers():
    numbers, page = committed("rope")
    rows = [rope.RotationRow(**row) for row in numbers["rows"]]
    assert rope_page.page(rows, RotationOptions().sizes(), numbers["command"], numbers["machine"]) == page
    assert rope_page.goal(rows) == numbers["goal"]


def test_the_gpu_page_is_that_of_its_numbers():
    numbers, page = committed("gpu")
    rows = [gpu_rows.GpuRow(**row) for row in numbers["rows"]]
    taken = gpu_page.Taken(numbers["command"], numbers["seconds"], numbers["sizes"])
    made = gpu_page.page(rows, taken, numbers["machine"])
    # From its table on: the prose says how the next rows will be taken, and these were taken before.
    assert made.partition("| TFLOP/s")[2] == page.partition("| TFLOP/s")[2] != ""
    told = [(goal.what, goal.worst, goal.verdict) for goal in gpu_page.goals(rows)]
    assert told == [(goal["what"], goal["worst"], goal["verdict"]) for goal in numbers["goals"]]


def test_results_go_to_the_repositorys_folders_or_to_one_of_the_callers(tmp_path):
    assert pages.folders(None).numbers != pages.folders(None).pages
    pages.write(pages.folders(tmp_path / "mine"), "some", {"rows": [1.5]}, "# Some\n")
    assert json.loads((tmp_path / "mine/some.json").read_text()) == {"rows": [1.5]}
    assert (tmp_path / "mine/some.md").read_text() == "# Some\n"


# Attention ------------------------------------------------------------------------------------------------------------
def test_attention_writes_a_table_json_and_a_figure(shell, tmp_path):
    answer = shell(
        "benchmarks.attention",
        "--lengths",
        "64",
        "--rounds",
        "1",
        "--encodings",
        "Rope",
        "T5Bias",
        "--heads",
        "2",
        "--head-size",
        "8",
        "--out",
        tmp_path,
    )
    assert answer.code == 0
    narrow(answer.out)
    content = json.loads((tmp_path / "attention.json").read_text())
    assert {"date", "processor", "cores", "versions"} <= set(content["machine"])
    rows = [CpuRow(**row) for row in content["rows"]]
    asked = {(e, p.name, b) for e in ("Rope", "T5Bias") for p in PEERS for b in (False, True)}
    assert asked <= {(r.encoding, r.peer, r.backward) for r in rows}
    for row in rows:
        timed = row.cpu is not None and row.wall is not None and row.samples == 1
        assert timed if not row.why else row.cpu is None, row
        assert (row.ours is None) == (row.peer == OURS or bool(row.why)), row
        if row.peer in (OURS, BASELINE):
            assert timed and row.agrees and row.halved == (row.peer == OURS), row
    summary, forward, _, details = tables_of((tmp_path / "attention.md").read_text())
    assert [row[0] for row in summary[2:]] == [goal["what"] for goal in content["goals"]] and forward[0][1] == "64"
    assert len(details) - 2 == len([row for row in rows if "no such" not in row.why])
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")


def test_a_peer_that_is_not_installed_has_a_row_that_says_so(monkeypatch):
    absent = peers.Peer("not there", lambda *_: pytest.fail("asked of a package that is not there"), ("no_such_pkg",))
    monkeypatch.setattr(cpu_rows, "PEERS", (PEERS[0], absent))
    *_, row = cpu_rows.measure(Case("NoPE", ENCODINGS["NoPE"], 16, False, 1, 8), LIMITS, ())
    assert row.peer == "not there" and row.cpu is None and row.why == "no_such_pkg is not installed"


def test_a_peer_that_fails_costs_its_own_row_alone(monkeypatch):
    def broken(case, budget):
        raise RuntimeError("no kernel\nand more")

    monkeypatch.setattr(cpu_rows, "PEERS", (PEERS[0], peers.Peer("broken", broken), PEERS[1]))
    rows = cpu_rows.measure(Case("NoPE", ENCODINGS["NoPE"], 16, True, 1, 8), LIMITS, ())
    assert [row.why for row in rows] == ["", "RuntimeError: no kernel", ""] and rows[2].agrees


def test_a_peer_that_computes_something_else_is_called_out(monkeypatch):
    """Without its bias, the materialised attention is not the same attention."""
    wrong = replace(
        PEERS[1],
        prepare=lambda case, budget: PEERS[1].prepare(replace(case, name="NoPE", encoding=ENCODINGS["NoPE"]), budget),
    )
    monkeypatch.setattr(cpu_rows, "PEERS", (PEERS[0], wrong))
    rows = cpu_rows.measure(Case("Alibi", ENCODINGS["Alibi"], 16, True, 2, 8), LIMITS, ())
    assert {row.peer: row.agrees for row in rows} == {OURS: True, UNBIASED: None, BASELINE: False}


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_whole_bias_agrees_with_ours_in_output_and_every_gradient(name):
    case = Case(name, ENCODINGS[name], 24, True, 2, 8)
    ours, theirs = (peer.prepare(case, 1.0) for peer in PEERS[:2])
    want, got = (ready.numbers(ready.call.finished()) for ready in (ours, theirs))
    assert set(want) == set(got) == {"out", "dq", "dk", "dv", *(f"d {p}" for p in case.params)}
    assert cases.error(got, want) < 2e-4
    wrong = {key: x + 1e-2 * np.abs(x).max() for key, x in got.items()}
    assert all(cases.error({key: wrong[key]}, want) > 1e-3 for key in ("out", "dq", "dk", "dv"))


def test_what_is_timed_is_the_whole_derivative():
    case = Case("T5Bias", ENCODINGS["T5Bias"], 24, True, 2, 8)
    params, q, k, v, d_out = peers.arguments(case)
    out, pull = jax.vjp(lambda p, q, k, v: posjax.attend(q, k, v, encoding=case.encoding, params=p), params, q, k, v)
    (d_params, dq, dk, dv) = pull(d_out)
    want = {"out": out, "dq": dq, "dk": dk, "dv": dv, "d table": d_params["table"]}
    ready = peers.ours(case, 1.0)
    got = ready.numbers(ready.call.finished())
    assert cases.error(got, {name: np.asarray(x) for name, x in want.items()}) < 1e-5 and set(got) == set(want)


def test_what_would_not_fit_or_would_take_too_long_is_left_out():
    case = Case("T5Bias", ENCODINGS["T5Bias"], 256, True, 2, 8)
    with pytest.raises(Unable, match="GiB"):
        peers.materialised(case, budget=1e-4)
    before = [CpuRow("T5Bias", peer.name, 16, True, True, 1.0, 1.0) for peer in PEERS]
    rows = cpu_rows.measure(case, LIMITS, before)
    assert all(
        "would take about 256 s" in row.why or "not installed" in row.why for row in rows if row.peer != UNBIASED
    ), rows


def goals_of(whole, plain, sdpa):
    rows = [
        CpuRow("T5Bias", peer, 4096, backward, True, ours=ours)
        for peer, ours in ((BASELINE, whole), (UNBIASED, plain), (SDPA, sdpa))
        for backward in (False, True)
    ]
    return [goal.verdict for goal in cpu_page.goals(rows)][1::2]


def test_the_goals_are_met_or_not():
    assert goals_of(0.33, 1.1, 0.5) == ["met"] * 3
    assert goals_of(0.5, 1.25, 0.67) == ["NOT met"] * 3
    assert goals_of(None, None, None) == ["not measured"] * 3


def test_the_worst_case_counts():
    rows = [
        CpuRow("Alibi", BASELINE, length, True, True, ours=ours)
        for length, ours in ((1024, 0.9), (2048, 0.1), (4096, 0.4))
    ]
    goal = cpu_page.goals(rows)[1]
    assert goal.worst == pytest.approx(0.4) and goal.where == "Alibi, 4k" and goal.verdict == "met"


def test_a_ratio_is_taken_within_each_round():
    """The second and third rounds ran on a machine three times as slow; their ratios say nothing of it."""
    assert timing.ratio([1.0, 3.0, 3.0], [2.0, 6.0, 6.0, 2.0, 2.0]) == 0.5
    assert timing.ratio([1.0], [2.0, 6.0, 6.0]) == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    "options, said",
    [
        (("--encodings", "Ropes"), "Ropes"),
        (("--lengths", "1"), "--lengths"),
        (("--rounds", "0"), "--rounds"),
        (("--fast",), "--fast"),
        (("--dtype", "float16"), "float32"),
    ],
)
def test_a_mistake_is_one_line(shell, options, said):
    assert said in shell("benchmarks.attention", *options).line


def test_samples_are_taken_in_turns_until_a_row_has_had_its_time():
    order = []

    def call(name):
        return timing.Timed(lambda: order.append(name), lambda _: None)

    times = timing.interleave({"a": call("a"), "b": call("b")}, 3, {"a": 1.0, "b": 1.0})
    assert order == ["a", "b"] * 3 and len(times["a"].cpu) == len(times["b"].wall) == 3
    order.clear()
    assert len(timing.interleave({"a": call("a")}, 3, {"a": 1.0}, most=0.0)["a"].cpu) == 1 and order == ["a"]
    order.clear()
    timing.interleave({"a": call("a")}, 1, {"a": timing.AT_LEAST / 10})
    assert 10 <= len(order) <= 11  # One of them is not timed.


# Memory ---------------------------------------------------------------------------------------------------------------
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
        "--long.model-size",
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


# Rotation -------------------------------------------------------------------------------------------------------------
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


# GPU ------------------------------------------------------------------------------------------------------------------
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
    assert "is not installed: posjax's encodings and attention were imported without the rest" in done.stdout
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
