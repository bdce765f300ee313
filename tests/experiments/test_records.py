"""A record of results is the finished runs of a folder as one table: the same runs make the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments import record, records
from posjax.errors import InputError
from posjax.files import write_json
from posjax.results import Measurement, Measurements

pytestmark = pytest.mark.versionless

NAMES = ("rope-s0", "rope-s1", "alibi-s0")


def run_folder(work: Path, name: str, measurements: list[dict[str, Any]] | None = None, **results: Any) -> None:
    label, seed = name.split("-s")
    manifest = {
        "name": name,
        "label": label.upper(),
        "config_tree": {"seed": int(seed)},
        "corpus": "0123-4567",
        "commit": "abc+",
        "device_kind": "cpu",
        "versions": {"jax": "1"},
    }
    write_json(work / name / "run.json", manifest)
    if measurements is not None:
        told = {"name": name, "tokens": 10, "parameters": 20, "seconds": {"train": 1.5, "evaluate": 0.5}, **results}
        write_json(work / name / "results.json", {**told, "measurements": measurements})


def row(multiple: int, value: float, metric: str = "loss", **more: Any) -> dict[str, Any]:
    return {
        "metric": metric,
        "evaluation": "extrapolation",
        "variant": "raw",
        "multiple": multiple,
        "value": value,
    } | more


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    command = "python -m experiments.run configs/suite.py"
    asked = {"name": "suite", "title": "A suite", "command": command, "created": "2026-01-01", "runs": list(NAMES)}
    write_json(folder / "experiment.json", {**asked, "commands": dict.fromkeys(NAMES, command)})
    for i, name in enumerate(NAMES):
        run_folder(folder, name, [row(1, 1.5 + i), row(2, 2.5 + i, low=2.0, high=3.0, count=64)])
    return folder


def kept(work: Path, to: Path, *arguments: str) -> records.Record:
    record.command([str(work), "--to", str(to), *arguments])
    return records.read(to.name, to.parent)


def test_a_record_is_one_table_with_the_coordinates_of_its_runs(work, tmp_path, capsys):
    found = kept(work, tmp_path / "results/suite")
    assert capsys.readouterr().out.split() == [
        str(tmp_path / f"results/suite/{name}") for name in ("table.csv", "about.json")
    ]
    assert found.table.names == ("suite", "run", "label", "seed", "evaluation", "variant", "multiple")
    one = found.table.one("loss", label="ROPE", seed=1, multiple=2)
    assert (one.value, one.low, one.count, one.at("suite"), one.at("run")) == (3.5, 2.0, 64, "suite", "rope-s1")
    assert [found.table.one(name, run="rope-s0").value for name in ("seconds_train", "tokens", "parameters")] == [
        1.5,
        10,
        20,
    ]


def test_about_says_how_it_was_made_and_names_no_path(work, tmp_path):
    about = kept(work, tmp_path / "suite").about
    assert about["commands"] == ["python -m experiments.run configs/suite.py"]
    assert (about["date"], about["commits"], about["versions"], about["corpora"]) == (
        "2026-01-01",
        ["abc+"],
        [{"jax": "1"}],
        ["0123-4567"],
    )
    assert about["seconds"] == {"train": 4.5, "evaluate": 1.5} and about["runs"] == 3
    assert set(about["machine"]) == {"processor", "cores"}
    text = "".join((tmp_path / f"suite/{name}").read_text() for name in (records.TABLE, records.ABOUT))
    assert str(tmp_path) not in text and str(Path.home()) not in text


def test_the_same_runs_make_the_same_bytes(work, tmp_path):
    for name in ("one", "two"):
        kept(work, tmp_path / name)
    for file in (records.TABLE, records.ABOUT):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    again = records.read("one", tmp_path)
    assert again.table.csv() == (tmp_path / "one" / records.TABLE).read_text()


def test_what_diverged_or_is_not_finished_is_told(work, tmp_path, capsys):
    (work / "rope-s1/results.json").unlink()
    write_json(work / "rope-s1/diverged.json", {"reason": "NaN"})
    (work / "alibi-s0/results.json").unlink()
    found = kept(work, tmp_path / "suite")
    assert found.about["diverged"] == ["rope-s1"] and found.about["unfinished"] == ["alibi-s0"]
    assert found.table.one("diverged", label="ROPE", seed=1).value == 1
    assert "1 not finished, and not in it: alibi-s0" in capsys.readouterr().out


def test_runs_that_the_last_command_did_not_ask_for_are_kept(work, tmp_path):
    before = kept(work, tmp_path / "suite")
    shutil.copytree(work / "rope-s0", work / "a copy")
    path = work / "experiment.json"
    write_json(path, {**json.loads(path.read_text()), "runs": ["rope-s1"]})
    found = kept(work, tmp_path / "suite")
    assert sorted(found.table.distinct("run")) == sorted(NAMES)
    assert len(found.table) == len(before.table) and found.about["commands"] == before.about["commands"]


def test_bulky_metrics_are_left_out_of_a_table_that_is_too_large(work, tmp_path, monkeypatch):
    many = [row(1, i, "score", distance=i) for i in range(200)]
    run_folder(work, "rope-s0", [row(1, 1.5), *many])
    assert len(kept(work, tmp_path / "all").table.select("score")) == 200
    monkeypatch.setattr(record, "LARGEST", 3000)
    found = kept(work, tmp_path / "few")
    assert found.about["left_out"] == ["score"] and "score" not in found.about["metrics"]
    assert len(found.table.select("loss")) == 5
    monkeypatch.setattr(record, "LARGEST", 100)
    with pytest.raises(InputError, match="keep fewer metrics with --metrics"):
        kept(work, tmp_path / "none")


def test_metrics_may_be_named(work, tmp_path):
    run_folder(work, "rope-s0", [row(1, 1.5), row(1, 0.5, "mass_beyond")])
    found = kept(work, tmp_path / "suite", "--metrics", "mass_beyond")
    assert not found.table.select("loss") and len(found.table.select("mass_beyond")) == 1
    assert found.table.select("tokens")
    with pytest.raises(InputError, match="los was not measured: there are loss, mass_beyond"):
        kept(work, tmp_path / "suite", "--metrics", "los")


def test_mistakes_are_named(work, tmp_path):
    with pytest.raises(InputError, match=r"holds no experiment\.json"):
        kept(tmp_path, tmp_path / "suite")
    run_folder(work, "rope-s0", [])
    results = json.loads((work / "rope-s0/results.json").read_text())
    del results["measurements"]
    write_json(work / "rope-s0/results.json", results)
    with pytest.raises(InputError, match="the results of rope-s0 hold no measurements"):
        kept(work, tmp_path / "suite")
    for name in NAMES:
        (work / name / "results.json").unlink()
    with pytest.raises(InputError, match=r"no run of .* has finished"):
        kept(work, tmp_path / "suite")


def test_a_record_replaces_none_of_another_suite(work, tmp_path):
    write_json(tmp_path / "there/about.json", {"name": "another"})
    with pytest.raises(InputError, match="holds the record of 'another', and this is one of 'suite'"):
        kept(work, tmp_path / "there")
    # Its own it does, but for one on another text.
    told = dict(kept(work, tmp_path / "suite").about)
    kept(work, tmp_path / "suite")
    write_json(tmp_path / "suite/about.json", {**told, "corpora": ["another"]})
    with pytest.raises(InputError, match=r"a record on the text \['another'\]"):
        kept(work, tmp_path / "suite")


def test_a_record_that_is_none_or_damaged_is_named(tmp_path):
    with pytest.raises(InputError, match="there are no results of suite: kept are none"):
        records.read("suite", tmp_path)
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite/table.csv").write_text("metric,value\n")
    with pytest.raises(InputError, match="is damaged"):
        records.read("suite", tmp_path)


def test_a_table_is_kept_by_the_name_of_its_folder(tmp_path):
    table = Measurements((Measurement("loss", 1.0),))
    records.write(records.Record(table, {}), tmp_path / "one")
    assert list(records.tables(tmp_path)) == ["one"] == list(records.names(tmp_path))
    assert records.tables(tmp_path)["one"].csv() == table.csv()
