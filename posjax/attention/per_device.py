"""Kernels that the compiler cannot split, each device's on its own rows and heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from posjax.attention.biases import Bias, ByPosition
from posjax.attention.masks import Mask
from posjax.attention.meshes import bias_specs, free_axes, kinds_of_axes, mask_specs, split_axes

Attention = Callable[..., tuple[jax.Array, Any]]


def per_device(attention: Attention) -> Attention:
    """The same attention, under a mesh of several devices inside a shard_map.

    The mesh is that of `jax.set_mesh`. Batches are split over `data` and `fsdp`, heads over `tensor`, where these
    divide; over other axes the work is repeated. Without a mesh, or on one of Explicit axes, it is left as it is.
    """

    def split(q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: Any = 0) -> Any:
        free = free_axes()
        sizes = jax.sharding.get_abstract_mesh().shape
        if all(sizes[name] == 1 for name in free) or AxisType.Explicit in kinds_of_axes().values():
            return attention(q, k, v, bias, mask, q_offset)
        rows, heads = split_axes(q, k)
        batch = rows or None
        if isinstance(bias, ByPosition):  # Its heads are counted from the first: they stay together.
            heads = None
        # Numbers known before run time stay known: an argument of a shard_map would be traced.
        numbers, structure = jax.tree.flatten((mask, q_offset))
        traced = {i: number for i, number in enumerate(numbers) if not isinstance(number, int)}
        places = jax.tree.leaves((mask_specs(mask, batch), PartitionSpec()))

        def each(q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, traced: dict[int, Any]) -> Any:
            own = structure.unflatten([traced.get(i, number) for i, number in enumerate(numbers)])
            return attention(q, k, v, bias, *own)

        lines = PartitionSpec(batch, None, heads)
        given = (lines, lines, lines, bias_specs(bias, batch, heads), {i: places[i] for i in traced})
        # What is replicated is not tracked: no kernel says so of its results.
        run = jax.shard_map(
            each, in_specs=given, out_specs=(lines, PartitionSpec(batch, heads)), axis_names=free, check_vma=False
        )
        return run(q, k, v, bias, traced)

    return split
