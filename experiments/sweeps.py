"""Sweeps: each run once for every value of some of its fields, under a name that says which."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.choices import at
from posjax.errors import InputError
from posjax.runs import Run

Override = Callable[[Run, Sequence[str]], tuple[Run, tuple[str, ...]]]
"""A run with the options of a command line, and what of them it does not know."""

SHORT = {"learning_rate": "lr"}
"""Fields that have a shorter name in a run's."""


@dataclass(frozen=True)
class Axis:
    """One field and the values that it takes, each as the words of a command line."""

    field: str
    values: tuple[tuple[str, ...], ...]

    @property
    def option(self) -> str:
        return f"--{self.field}"

    @property
    def path(self) -> list[str]:
        return self.field.replace("-", "_").split(".")


def axes(sweep: Sequence[tuple[str, str]], seeds: str | None) -> tuple[Axis, ...]:
    """What a command line sweeps over. Errors: `InputError` for a field without values, or given twice."""
    pairs = list(sweep)
    if seeds is not None:
        # Last, so that the seeds of one setting stand together.
        pairs.append(("seed", seeds))
    found = []
    for field, text in pairs:
        # Words as of a shell: a field of several, such as a tuple, takes them quoted.
        values = tuple(tuple(shlex.split(value)) for value in text.split(","))
        if not all(values):
            raise InputError(
                f"the sweep of {field} is {text!r}: needed are values with commas between, such as 1e-3,3e-3"
            )
        found.append(Axis(field.replace("_", "-"), values))
    fields = [axis.field for axis in found]
    twice = sorted({field for field in fields if fields.count(field) > 1})
    if twice:
        raise InputError(f"{twice[0]} is swept twice: give all of its values at once, with commas between")
    return tuple(found)


def require_free(axes: Sequence[Axis], arguments: Sequence[str]) -> None:
    """Errors: `InputError` for a field that is both swept and given."""
    given = {word.partition("=")[0].replace("_", "-") for word in arguments}
    for axis in axes:
        if axis.option in given:
            raise InputError(f"{axis.option} is given and swept: take one of the two away")


def expanded(run: Run, axes: Sequence[Axis], override: Override) -> tuple[list[Run], set[str]]:
    """A run at each product of the values, and the words that none of them knows.

    A field that a run lacks, or that only one kind of its optimisers has, is swept where it is there. Errors:
    `InputError` for two values that make one name.
    """
    made: dict[str, Run] = {}
    unknown_to_all = None
    # The last field fastest: runs that differ in the seed alone stand together.
    for values in itertools.product(*(axis.values for axis in axes)):
        words: list[str] = []
        for axis, value in zip(axes, values, strict=True):
            words += [axis.option, *value]
        # All at once: a field may be there by the kind that another axis chooses.
        changed, unknown = override(run, words)
        unknown_to_all = in_both(unknown_to_all, set(unknown))
        one = _named(changed, [axis for axis in axes if axis.option not in unknown])
        # The same value in two spellings is one run; two values that are written alike would share a folder.
        if made.setdefault(one.name, one) != one:
            raise InputError(f"two values of the sweep make the name {one.name}: sweep over one of them at a time")
    return list(made.values()), unknown_to_all or set()


def in_both(before: set[str] | None, now: set[str]) -> set[str]:
    """What is in both sets, or in the one of now where there is none before."""
    if before is None:
        return now
    return before & now


def _named(run: Run, axes: Sequence[Axis]) -> Run:
    """A run under the name of its values; nothing is added where nothing is swept."""
    # A path's end is what a reader calls the field; all of it would be most of a name.
    leaves = [axis.path[-1] for axis in axes]
    name, label = run.name, run.label
    for axis in axes:
        short = SHORT.get(axis.path[-1], axis.path[-1])
        # Fields of one name lie at two paths, of which the whole is told.
        if leaves.count(axis.path[-1]) > 1:
            short = ".".join(axis.path)
        # As the run has it, and not as it was typed: 1e-3 and 0.001 are one folder.
        value = at(run, axis.path)
        name += f"-{short}{_in_name(value)}"
        label += f" {short}={_shown(value)}"
    return replace(run, name=name, label=label)


def _in_name(value: Any) -> str:
    """A value as part of a folder's name: the same however it was typed."""
    shown = re.sub(r"[^A-Za-z0-9._+=-]", "_", _shown(value))
    # A number ends the field's name by itself.
    if shown[:1].isdigit():
        return shown
    return f"={shown}"


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    if isinstance(value, tuple):
        return "+".join(map(_shown, value))
    return str(value)


def spelled(sweep: Sequence[tuple[str, str]], seeds: str | None) -> list[str]:
    """The words that ask for a sweep again."""
    said: list[str] = []
    for field, values in sweep:
        said += ["--sweep", field, values]
    if seeds is not None:
        said += ["--seeds", seeds]
    return said
