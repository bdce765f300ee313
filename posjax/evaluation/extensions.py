"""Rotary encodings past their trained length, without further training: the extensions that have names.

An extension is a value. Those here can be asked for by name, "yarn", and with one factor for every length, "yarn@8";
others, of the forms in `extending`, are values in a config.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from posjax.encodings import (
    NTK,
    Encoding,
    Interpolation,
    Llama3,
    NTKByParts,
    Pinned,
    Regrouped,
    Rope,
    Yarn,
    near_far,
)
from posjax.errors import InputError
from posjax.evaluation.extending import Extension, Rebased, Rotary, SharperQueries, Standing, scheduled
from posjax.fields import AtLeast, check_fields

ExtensionName = Literal[
    "linear",
    "ntk",
    "ntk-doubled",
    "dynamic-ntk",
    "yarn",
    "parts",
    "llama3",
    "base",
    "self-extend",
    "rerope",
    "log-n",
    "drop",
]
"""The extensions that have a name of their own."""

AT = "@"
"""Between such a name and the factor that it has at every length."""


ExtensionLike = ExtensionName | Extension
"""An extension, or the name of one."""


@dataclass(frozen=True)
class Static(Extension):
    """Another extension with one factor at every length, the trained one too: what stretching costs short contexts.

    >>> Static(8.0, "linear").apply(Rope(), 2.0, 64).schedule, Static(8.0).name
    (Interpolation(factor=8.0), 'yarn@8')
    """

    factor: Annotated[float, AtLeast(1)] = 8.0
    extension: ExtensionLike = "yarn"

    always = True

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def name(self) -> str:
        return f"{given(self.extension).name}{AT}{self.factor:g}"

    @property
    def title(self) -> str:
        return f"{given(self.extension).title} always {self.factor:g}"

    def suits(self, encoding: Encoding) -> bool:
        return given(self.extension).suits(encoding)

    def apply(self, encoding: Encoding, factor: float, original_length: int) -> Encoding:
        return given(self.extension).apply(encoding, self.factor, original_length)


def _re_rope(part: Rope, factor: float, original_length: int) -> Encoding:
    # Within the trained length nothing has to move, and ReRoPE would pin pairs that the model knows.
    if factor == 1:
        return part
    window = max(original_length // 2, 1)
    return near_far(window, part, Pinned(part, window))


def _self_extend(part: Rope, factor: float, original_length: int) -> Encoding:
    if factor == 1:
        return part
    window = max(original_length // 2, 1)
    # The smallest group that keeps the farthest pair within the trained length. Shifted by window - window // group, as
    # in the paper, it could stand one token past that; rounded up here, it never does.
    group = math.ceil(2 * factor - 1)
    return near_far(window, part, Regrouped(part, group, shift=window - math.ceil(window / group)))


EVERY: tuple[Extension, ...] = (
    scheduled("linear", "linear", lambda factor, _: Interpolation(factor)),
    scheduled("ntk", "NTK", lambda factor, _: NTK(factor)),
    # With the factor itself the slowest pair alone is stretched whole: practice takes a larger one.
    scheduled("ntk-doubled", "NTK doubled", lambda factor, _: NTK(2.0 * factor)),
    # That of transformers' `DynamicNTK` with a factor of 2, whose growth is 2 length / trained length - 1.
    scheduled("dynamic-ntk", "dynamic NTK", lambda factor, _: NTK(2.0 * factor - 1.0)),
    scheduled("yarn", "YaRN", lambda factor, length: Yarn(factor, length)),
    # YaRN without its temperature.
    scheduled("parts", "NTK by parts", lambda factor, length: NTKByParts(factor, length)),
    scheduled("llama3", "Llama 3", lambda factor, length: Llama3(factor, length)),
    Rebased(),
    Rotary("self-extend", "Self-Extend", _self_extend),
    Rotary("rerope", "ReRoPE", _re_rope),
    SharperQueries(),
    scheduled("drop", "dropped", lambda *_: Standing(), always=True),
)
"""In the order of their names."""


def given(extension: ExtensionLike) -> Extension:
    """The extension itself, where it may be a name. Errors: `InputError` for a name that none has.

    >>> given("yarn@8")
    Static(factor=8.0, extension='yarn')
    """
    if isinstance(extension, Extension):
        return extension
    name, at, factor = extension.partition(AT)
    known = {each.name: each for each in EVERY}
    if name not in known:
        raise InputError(
            f"there is no extension {extension!r}: needed is one of {', '.join(known)}, and for one factor at every "
            f"length {AT} and the factor behind it, such as yarn{AT}8"
        )
    if not at:
        return known[name]
    try:
        number = float(factor)
    except ValueError as error:
        raise InputError(f"the extension {extension!r} has no number behind {AT}: write it as yarn{AT}8") from error
    return Static(number, name)  # type: ignore[arg-type]


def extended(encoding: Encoding, how: ExtensionLike, factor: float, original_length: int) -> Encoding:
    """The encoding extended by a factor, zero-shot, from the length that it was trained at.

    A factor of 1 leaves it as it is, but for "ntk-doubled" and what is `always` there. "self-extend" and "rerope" are
    `near_far` forms, whose near pairs are fewer than half of the trained length apart: they change distances, so that
    no pair stands farther apart than in training.

    >>> extended(Rope(), "linear", 4.0, 64).schedule
    Interpolation(factor=4.0)
    >>> extended(Rope(), "rerope", 4.0, 64).far.distance
    32
    """
    return given(how).apply(encoding, factor, original_length)
