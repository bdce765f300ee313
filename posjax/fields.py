"""What a configuration value may hold in its fields, checked at once and by their types."""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from typing import Any

from posjax.errors import InputError

_LARGEST = 2**31 - 1  # Lengths and positions are int32.


def check_fields(value: Any) -> None:
    """Holds each field of a dataclass to its annotated type.

    Whole numbers are at most 2^31 - 1 and may not be written as floats; other numbers are finite; tuples are tuples.

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
        given = getattr(value, field.name)
        if not _fits(given, hints[field.name]):
            usual = "" if field.default in (dataclasses.MISSING, None) else f", such as {field.default!r}"
            raise InputError(f"{type(value).__name__} got {field.name}={given!r}: needed is "
                             f"{_need(hints[field.name])}{usual}")


def _fits(given: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(given, one) for one in inner)
    if origin is typing.Literal:  # Which of them it may be, each class says itself, and what they mean.
        return isinstance(given, str)
    if origin is tuple:
        each = [inner[0]] * len(given) if inner[1:] == (...,) and isinstance(given, tuple) else inner
        return isinstance(given, tuple) and len(given) == len(each) and all(map(_fits, given, each))
    if hint is int:
        return isinstance(given, numbers.Integral) and not isinstance(given, bool) and abs(int(given)) <= _LARGEST
    if hint is float:
        return isinstance(given, numbers.Real) and not isinstance(given, bool) and math.isfinite(given)
    return isinstance(given, hint) if isinstance(hint, type) and hint is not Any else True


def _need(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_need(one) for one in inner)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin is tuple:
        return f"a tuple, of which each is {_need(inner[0])}"
    said = {int: "a whole number up to 2^31 - 1", float: "a finite number", bool: "True or False", str: "a text",
            type(None): "None"}
    return said.get(hint) or f"a value of {hint.__name__}"
