"""What a configuration value may hold in its fields, checked at once and by their types."""

from __future__ import annotations

import dataclasses
import numbers
import types
import typing
from typing import Any

import numpy as np

from posjax.arguments import LARGEST
from posjax.errors import InputError

_WIDEST: Any = float(np.finfo(np.float32).max)  # What is computed is float32, where a larger number is infinite.


def check_fields(value: Any, positive: tuple[str, ...] = (), choices: bool = False) -> None:
    """Holds each field of a dataclass to its annotated type, and those named `positive` to 1 or more.

    `choices`: texts are held to those that the type lists; without it the class says itself what each of them means.

    Whole numbers are at most 2^31 - 1 and may not be written as floats; other numbers are finite in float32; tuples
    are tuples; texts can be printed.

    Errors: `InputError` names the class, the field, what it got and what is needed.

    >>> from posjax import Learned
    >>> Learned(length=512.0)
    Traceback (most recent call last):
    posjax.errors.InputError: Learned got length=512.0: needed is a whole number up to 2^31 - 1, such as 512
    """
    try:
        hints = typing.get_type_hints(type(value))
    except NameError:  # A class inside a function, annotated with names that only the function knows.
        return
    for field in dataclasses.fields(value):
        given = _plain(getattr(value, field.name))
        if given is not getattr(value, field.name):
            object.__setattr__(value, field.name, given)
        if not _fits(given, hints[field.name], choices):
            usual = "" if field.default in (dataclasses.MISSING, None) else f", such as {field.default!r}"
            raise InputError(
                f"{type(value).__name__} got {field.name}={_shown(given)}: needed is {_need(hints[field.name])}{usual}"
            )
        if field.name in positive and given is not None and given < 1:
            raise InputError(f"{type(value).__name__} got {field.name}={given}: needed is 1 or more")


def _plain(given: Any) -> Any:
    """Numbers of numpy as Python's own: those of a narrow type would compute, and overflow, in that type."""
    if isinstance(given, tuple):
        each = tuple(map(_plain, given))
        return given if all(a is b for a, b in zip(each, given, strict=True)) else each
    return given.item() if isinstance(given, np.generic) else given


def _shown(given: Any) -> str:
    said = ascii(given) if isinstance(given, str) else repr(given)
    return said if len(said) <= 200 else f"{said[:200]}..."


def _fits(given: Any, hint: Any, choices: bool = False) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(given, one, choices) for one in inner)
    if origin is typing.Literal:
        return isinstance(given, str) and (given in inner or not choices)
    if origin is tuple:
        each = [inner[0]] * len(given) if inner[1:] == (...,) and isinstance(given, tuple) else inner
        return (
            isinstance(given, tuple)
            and len(given) == len(each)
            and all(_fits(one, hint, choices) for one, hint in zip(given, each, strict=True))
        )
    if hint is int:
        return isinstance(given, numbers.Integral) and not isinstance(given, bool) and abs(int(given)) <= LARGEST
    if hint is float:
        return isinstance(given, numbers.Real) and not isinstance(given, bool) and abs(given) <= _WIDEST
    if hint is str:
        return isinstance(given, str) and all(letter.isprintable() or letter in "\n\t" for letter in given)
    return isinstance(given, hint) if isinstance(hint, type) and hint is not Any else True


def _need(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_need(one) for one in inner)
    if origin is typing.Literal:
        *first, last = map(repr, inner)
        return f"{', '.join(first)} or {last}" if first else last
    if origin is tuple:
        return f"a tuple, of which each is {_need(inner[0])}"
    said = {
        int: "a whole number up to 2^31 - 1",
        float: "a finite number (up to 3e38)",
        bool: "True or False",
        str: "a text that can be printed",
        type(None): "None",
    }
    return said.get(hint) or f"a value of {hint.__name__}"
