"""Which tests hold an encoding to a reference: found by reading the test files, not by a list that could go stale."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from posjax.errors import InputError

ORACLES = ("oracles", "golden")
"""What the names of the test modules with independent numbers contain."""


@dataclass(frozen=True)
class References:
    """The test file of an encoding and its reference tests there, each with the oracles that it compares with."""

    file: Path
    tests: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def oracles(self) -> bool:
        return any(oracles for _, oracles in self.tests)


def of(name: str, kind: type, tests: Path) -> References:
    """The reference tests of the encoding with that public name.

    They stand in the file that mirrors its module. A test counts when it, or what it calls in its file, names the
    encoding and an oracle; where none does, the tests that name it themselves and are more than one of errors.

    Errors: `InputError` where there is no such file or test.
    """
    file = _mirror(kind, tests)
    tree = ast.parse(file.read_text())
    defined = {found: node for node in tree.body for found in _defines(node)}
    aliases = dict(_modules(tree))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    reached = [(node.name, _reached(node, defined)) for node in functions]
    held = [(test, _nearest(name, _oracles(nodes, aliases))) for test, nodes in reached if name in _names(nodes)]
    found = tuple((test, oracles) for test, oracles in held if oracles)
    found = found or tuple((node.name, ()) for node in functions if name in _names([node]) and not _raises(node))
    if not found:
        raise InputError(f"no reference test of {name} in {file}: write one that compares it with an oracle")
    return References(file, found)


def _mirror(kind: type, tests: Path) -> Path:
    """tests/encodings/test_rope.py for posjax.encodings.rope, test_schedules.py for what is inside the schedules."""
    parts = kind.__module__.split(".")[1:]
    for upto in range(len(parts), 0, -1):
        path = tests.joinpath(*parts[: upto - 1], f"test_{parts[upto - 1]}.py")
        if path.is_file():
            return path
    raise InputError(
        f"{kind.__name__} of {kind.__module__} has no test file in {tests}: its reference test belongs in "
        f"{tests.joinpath(*parts[:-1], f'test_{parts[-1]}.py')}"
    )


def _defines(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _modules(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The local name and the own name of each imported module of references."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "tests":
            for alias in node.names:
                if any(word in alias.name for word in ORACLES):
                    yield alias.asname or alias.name, alias.name


def _reached(start: ast.stmt, defined: dict[str, ast.stmt]) -> list[ast.stmt]:
    """A statement, and whatever in its file it uses, directly or not."""
    nodes = [start]
    for node in nodes:
        nodes += [defined[name] for name in sorted(_names([node])) if name in defined and defined[name] not in nodes]
    return nodes


def _names(nodes: list[ast.stmt]) -> set[str]:
    """The names that are read, with `posjax.Rope` as Rope."""
    every = [inner for node in nodes for inner in ast.walk(node)]
    return {node.id for node in every if isinstance(node, ast.Name)} | {
        node.attr for node in every if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "posjax"
    }


def _oracles(nodes: list[ast.stmt], aliases: dict[str, str]) -> set[str]:
    """The functions of reference modules, "oracles.rope", and the files of golden vectors."""
    found: set[str] = set()
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in [
            f"{a}.{f}" for a in aliases for f in ("load", "cases")
        ]:
            found.add(ast.literal_eval(node.args[0]))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            found.add(f"{aliases[node.value.id]}.{node.attr}")
    return {name for name in found if name.rpartition(".")[2] not in ("load", "cases")}


def _nearest(name: str, oracles: set[str]) -> tuple[str, ...]:
    """The oracles of that very name, or those that begin alike, or else all of them; golden vectors stay."""
    golden = [oracle for oracle in oracles if oracle.endswith(".json")]
    functions = sorted(oracles - set(golden))
    ours, theirs = _flat(name), {oracle: _flat(oracle.rpartition(".")[2]) for oracle in functions}
    same = [oracle for oracle in functions if theirs[oracle] == ours]
    alike = [oracle for oracle in functions if theirs[oracle].startswith(ours) or ours.startswith(theirs[oracle])]
    return tuple([*(same or alike or functions), *sorted(golden)])


def _flat(name: str) -> str:
    return name.replace("_", "").lower()


def _raises(node: ast.stmt) -> bool:
    return any(isinstance(inner, ast.Attribute) and inner.attr == "raises" for inner in ast.walk(node))
