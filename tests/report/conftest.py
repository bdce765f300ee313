from __future__ import annotations

from pathlib import Path

import pytest

from tests.report import synthetic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return synthetic.make(tmp_path / "quickstart")
