"""A line can be read aloud in a breath: how much it carries, beside what the rest of the field writes."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import density
from tests.test_architecture import ROOT, SHIPPED, planted, relative

pytestmark = pytest.mark.versionless


@cache
def measured() -> density.Density:
    return density.measure(SHIPPED)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_every_line_can_be_read_aloud(path):
    assert density.heavy(path) == []


def test_statements_are_as_light_as_elsewhere():
    found = measured()
    assert found.percentile(0.5) <= density.MEDIAN_NODES
    assert found.percentile(0.9) <= density.NINETIETH_NODES


def test_conditional_expressions_are_rare():
    found = measured()
    assert found.per_thousand(found.conditionals) <= density.CONDITIONAL_EXPRESSIONS


def test_the_code_says_why():
    found = measured()
    assert found.per_thousand(found.comments) >= density.COMMENTS


def module_of(path: Path) -> str:
    """The dotted name of a file of the repository."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


def imported(tree: ast.AST, modules: set[str]) -> Iterator[tuple[int, str, str]]:
    """(line, module, name) of each name taken from one of `modules`; a module itself is taken with the name ""."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if f"{node.module}.{alias.name}" in modules:
                    yield node.lineno, f"{node.module}.{alias.name}", ""
                elif node.module in modules:
                    yield node.lineno, node.module, alias.name


def private_names(path: Path, modules: set[str]) -> list[str]:
    """The names with an underscore that a file takes from another one."""
    tree = parsed(path)
    taken = list(imported(tree, modules))
    wrong = [f"line {line}: {module}.{name}" for line, module, name in taken if _is_private(name)]
    local = {module.rpartition(".")[2] for _, module, name in taken if not name}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        if node.value.id in local and _is_private(node.attr):
            wrong.append(f"line {node.lineno}: {node.value.id}.{node.attr}")
    return wrong


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def circles(files: dict[str, Path]) -> list[str]:
    """The files that import one another, directly or not, those of `TYPE_CHECKING` and of functions included."""
    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in files.items():
        for _, module, _ in imported(parsed(path), set(files)):
            graph[name].add(module)
    reached = {name: _reached(graph, name) for name in files}
    return sorted(name for name in files if name in reached[name])


def _reached(graph: dict[str, set[str]], name: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[name])
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(graph[module])
    return found


def classes(paths: list[Path]) -> Counter[str]:
    """How often each class name stands at the top of a file."""
    trees = [parsed(path) for path in paths]
    return Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))


FILES = {module_of(path): path for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_no_private_name_crosses_a_file(path):
    assert private_names(path, set(FILES)) == []


def test_no_file_imports_itself_in_a_circle():
    # The front page of a package gathers its files' names, and a file that imports through it may be one of these.
    files = {name: path for name, path in FILES.items() if path.name != "__init__.py"}
    assert circles(files) == []


def test_a_class_name_stands_once():
    assert [name for name, count in classes(SHIPPED).items() if count > 1] == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("x = 1", 0),
        ("a, b = (f(x) for x in y)", 1),
        ("a, b, c = x, y, z", 1),
        ("a, b = x, y", 0),
        (f"x = [{', '.join('ab' for _ in range(30))}]", 1),
    ],
)
def test_a_heavy_line_is_noticed(tmp_path, source, count):
    assert len(density.heavy(planted(tmp_path, source))) == count


@pytest.mark.parametrize(
    "source",
    ["from posjax.axes import _one", "from posjax import axes\naxes._one()", "import posjax.axes as axes\n_x = 1"],
)
def test_a_private_name_is_noticed(tmp_path, source):
    found = private_names(planted(tmp_path, source), {"posjax.axes"})
    assert len(found) == ("_one" in source)


def test_a_circle_is_noticed(tmp_path):
    (tmp_path / "one.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from two import b\n")
    (tmp_path / "two.py").write_text("def b():\n    from three import c\n")
    (tmp_path / "three.py").write_text("import one\n")
    (tmp_path / "four.py").write_text("import one\n")
    files = {path.stem: path for path in tmp_path.glob("*.py")}
    assert circles(files) == ["one", "three", "two"]


def test_what_is_counted(tmp_path):
    path = planted(tmp_path, '"""Said."""\nx = 1 if y else 2  # why\n# and why\n')
    found = density.measure([path])
    assert (found.lines, found.comments, found.conditionals, found.nodes) == (3, 2, 1, (8,))
