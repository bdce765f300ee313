"""Frozen values as pytrees, put together again without their checks.

JAX puts into a tree what is no value of it: axes to map over, marks of what a filter keeps, placeholders. A check that
runs then accuses whoever has made no mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax


def register(kind: type, data: Sequence[str], static: Sequence[str] = ()) -> None:
    """Registers a frozen dataclass: the fields `data` are its leaves or trees, `static` ones are a part of its type."""

    def flatten(value: Any) -> tuple[list[Any], tuple[Any, ...]]:
        leaves = [getattr(value, name) for name in data]
        return leaves, tuple(getattr(value, name) for name in static)

    def flatten_with_keys(value: Any) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        leaves, kept = flatten(value)
        keys = [jax.tree_util.GetAttrKey(name) for name in data]
        return list(zip(keys, leaves, strict=True)), kept

    def unflatten(kept: tuple[Any, ...], leaves: Iterable[Any]) -> Any:
        made = object.__new__(kind)
        for name, part in zip((*data, *static), (*leaves, *kept), strict=True):
            object.__setattr__(made, name, part)
        return made

    jax.tree_util.register_pytree_with_keys(kind, flatten_with_keys, unflatten, flatten)
