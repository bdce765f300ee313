"""Fields that hold one of several kinds of values: which kind is an option too, such as `--train.optimizer Lion`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from posjax.errors import InputError

Value = TypeVar("Value")


def with_chosen(value: Value, arguments: Sequence[str]) -> tuple[Value, list[str]]:
    """A value with the kinds that a command line names, each at its own defaults; and the rest of the command line.

    Where the kind that is named is there already, it stays as it is. Errors: `InputError` for a kind that the field
    does not take.
    """
    taken: set[int] = set()
    options = [place for place, word in enumerate(arguments) if word.startswith("--")]
    # The outer ones first, in whatever order they are given: a new optimiser has a schedule of its own.
    for place in sorted(options, key=lambda place: arguments[place].partition("=")[0].count(".")):
        option, equals, text = arguments[place].partition("=")
        path = option[2:].replace("-", "_").split(".")
        kinds = _kinds(value, path)
        behind = arguments[place + 1 : place + 2]
        # An option without a word behind it is for others to refuse.
        if not kinds or not (equals or behind):
            continue
        taken.add(place)
        if not equals:
            text = behind[0]
            taken.add(place + 1)
        value = _with_kind(value, path, _chosen(option, text, kinds))
    return value, [word for place, word in enumerate(arguments) if place not in taken]


def at(value: Any, path: Sequence[str]) -> Any:
    """What lies at a path of fields and of places in tuples. Errors: `LookupError` where nothing does."""
    for name in path:
        if isinstance(value, tuple) and name.isdecimal():
            value = value[int(name)]
        elif dataclasses.is_dataclass(value) and name in _fields(value):
            value = getattr(value, name)
        else:
            raise LookupError(name)
    return value


def _fields(value: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(value)}


def _kinds(value: Any, path: Sequence[str]) -> dict[str, type]:
    """The kinds of values that a field takes, by their names; none unless it takes several."""
    *above, last = path
    try:
        holder = at(value, above)
        at(holder, [last])
    except LookupError:
        return {}
    # A place in a tuple is no field, and keeps the kind that it has.
    if not dataclasses.is_dataclass(holder):
        return {}
    # Where the class stands, since annotations are texts here.
    hint = typing.get_type_hints(type(holder)).get(last)
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return {}
    every = [kind for member in typing.get_args(hint) for kind in _kinds_of(member)]
    # A base stands for the kinds that users write, and is none itself.
    kinds = [kind for kind in every if not any(issubclass(other, kind) and other != kind for other in every)]
    if not any(map(dataclasses.is_dataclass, kinds)):
        return {}
    return {_name(kind): kind for kind in kinds}


def _kinds_of(member: Any) -> list[type]:
    """What a member of a union stands for: itself, or all that derives from it where it is a contract, as a task is."""
    if not isinstance(member, type):
        return []
    if _is_choice(member):
        return [member]
    return [kind for below in member.__subclasses__() for kind in _kinds_of(below)]


def _is_choice(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or kind is type(None)


def _name(kind: type) -> str:
    if kind is type(None):
        return "None"
    return kind.__name__


def _chosen(option: str, text: str, kinds: dict[str, type]) -> type:
    # As a shell's user writes: the case of a class's name is Python's affair.
    for name, kind in kinds.items():
        if name.casefold() == text.casefold():
            return kind
    *most, last = kinds
    needed = f"{', '.join(most)} or {last}"
    if not most:
        needed = last
    raise InputError(f"{option} is {text!r}: needed is {needed}; fields of it are options such as {option}.FIELD")


def _with_kind(value: Any, path: Sequence[str], kind: type) -> Any:
    """A value whose part at a path is of a kind: a new one, unless it is of that kind already."""
    if not path:
        # Not at its defaults then: what the config says of it was not taken back.
        if type(value) is kind:
            return value
        try:
            return kind()
        except TypeError as error:
            needs = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
            raise InputError(f"{kind.__name__} needs {', '.join(needs)}: write it into the config") from error
    first, *below = path
    inner = _with_kind(at(value, [first]), below, kind)
    if isinstance(value, tuple):
        place = int(first)
        return (*value[:place], inner, *value[place + 1 :])
    return dataclasses.replace(value, **{first: inner})
