"""The schedules that formulas give, by the names of extensions: where a search begins, and what it is compared with."""

from __future__ import annotations

from posjax.encodings import Rope, Schedule
from posjax.evaluation.extending import Extension
from posjax.evaluation.extensions import EVERY, extended


def _is_formula(extension: Extension) -> bool:
    # A near and far form is no `Rope` any more, and what sharpens queries leaves its schedule alone.
    changed = extension.apply(Rope(), 2.0, 64)
    return isinstance(changed, Rope) and changed != Rope()


FORMULAS = tuple(extension.name for extension in EVERY if _is_formula(extension) and not extension.always)
"""The extensions that change frequencies alone, and nothing within the trained length."""


def formula(name: str, factor: float, original_length: int) -> Schedule:
    """The schedule of one of `FORMULAS` at a factor.

    >>> formula("linear", 4.0, 64)
    Interpolation(factor=4.0)
    """
    changed = extended(Rope(), name, factor, original_length)  # type: ignore[arg-type]
    assert isinstance(changed, Rope)
    return changed.schedule
