"""What is built installs and imports outside the checkout, with the files that the package needs."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.exhaustive
def test_a_wheel_imports_outside_the_checkout(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "posjax", source / "posjax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True, cwd=tmp_path, timeout=300)
    (wheel,) = tmp_path.glob("posjax-*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        content.extractall(tmp_path / "installed")
    assert "posjax/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "configs/"))]
    told = "import posjax; print(posjax.__file__, posjax.__version__, posjax.Rope())"
    done = subprocess.run(
        [sys.executable, "-c", told],
        cwd=tmp_path / "installed",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.startswith(str(tmp_path / "installed/posjax")), done.stderr
