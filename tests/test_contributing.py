"""Adding an encoding costs what CONTRIBUTING says, one file and one line, and the suite then holds it to the laws."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEADER = """from dataclasses import dataclass

import jax.numpy as jnp

from posjax.encodings.base import RelativeBias


"""
LAWS = "Step and (tile or one_token or packed or common_offset or any_field)"


def with_encoding(folder: Path, body: str) -> subprocess.CompletedProcess:
    """A copy of the tree with one file and one line more, and some of its laws run on what they add."""
    for name in ("posjax", "experiments", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "setup.cfg", folder)
    (folder / "posjax/encodings/step.py").write_text(HEADER + body)
    registry, line = folder / "posjax/encodings/__init__.py", "from posjax.encodings.step import Step\n"
    registry.write_text(registry.read_text().replace("from posjax.encodings.t5", line + "from posjax.encodings.t5", 1))
    command = [sys.executable, "-m", "pytest", "tests/test_laws.py", "-n0", "-vv", "-p", "no:cacheprovider"]
    # Those under the mark "exhaustive" too: another encoding of its sort may stand for it by default.
    command += ["-m", "", "-k", LAWS]
    # The name that a bare class prints is looked up among the public ones, where a second line would put it.
    public = folder / "posjax/__init__.py"
    public.write_text(public.read_text() + "\nfrom posjax.encodings.step import Step  # noqa: E402\n")
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(folder)}
    )


@pytest.mark.exhaustive
def test_the_encoding_of_contributing_is_found_and_passes(tmp_path):
    body = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[0]
    done = with_encoding(tmp_path, body)
    assert done.returncode == 0, done.stdout[-2000:]
    for law in ("test_tile", "test_one_token", "test_two_documents", "test_changing_any_field"):
        assert re.search(rf"{law}\w*\[.*Step\(", done.stdout), law


@pytest.mark.exhaustive
def test_one_that_breaks_a_law_is_caught(tmp_path):
    body = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[0]
    done = with_encoding(tmp_path, body.replace("distance > self.distance", "distance > 4"))
    assert done.returncode == 1 and "any_field" in done.stdout, done.stdout[-2000:]
