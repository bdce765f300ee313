"""The families of published models, a file each; the first one of a model type's name reads it."""

from __future__ import annotations

from posjax.interop.families import llama
from posjax.interop.family import Family

FAMILIES: tuple[Family, ...] = (llama.FAMILY,)

NAMED = {name: family for family in FAMILIES for name in family.names}
"""By what their configurations call them."""
BEYOND: dict[str, str] = {}
