"""Kernels that the compiler cannot split, each device's on its own rows and heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from posjax.attention.biases import Bias, ByPosition
from posjax.attention.masks import Mask
from posjax.attention.meshes import bias_specs, free_axes, mask_specs, split_axes
from posjax.attention.scoring import PLAIN, Scoring
from posjax.mesh import kinds_of_axes
from posjax.positions import Index

Attention = Callable[..., tuple[jax.Array, Any]]


@dataclass(frozen=True)
class StaticParts:
    """A tree whose whole numbers are known before run time, and are to stay so inside a shard_map.

    As arguments they would be traced there, and a kernel must know its window and its first query to choose its blocks.
    """

    leaves: tuple[Any, ...]
    structure: Any

    @classmethod
    def of(cls, tree: Any) -> StaticParts:
        """The parts of a tree."""
        leaves, structure = jax.tree.flatten(tree)
        return cls(tuple(leaves), structure)

    def split(self) -> dict[int, Any]:
        """The leaves that are no known numbers, by their place: what has to be an argument."""
        return {n: leaf for n, leaf in enumerate(self.leaves) if not isinstance(leaf, int)}

    def join(self, traced: dict[int, Any]) -> Any:
        """The tree again, with what became of the arguments."""
        leaves = list(self.leaves)
        for n, leaf in traced.items():
            leaves[n] = leaf
        return self.structure.unflatten(leaves)


def per_device(attention: Attention) -> Attention:
    """The same attention, under a mesh of several devices inside a shard_map.

    The mesh is that of `jax.set_mesh`. Batches are split over `data` and `fsdp`, heads over `tensor`, where these
    divide; over other axes the work is repeated. Without a mesh, or on one of Explicit axes, it is left as it is.
    """

    def split(
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        bias: Bias,
        mask: Mask,
        q_offset: Index = 0,
        scoring: Scoring = PLAIN,
    ) -> Any:
        free = free_axes()
        sizes = jax.sharding.get_abstract_mesh().shape
        # Explicit axes are the caller's to take apart: `attention` hands them to the compiler before this is called.
        if all(sizes[name] == 1 for name in free) or AxisType.Explicit in kinds_of_axes().values():
            return attention(q, k, v, bias, mask, q_offset, scoring)
        rows, heads = split_axes(q, k)
        # A spec says of an axis that nothing splits that it is `None`, not that it is empty.
        batch = rows or None
        parts = StaticParts.of((mask, q_offset))
        traced = parts.split()
        # In the order of the parts' leaves, known numbers included: so a place finds its own.
        specs = jax.tree.leaves((mask_specs(mask, batch), PartitionSpec()))
        traced_specs = {n: specs[n] for n in traced}

        def each(q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, traced: dict[int, Any]) -> Any:
            own_mask, own_offset = parts.join(traced)
            return attention(q, k, v, _own_heads(bias, heads, q.shape[2]), own_mask, own_offset, scoring)

        tokens = PartitionSpec(batch, None, heads)
        lse = PartitionSpec(batch, heads)
        # What is replicated is not tracked: no kernel says so of its results.
        run = jax.shard_map(
            each,
            in_specs=(tokens, tokens, tokens, bias_specs(bias, batch, heads), traced_specs),
            out_specs=(tokens, lse),
            axis_names=free,
            check_vma=False,
        )
        return run(q, k, v, bias, traced)

    return split


def _own_heads(bias: Bias, heads: str | None, count: int) -> Bias:
    """The bias of this device's `count` heads, the mesh axis `heads` splitting them.

    A vector has been split with them. An encoding's parameters have not, so it must be told which heads are meant.
    """
    if heads is None or not isinstance(bias, ByPosition):
        return bias
    return bias.of_heads(lax.axis_index(heads) * count, count)
