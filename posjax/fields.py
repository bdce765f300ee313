"""What a configuration value may hold in its fields, checked at once and by their types.

A field's annotation says what it holds: a type, the texts of a `Literal`, or a type with a range, written as
`Annotated[float, Above(1)]`. Constructors then check only what several fields say together.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from posjax.arguments import LARGEST
from posjax.errors import InputError

_WIDEST: Any = float(np.finfo(np.float32).max)
"""What is computed is float32, where a larger number is infinite."""


Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Above:
    """A range: numbers larger than `bound`. `hint` ends the sentence that says so."""

    bound: float
    hint: str = ""

    def holds(self, given: Any) -> bool:
        return given > self.bound

    @property
    def need(self) -> str:
        if self.bound == 0:
            return f"a positive number{self.hint}"
        return f"a number above {self.bound}{self.hint}"


@dataclass(frozen=True)
class AtLeast:
    """A range: numbers of `bound` or more. `meaning` begins the sentence that says so, `hint` ends it."""

    bound: float
    meaning: str = ""
    hint: str = ""

    def holds(self, given: Any) -> bool:
        return given >= self.bound

    @property
    def need(self) -> str:
        least = f"{self.bound} or more{self.hint}"
        if not self.meaning:
            return least
        return f"{self.meaning}, {least}"


@dataclass(frozen=True)
class Share:
    """A range: parts of a whole, above 0 and up to 1. `whole` says of what."""

    whole: str

    def holds(self, given: Any) -> bool:
        return 0 < given <= 1

    @property
    def need(self) -> str:
        return f"a share of {self.whole} in (0, 1]"


RANGES = (Above, AtLeast, Share)


@dataclass(frozen=True)
class AsIn:
    """Who uses each text of a `Literal`, in their order: whoever wrote another finds theirs."""

    users: tuple[str, ...]


def check_fields(value: Any, positive: tuple[str, ...] = ()) -> None:
    """Holds each field of a dataclass to its annotated type and range, and those named `positive` to 1 or more.

    Whole numbers are at most 2^31 - 1 and may not be written as floats; other numbers are finite in float32; tuples
    are tuples; texts can be printed, and are among those that a `Literal` lists.

    Errors: `InputError` names the class, the field, what it got and what is needed.

    >>> from posjax import Learned
    >>> Learned(length=512.0)
    Traceback (most recent call last):
    posjax.errors.InputError: Learned got length=512.0: needed is a whole number up to 2^31 - 1, such as 512
    """
    # Annotations are texts here, and resolved where their class stands.
    try:
        hints = typing.get_type_hints(type(value), include_extras=True)
    except NameError:  # A class inside a function, annotated with names that only the function knows.
        return
    for field in dataclasses.fields(value):
        _check_field(value, field, hints[field.name])
        given = getattr(value, field.name)
        if field.name in positive and given is not None and given < 1:
            raise _refusal(value, field.name, str(given), "1 or more")


def moved(**now: str) -> Callable[[type[Kind]], type[Kind]]:
    """Makes a dataclass tell, where it is given a field that it had once, how that is written now.

    Errors: `InputError`, from its constructor.

    >>> from posjax.training import AdamW
    >>> AdamW(warmup=0.1)
    Traceback (most recent call last):
    posjax.errors.InputError: AdamW got warmup=0.1: that field has moved; write AdamW(schedule=Cosine(warmup=...))
    """

    def decorated(kind: type[Kind]) -> type[Kind]:
        construct = kind.__init__

        # Its signature stays that of the fields, which command lines and editors read.
        @functools.wraps(construct)
        def constructor(self: Any, *given: Any, **fields: Any) -> None:
            for name in now.keys() & fields.keys():
                raise InputError(
                    f"{kind.__name__} got {name}={_shown(fields[name])}: that field has moved; "
                    f"write {kind.__name__}({now[name]})"
                )
            construct(self, *given, **fields)

        kind.__init__ = constructor
        return kind

    return decorated


def brief(self: Any) -> str:
    """The call that makes a value, without the fields that are at their defaults: a `__repr__` of nested values.

    >>> from posjax.models import Norm
    >>> Norm(kind="layer")
    Norm(kind='layer')
    """
    told = []
    for field in dataclasses.fields(self):
        held = getattr(self, field.name)
        # A field without a default differs from the mark that stands for none.
        if held != field.default:
            told.append(f"{field.name}={held!r}")
    return f"{type(self).__name__}({', '.join(told)})"


def _check_field(value: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    hint, extras = _taken_apart(hint)
    given = _plain(getattr(value, field.name))
    if given is not getattr(value, field.name):
        # A frozen dataclass has no other way to replace what it was given.
        object.__setattr__(value, field.name, given)
    if not _fits(given, hint):
        usual = f", such as {field.default!r}"
        # The texts of a Literal are all named already, and of a field without a default nothing is usual.
        if typing.get_origin(hint) is typing.Literal or field.default in (dataclasses.MISSING, None):
            usual = ""
        raise _refusal(value, field.name, _shown(given), _need(hint, extras) + usual)
    for held_to in extras:
        if isinstance(held_to, RANGES) and given is not None and not held_to.holds(given):
            raise _refusal(value, field.name, str(given), held_to.need)


def _refusal(value: Any, name: str, given: str, need: str) -> InputError:
    return InputError(f"{type(value).__name__} got {name}={given}: needed is {need}")


def _taken_apart(hint: Any) -> tuple[Any, list[Any]]:
    """A type, and the ranges and users that it is annotated with."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, []
    inner, *extras = typing.get_args(hint)
    return inner, extras


def _plain(given: Any) -> Any:
    """Numbers of numpy as Python's own: those of a narrow type would compute, and overflow, in that type."""
    if isinstance(given, np.generic):
        return given.item()
    if not isinstance(given, tuple):
        return given
    each = tuple(map(_plain, given))
    # The same tuple where nothing changed, so that the caller sees by identity that it may stay.
    if all(a is b for a, b in zip(each, given, strict=True)):
        return given
    return each


def _shown(given: Any) -> str:
    """What was given, short and in letters that every terminal shows."""
    shown = repr(given)
    if isinstance(given, str):
        shown = ascii(given)
    if len(shown) <= 200:
        return shown
    return f"{shown[:200]}..."


def _fits(given: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    inner = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(given, one) for one in inner)
    if origin is typing.Literal:
        return isinstance(given, str) and given in inner
    if origin is tuple:
        return isinstance(given, tuple) and _fits_each(given, inner)
    # True and False are whole numbers to Python, and here they are a mistake.
    if hint in (int, float) and isinstance(given, bool):
        return False
    if hint is int:
        return isinstance(given, numbers.Integral) and abs(int(given)) <= LARGEST
    if hint is float:
        return isinstance(given, numbers.Real) and abs(given) <= _WIDEST  # False for NaN.
    if hint is str:
        return isinstance(given, str) and all(letter.isprintable() or letter in "\n\t" for letter in given)
    if isinstance(hint, type) and hint is not Any:
        return isinstance(given, hint)
    # Of any other annotation nothing is known.
    return True


def _fits_each(given: tuple[Any, ...], hints: tuple[Any, ...]) -> bool:
    """Whether the entries of a tuple fit: each its own type, or all the one of `tuple[type, ...]`."""
    if hints[1:] == (...,):
        hints = (hints[0],) * len(given)
    if len(given) != len(hints):
        return False
    return all(_fits(one, hint) for one, hint in zip(given, hints, strict=True))


def _need(hint: Any, extras: Sequence[Any] = ()) -> str:
    """What a type asks for, in words."""
    origin = typing.get_origin(hint)
    inner = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_need(one) for one in inner)
    if origin is typing.Literal:
        return _listed([repr(text) for text in inner], extras)
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


def _listed(texts: list[str], extras: Sequence[Any]) -> str:
    """The texts of a `Literal` as a list in a sentence, with who uses them."""
    for extra in extras:
        if isinstance(extra, AsIn):
            texts = [f"{text} ({user})" for text, user in zip(texts, extra.users, strict=True)]
    *first, last = texts
    if not first:
        return last
    return f"{', '.join(first)} or {last}"
