"""Files are whole or not there, and damage is told."""

from __future__ import annotations

import os

import pytest

from posjax.errors import InputError, StorageError
from posjax.files import read_json, write_json

pytestmark = pytest.mark.versionless


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed here")))
        with pytest.raises(StorageError, match="killed here"):
            write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}


def test_damaged_json_is_told(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_json(tmp_path / "run.json")


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "results[1].json"
    left = tmp_path / f".{path.name}.posjax-part-0123456789abcdef"
    # As users call theirs: each letter of a date is one of a hexadecimal number.
    others = [tmp_path / f".{path.name}.{end}" for end in ("keepsake", "20251127", "0123456789abcdef")]
    for old in (left, *others):
        old.write_text("old")
        os.utime(old, (0, 0))
    write_json(path, {})
    assert not left.exists() and all(other.exists() for other in others)


def test_a_part_that_is_killed_is_one_that_is_removed(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: None)
        patch.setattr(type(path), "unlink", lambda *_, **__: None)
        write_json(path, {})
    (left,) = tmp_path.iterdir()
    os.utime(left, (0, 0))
    write_json(path, {})
    assert [found.name for found in tmp_path.iterdir()] == ["results.json"]
