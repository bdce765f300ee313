"""Values that a command line calls by a name: extensions, of which a registry or a config knows the rest."""

from __future__ import annotations

import typing

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from posjax.errors import InputError
from posjax.evaluation import Extension, ExtensionLike
from posjax.evaluation.extensions import AT, ExtensionName, given

NAMED = ConstructorRegistry()
"""What tyro is told of them: without it, a tuple that may hold a value would be no option."""


@NAMED.primitive_rule
def _extension(field: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[ExtensionLike] | None:
    if field.type != ExtensionLike:
        return None
    names = ",".join(typing.get_args(ExtensionName))
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{names}}}",
        instance_from_str=_named,
        is_instance=lambda held: isinstance(held, str | Extension),
        str_from_instance=lambda held: [_name(held)],
    )


def _named(words: list[str]) -> ExtensionLike:
    (word,) = words
    if AT not in word:
        # A name stays one, as a config writes it, and what is none the evaluation refuses by its field.
        return word  # type: ignore[return-value]
    try:
        return given(word)  # type: ignore[arg-type]
    except InputError:
        return word  # type: ignore[return-value]


def _name(held: ExtensionLike) -> str:
    if isinstance(held, Extension):
        return held.name
    return held
