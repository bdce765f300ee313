"""A model on a mesh of Explicit axes, where an embedding's gather would ask how its result is to lie."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jax.sharding import PartitionSpec

from posjax import mesh
from posjax.models.memory import Memory


def by_compiler(model: nnx.Module, method: str, specs: Any, *arguments: Any, **given: Any) -> Any:
    """A method's results, which lie as `specs` say; within, the compiler places everything."""
    graph, state = nnx.split(model)

    def run(state: Any, arguments: Any, given: Any) -> Any:
        inside = nnx.merge(graph, state)
        return getattr(inside, method)(*arguments, **given)

    return mesh.by_compiler(run, specs, state, arguments, given)


def expect_whole(tokens: jax.Array, what: str) -> None:
    """Errors: `NotImplementedError` for tokens that lie split over a mesh of Explicit axes, for what reads a cache."""
    if mesh.explicit_axes() and any(mesh.spec_of(tokens)):
        raise NotImplementedError(
            f"{what} takes no tokens that are split over Explicit axes, {mesh.spec_of(tokens)}: make the mesh of "
            "Auto axes, where they may be, or give them whole"
        )


def memory_specs(source: jax.Array, positions: Any, real: Any) -> Any:
    """How a memory of a source `[B, S]` lies: its rows as those of the source."""
    rows: Any = mesh.spec_of(source)
    at: Any = None
    held: Any = None
    if positions is not None:
        at = rows
        # The same for every row.
        if positions.ndim == 1:
            at = PartitionSpec()
    # With positions, those that are negative are told apart in any case.
    if real is not None or positions is not None:
        held = rows
    return Memory(rows, at, held)
