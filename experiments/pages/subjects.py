"""What has a page: every encoding of the registry and every frequency schedule, with its docstring and its values."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import posjax
from experiments.pages.docstrings import DocstringParts, taken_apart
from posjax.encodings import REGISTRY, Encoding, Schedule, schedules
from posjax.encodings.examples import examples
from posjax.errors import InputError

MADE_BY = {"ByHead": "by_head", "NearFar": "near_far", "Chain": "chain"}
"""The classes that a public function makes: the function is what is explained."""


@dataclass(frozen=True)
class PageSubject:
    """What a page is about: a public name, the class behind it, what carries its docstring, and values of it."""

    name: str
    kind: type[Encoding] | type[Schedule]
    told_by: Callable[..., Any]
    text: DocstringParts
    values: tuple[Any, ...]

    @property
    def is_schedule(self) -> bool:
        return issubclass(self.kind, Schedule)


def subjects() -> list[PageSubject]:
    """Every encoding of the registry, by name, then every schedule.

    Errors: `InputError` for one without a public name, or whose docstring lacks a part.
    """
    found = [_subject(kind) for kind in (*REGISTRY, *_schedule_classes())]
    return sorted(found, key=lambda subject: (subject.is_schedule, subject.name.lower()))


def _schedule_classes() -> list[type[Schedule]]:
    # Schedules register nowhere: an encoding takes any value of the class. The package's names are the list.
    classes = [value for value in vars(schedules).values() if isinstance(value, type)]
    return [kind for kind in classes if issubclass(kind, Schedule) and kind is not Schedule]


def _subject(kind: type[Any]) -> PageSubject:
    name = MADE_BY.get(kind.__name__, kind.__name__)
    told_by = _public(name, kind)
    text = taken_apart(told_by, name)
    values = ()
    if issubclass(kind, Encoding):
        values = examples(kind)
    # Schedules have no examples, and not every encoding needs more than its docstring's.
    if not values:
        values = (_first_value(name, text.example),)
    return PageSubject(name, kind, told_by, text, values)


def _public(name: str, kind: type[Any]) -> Callable[..., Any]:
    """What a user calls to make a value: the page is about that, under that name."""
    told_by = getattr(posjax, name, None)
    if told_by is None:
        raise InputError(
            f"{kind.__name__} of {kind.__module__} has no public name, and its page would have none either: import "
            f"{name} in posjax/__init__.py, or name in MADE_BY of {__name__} the public function that makes it"
        )
    return told_by


def _first_value(name: str, example: str) -> Any:
    """The value that the example makes first, where there are no others."""
    for statement in doctest.DocTestParser().get_examples(example):
        for node in ast.walk(ast.parse(statement.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("posjax.") == name:
                # Examples write the name with the package or without it.
                names = {**vars(posjax), "posjax": posjax}
                return eval(ast.unparse(node), names)
    raise InputError(f"the docstring of {name} has no example with {name}(...): write one, since its page draws it")
