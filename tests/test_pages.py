"""Every file and every function that a document names is there, so that who follows it never meets a dead end."""

import ast
import re
from pathlib import Path

import pytest

from posjax import axes

pytestmark = pytest.mark.versionless

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
NAMED = re.compile(r"`((?:posjax|experiments|tests|configs)/[\w/]+\.py)(?:: ([\w.]+))?`")
TO_COME = {"posjax/encodings/step.py", "tests/encodings/test_step.py"}
"""What CONTRIBUTING asks of whoever adds its example."""


def names_in(path: Path) -> set[str]:
    """The classes, functions, values and methods of a module: `Class.method` for the last."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            methods = [inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)]
            found |= {node.name, *(f"{node.name}.{method}" for method in methods)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def missing(text: str) -> list[str]:
    """What a text names as `path.py` or `path.py: name` and is not there."""
    gone = []
    for path, name in NAMED.findall(text):
        if path in TO_COME:
            continue
        file = ROOT / path
        if not file.is_file() or (name and name not in names_in(file)):
            gone.append(f"{path}: {name}".removesuffix(": "))
    return gone


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_names_is_there(name):
    assert missing((ROOT / name).read_text()) == []


def test_links_go_where_their_words_say():
    text = (ROOT / "docs/read-the-code.md").read_text()
    links = re.findall(r"\[`([\w/]+\.py)(?:: [\w.]+)?`\]\(\.\./([^)]+)\)", text)
    assert len(links) > 60
    assert [link for link in links if link[0] != link[1]] == []


def test_what_is_not_there_is_noticed():
    text = "`posjax/axes.py`, `posjax/axes.py: check`, `posjax/axes.py: nothing`, `posjax/nowhere.py: check`"
    assert missing(text) == ["posjax/axes.py: nothing", "posjax/nowhere.py: check"]
    assert missing("`posjax/encodings/rope.py: Rope.rotate`, `posjax/encodings/rope.py: Rope.turn`") == [
        "posjax/encodings/rope.py: Rope.turn"
    ]


def test_the_glossary_has_every_letter_of_the_alphabet():
    alphabet = re.findall(r"\b([A-Z])(?: = [A-Z] / [A-Z])? +[a-z]|\b([A-Z]) =", (axes.__doc__ or "").split("\n\n")[1])
    letters = {one or other for one, other in alphabet}
    assert len(letters) == 12
    glossary = (ROOT / "docs/glossary.md").read_text()
    assert letters == set(re.findall(r"^\| `([A-Z])` \|", glossary, re.M))
