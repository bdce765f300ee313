"""The CPU benchmark at tiny sizes: what it measures is right and complete. Never how long anything took."""

import json
from dataclasses import replace

import pytest

from experiments.benchmarks.common import peers
from experiments.benchmarks.common.cases import ENCODINGS, Case, Unable
from experiments.benchmarks.common.peers import BASELINE, OURS, PEERS, SDPA
from experiments.benchmarks.cpu import page as cpu_page, rows as cpu_rows
from experiments.benchmarks.cpu.rows import UNBIASED, CpuRow, Limits
from tests.experiments.benchmarks.pages import committed, narrow, tables_of

# Where torch is installed, importing it is noisy.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
LIMITS = Limits(rounds=1, memory=1.0, longest=60.0, row_seconds=1.0, all_peers=True)


def test_the_attention_page_is_that_of_its_numbers():
    numbers, page = committed("attention")
    rows = [CpuRow(**row) for row in numbers["rows"]]
    assert cpu_page.page(rows, numbers["command"], numbers["machine"]) == page
    told = [(goal.what, goal.worst, goal.verdict) for goal in cpu_page.goals(rows)]
    assert told == [(goal["what"], goal["worst"], goal["verdict"]) for goal in numbers["goals"]]


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_a_peer_that_computes_something_else_is_called_out(monkeypatch):
    """Without its bias, the materialised attention is not the same attention."""
    wrong = replace(
        PEERS[1],
        prepare=lambda case, budget: PEERS[1].prepare(replace(case, name="NoPE", encoding=ENCODINGS["NoPE"]), budget),
    )
    monkeypatch.setattr(cpu_rows, "PEERS", (PEERS[0], wrong))
    rows = cpu_rows.measure(Case("Alibi", ENCODINGS["Alibi"], 16, True, 2, 8), LIMITS, ())
    assert {row.peer: row.agrees for row in rows} == {OURS: True, UNBIASED: None, BASELINE: False}


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
