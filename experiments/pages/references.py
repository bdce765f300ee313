"""Which tests hold an encoding to a reference: those that say so themselves.

    @pytest.mark.holds(posjax.Fire, to=oracles.fire)
    @pytest.mark.holds(posjax.Rope, to="rope_rotation.json")
    @pytest.mark.holds(posjax.chain, to=None)

A mark names encodings and what the test compares them with: a function of a float64 oracle, the file of golden vectors,
several of these, or None where the test states its numbers by hand.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from posjax.errors import InputError

PACKAGE = "tests.encodings"
"""Where reference tests stand."""
MARK = "holds"


@dataclass(frozen=True)
class ReferenceTest:
    """A test that holds `encodings`, classes or the functions that make them, to `oracles`, by name."""

    name: str
    file: Path
    encodings: tuple[Any, ...]
    oracles: tuple[str, ...]


def marked(package: str = PACKAGE) -> list[ReferenceTest]:
    """Every marked test in the modules of a package, in the order in which they stand.

    Errors: `InputError` where the tests cannot be imported, or a mark does not say what it compares with.
    """
    found: list[ReferenceTest] = []
    for module in _test_modules(package):
        for name, test in vars(module).items():
            if name.startswith("test_"):
                found += _marks_of(name, test)
    return found


def of(subject: Any, tests: list[ReferenceTest]) -> list[ReferenceTest]:
    """Those of the tests that hold an encoding, given as its class or as the public function that makes it.

    Errors: `InputError` where there is none.
    """
    found = [test for test in tests if subject in test.encodings]
    if not found:
        name = f"posjax.{subject.__name__}"
        raise InputError(
            f"no test in {PACKAGE} is marked as holding {name}: write @pytest.mark.{MARK}({name}, to=oracle) above the "
            "test that compares it with an oracle, or to=None above one that states its numbers by hand"
        )
    return found


def _test_modules(package: str) -> Iterator[ModuleType]:
    # The tests are imported rather than read as text: what a mark names then exists, or Python says that it does not.
    try:
        folder = importlib.import_module(package)
        for entry in pkgutil.iter_modules(folder.__path__):
            if entry.name.startswith("test_"):
                yield importlib.import_module(f"{package}.{entry.name}")
    except ModuleNotFoundError as error:
        raise InputError(
            f"the tests in {package} cannot be imported ({error}): pages name the tests that hold an encoding, so run "
            "this in a checkout of posjax, with `pip install -e '.[test]'` done"
        ) from error


def _marks_of(name: str, test: Any) -> Iterator[ReferenceTest]:
    file = Path(inspect.getfile(inspect.unwrap(test)))
    # Decorators apply from the bottom up, and a page lists marks as a reader of the file meets them.
    for mark in reversed(getattr(test, "pytestmark", [])):
        if mark.name != MARK:
            continue
        if "to" not in mark.kwargs:
            raise InputError(
                f"the mark {MARK} of {name} does not say what it compares with: add to=oracle, to='file.json', or "
                "to=None where the test states its numbers by hand"
            )
        yield ReferenceTest(name, file, mark.args, _names_of(mark.kwargs["to"]))


def _names_of(oracles: Any) -> tuple[str, ...]:
    if oracles is None:
        return ()
    if not isinstance(oracles, tuple):
        oracles = (oracles,)
    return tuple(_name_of(oracle) for oracle in oracles)


def _name_of(oracle: Any) -> str:
    """ "oracles.rope" for a function of the module tests.oracles; the file of golden vectors as it is."""
    if isinstance(oracle, str):
        return oracle
    module = oracle.__module__.rpartition(".")[2]
    return f"{module}.{oracle.__name__}"
