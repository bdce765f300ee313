"""How arrays of attention lie on the current mesh: batches over `data` and `fsdp`, heads over `tensor`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from posjax.attention.biases import Bias, ByContent, ByDistance, ByPosition
from posjax.attention.masks import Both, Mask, Segments

CONTEXT = "context"
"""The mesh axis that splits the sequence."""
BATCH = ("data", "fsdp")
"""The mesh axes that split the batch, where it divides."""
HEADS = "tensor"
"""The mesh axis that splits the heads, where the key-value heads divide."""


def kinds_of_axes() -> dict[str, AxisType]:
    """The axes of the current mesh, none where there is no mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return dict(zip(mesh.axis_names, mesh.axis_types, strict=True))


def free_axes() -> set[str]:
    """The mesh axes that no surrounding shard_map has taken."""
    return {name for name, kind in kinds_of_axes().items() if kind != AxisType.Manual}


def split_axes(q: jax.Array, k: jax.Array) -> tuple[tuple[str, ...], str | None]:
    """The mesh axes that split the batch and the heads; those that a surrounding shard_map split are done with."""
    mesh, free = jax.sharding.get_abstract_mesh(), free_axes()
    batch, size = [], 1
    for name in BATCH:
        if name in free and q.shape[0] % (size * mesh.shape[name]) == 0:
            batch.append(name)
            size *= mesh.shape[name]
    return tuple(batch), HEADS if HEADS in free and k.shape[2] % mesh.shape[HEADS] == 0 else None


def bias_specs(bias: Bias, batch: Any, heads: str | None, along: str | None = None) -> Any:
    """Where a described bias lies; positions are split `along` an axis, if one is given."""
    if isinstance(bias, ByDistance):
        each = PartitionSpec(heads)
        return replace(bias, vector=each, slopes=None if bias.slopes is None else each)  # type: ignore[arg-type]
    if isinstance(bias, ByPosition):
        lines = PartitionSpec(None if bias.q_positions.shape[0] == 1 else batch, along)
        return replace(bias, params=PartitionSpec(), q_positions=lines, k_positions=lines)  # type: ignore[arg-type]
    if isinstance(bias, ByContent):
        raise NotImplementedError("an encoding that scores content is not split over a mesh by hand")
    return None


def mask_specs(mask: Mask, batch: Any) -> Any:
    """Where the arrays of a mask lie: those of a row with their row."""
    if isinstance(mask, Both):
        return Both(mask_specs(mask.first, batch), mask_specs(mask.second, batch))
    if isinstance(mask, Segments):
        return jax.tree.map(lambda leaf: PartitionSpec(None if leaf.shape[0] == 1 else batch), mask)
    return jax.tree.map(lambda _: PartitionSpec(), mask)
