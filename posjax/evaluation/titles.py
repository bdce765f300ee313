"""How variants are called in tables and figures."""

from __future__ import annotations

from posjax.errors import InputError
from posjax.evaluation.extensions import given


def title(variant: str) -> str:
    """A variant as people read it; its own name where it has no other.

    >>> title("yarn"), title("linear@8"), title("windowed"), title("raw")
    ('YaRN', 'linear always 8', 'window', 'raw')
    """
    if variant == "windowed":
        return "window"
    try:
        return given(variant).title  # type: ignore[arg-type]
    except InputError:
        # A way to fill a table, or an extension of a config's own, which tables call as it is.
        return variant
