"""`experiments.prepare`, and a config that reads what it has made."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG = """from dataclasses import replace

from posjax.data import Mixture, Packed, StoredText
from tiny import TEXT
from tiny import experiment as tiny


def experiment():
    first, second = tiny().runs
    mixture = Mixture(parts=((TEXT, 1.0), (StoredText("made"), 2.0)))
    runs = replace(first, data=mixture), replace(second, data=Packed(StoredText("made")))
    return replace(tiny(), runs=runs)
"""


def test_a_text_is_prepared_and_read_by_its_name(shell, home):
    first = shell("prepare", "text", "--to", "made", "--validation-share", "0.3")
    assert first.code == 0 and "vocabulary 257" in first.out
    assert shell("prepare", "text", "--to", "made", "--validation-share", "0.3") == first
    Path("stored.py").write_text(CONFIG)
    options = ("--data.parts.0.1", "3.0", "--data.parts.1.0.folder", "made", "--data.data.folder", "./made")
    assert shell("train", "stored.py", *options, "--train.steps", "1").code == 0
    kept = json.loads(Path("runs/stored/rope/run.json").read_text())
    assert "parts=((Text(" in kept["config"] and "3.0), (StoredText(folder='made'), 2.0))" in kept["config"]


def test_what_cannot_be_prepared_is_one_line(shell, home):
    assert "name a folder" in shell("prepare", "text", "--to", "tiny.py").line
    assert "holds a.txt" in shell("prepare", "tiny.py", "--to", "text").line
    assert "does not exist" in shell("prepare", "txt", "--to", "made").line
    assert "begin" in shell("prepare", "text", "--to", "made", "--begin", "<s>").line
    assert not Path("made").exists()
    Path("stored.py").write_text(CONFIG)
    assert "made does not exist" in shell("train", "stored.py").line
    Path("made").mkdir()
    assert "being prepared" in shell("train", "stored.py").line
    assert "unknown option" in shell("train", "tiny.py", "--data.parts.0.1", "3.0").line
