"""Hold an encoding to every law, and see the worst error of each.

python -m experiments.check 'Rope(base=5e5)'
python -m experiments.check --all
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

import posjax
from experiments import cli
from posjax import invariants
from posjax.encodings import REGISTRY, Chunks, Dims, Encoding, Schedule
from posjax.encodings.examples import examples
from posjax.errors import InputError

DIMS = Dims(heads=6, head_size=16, model_size=96)
SIZED = (
    posjax.Rope(
        schedule=posjax.LongRope(
            4.0,
            4,
            short_factor=(1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0),
            long_factor=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0),
        )
    ),
)
"""Values that fit these sizes alone, and so are no examples of their class."""

MAKERS = ("chain", "by_head", "near_far")
KINDS = (Encoding, Schedule, Chunks)
NAMES: dict[str, Callable[..., Any]] = {
    name: made
    for name, made in {**vars(posjax), "Chunks": Chunks}.items()
    if name in (*dir(posjax), "Chunks") and (name in MAKERS or (isinstance(made, type) and issubclass(made, KINDS)))
}
"""What may be called in the text of an encoding."""


@dataclass(frozen=True)
class CheckOptions:
    """Measure every law that an encoding must obey."""

    encoding: Annotated[str, tyro.conf.Positional] = ""
    """A value as in Python, such as 'chain(Rope(), Alibi())'; its names are those of posjax."""
    all: bool = False
    """Every encoding of the registry, in float32 and bfloat16."""


def command(arguments: Sequence[str]) -> None:
    remedy = "give one encoding in quotes, or --all"
    options = cli.options(CheckOptions, "experiments.check", arguments, remedy)
    if options.all == bool(options.encoding):
        raise InputError("give one encoding in quotes, such as 'Rope(base=5e5)', or --all")
    if options.all:
        values = [example for kind in REGISTRY for example in examples(kind)]
        values += SIZED
        dtypes = ("float32", "bfloat16")
    else:
        values = [value(options.encoding)]
        dtypes = ("float32",)
    broken = []
    for encoding in values:
        for dtype in dtypes:
            findings = invariants.check(encoding, DIMS, dtype)
            broken += [finding for finding in findings if not finding.holds]
    encodings = f"{len(values)} encodings"
    if len(values) == 1:
        encodings = "1 encoding"
    print(f"{encodings}, {len(broken)} laws broken")
    if broken:
        raise SystemExit(1)


def value(text: str) -> Encoding:
    """The encoding that a text spells: calls of posjax's own names with literals, and nothing else is run.

    Errors: `InputError` that says what is wrong with it.
    """
    try:
        found = built(text, NAMES)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError, MemoryError) as error:
        raise InputError(
            f"{text[:200]!r} is not an encoding: {error}; write one as in Python, such as 'Rope(base=5e5)'"
        ) from error
    if not isinstance(found, Encoding):
        raise InputError(f"{text[:200]!r} is a {type(found).__name__}; needed is an encoding, such as 'Rope(base=5e5)'")
    return found


def built(text: str, names: Mapping[str, Callable[..., Any]], kind: str = "encoding or schedule") -> Any:
    """What a text spells by calls of these names. Errors: `InputError` for another name, and those of Python."""
    return _value(ast.parse(text.strip(), mode="eval").body, names, kind)


def _value(node: ast.expr, names: Mapping[str, Callable[..., Any]], kind: str) -> Any:
    if isinstance(node, ast.Call):
        made = None
        # A bare name: an attribute, however it is spelled, may lead out of posjax.
        if isinstance(node.func, ast.Name):
            made = names.get(node.func.id)
        if made is None:
            known = difflib.get_close_matches(ast.unparse(node.func), names, n=1, cutoff=0.0)[0]
            raise InputError(f"{ast.unparse(node.func)} is no {kind} of posjax: the nearest is {known}")
        if any(word.arg is None for word in node.keywords):
            raise InputError("** stands for arguments that are not written out: write each by its name")
        named = {str(word.arg): _value(word.value, names, kind) for word in node.keywords}
        return made(*(_value(part, names, kind) for part in node.args), **named)
    if isinstance(node, ast.Tuple):
        return tuple(_value(part, names, kind) for part in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise InputError(f"{ast.unparse(node)} is more than a number, a text or a tuple of these") from error


if __name__ == "__main__":
    cli.program(command)
