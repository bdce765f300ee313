"""How much a line of the code carries: `python tests/density.py posjax/report` prints it for a folder or a file.

A statement here is an assignment, a return or an expression; its nodes are those of Python's syntax tree. What the rest
of the field writes stands beside each limit: a reader who comes from there should not have to slow down here.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NODES_ON_A_LINE = 40
"""The most that one physical line of a statement may carry."""
MEDIAN_NODES, NINETIETH_NODES = 12, 29
"""Nodes of a statement, at the median and at the ninetieth percentile: optax's."""
CONDITIONAL_EXPRESSIONS = 3.5
"""In 1,000 lines: optax's."""
COMMENTS = 40.0
"""Comment lines in 1,000 lines, the docstrings of encodings not counted; the field has 66 to 187."""

STATEMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr)


@dataclass
class Density:
    """What was counted in some files."""

    lines: int = 0
    comments: int = 0
    conditionals: int = 0
    nodes: tuple[int, ...] = ()

    def per_thousand(self, count: int) -> float:
        return 1000.0 * count / max(self.lines, 1)

    def percentile(self, share: float) -> int:
        ordered = sorted(self.nodes) or [0]
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a file, docstrings left out."""
    for node in ast.walk(tree):
        if isinstance(node, STATEMENTS) and not _is_docstring(node):
            yield node


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def size(node: ast.AST) -> int:
    return sum(1 for _ in ast.walk(node))


def measure(paths: list[Path]) -> Density:
    """The density of some files together."""
    found = Density()
    for path in paths:
        text = path.read_text()
        tree = ast.parse(text)
        found.lines += len(text.splitlines())
        if "encodings" in path.parts:
            found.lines -= _docstring_lines(tree)
        found.comments += _comments(text)
        found.conditionals += sum(isinstance(node, ast.IfExp) for node in ast.walk(tree))
        found.nodes += tuple(size(node) for node in statements(tree))
    return found


def _comments(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def _docstring_lines(tree: ast.AST) -> int:
    found = [node for node in ast.walk(tree) if _is_docstring(node)]
    return sum(node.end_lineno - node.lineno + 1 for node in found)


def heavy(path: Path) -> list[str]:
    """What cannot be read aloud in a breath."""
    wrong = []
    for node in statements(ast.parse(path.read_text())):
        per_line = size(node) / (node.end_lineno - node.lineno + 1)
        if per_line > NODES_ON_A_LINE:
            wrong.append(f"line {node.lineno}: {per_line:.0f} nodes on a line")
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Tuple):
            continue
        if isinstance(node.value, ast.GeneratorExp):
            wrong.append(f"line {node.lineno}: a tuple unpacked from a generator")
        if isinstance(node.value, ast.Tuple) and len(node.targets[0].elts) > 2:
            wrong.append(f"line {node.lineno}: more than two values assigned at once")
    return wrong


def python_files(given: str) -> list[Path]:
    path = Path(given)
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def main(folders: list[str]) -> None:
    paths = [path for folder in folders for path in python_files(folder)]
    for path in paths:
        for line in heavy(path):
            print(f"{path}: {line}")
    for name, group in [*((str(path), [path]) for path in paths), ("together", paths)]:
        found = measure(group)
        print(
            f"{name}: {found.lines} lines, nodes {found.percentile(0.5)} and {found.percentile(0.9)}, "
            f"conditional expressions {found.per_thousand(found.conditionals):.1f}, "
            f"comments {found.per_thousand(found.comments):.1f} in 1,000 lines"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
