"""The documents' examples run, and their commands are the ones that the project answers to."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_examples_run_one_after_the_other(recwarn):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) >= 3
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["y"].shape == (2, 100, 64)
    assert set(namespace["gradients"]["1"]) == {"table"}


def test_what_the_readme_points_to_is_there():
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\(((?!http)[^)#]+)\)", text) + re.findall(r"configs/\w+\.py|tests/\w+\.py", text):
        assert (ROOT / path).exists(), path
