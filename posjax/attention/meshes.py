"""How arrays of attention lie on the current mesh: batches over `data` and `fsdp`, heads over `tensor`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from posjax.attention.biases import Bias, ByContent, ByDistance, ByPosition, Slope
from posjax.attention.masks import Both, Dense, Either, Mask
from posjax.attention.token_masks import First, Global, Segments
from posjax.encodings.base import Dims, Encoding, Params
from posjax.encodings.parameters import counts_heads
from posjax.errors import InputError
from posjax.mesh import BATCH, HEADS, kinds_of_axes


def free_axes() -> set[str]:
    """The mesh axes that no surrounding shard_map has taken."""
    return {name for name, kind in kinds_of_axes().items() if kind != AxisType.Manual}


def varies_over(tree: Any) -> set[str]:
    """The axes of a surrounding `jax.shard_map` over which arrays differ."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return {name for array in arrays for name in jax.typeof(array).manual_axis_type.varying}


def is_split(x: Any, name: str) -> bool:
    """Whether a surrounding shard_map has split an array along an axis of this name.

    Where the shard_map does not check what varies, an axis by the name is taken to split it.
    """
    if kinds_of_axes().get(name) != AxisType.Manual:
        return False
    # What varies is known where an index does, and an array that does not is whole on each device.
    is_known = bool(varies_over(lax.axis_index(name)))
    return not is_known or name in varies_over(x)


def check_heads_told(encoding: Encoding, params: Params, q: jax.Array) -> None:
    """Errors: `InputError` inside a shard_map that splits heads, for an encoding that must know which ones it has."""
    if not is_split(q, HEADS):
        return
    _, _, N, H = q.shape
    if counts_heads(encoding, params, Dims(heads=N, head_size=H)):
        raise InputError(
            f"{encoding!r} goes by a head's number among all heads, and inside a shard_map over {HEADS!r} each device "
            "has some of them: call attend outside it, where a mesh splits heads by itself, or pass what follows from "
            f"the number in params, encoding.join(params, constants) of all heads split by PartitionSpec({HEADS!r})"
        )


def vary_alike(tree: Any, *others: Any) -> Any:
    """The arrays of a tree, made to differ over every axis of a `shard_map` over which any of all arrays does.

    A loop's carry must differ from its first round on; and what was alike gets the sum of its gradients over the axes.
    """
    axes = varies_over((tree, *others))
    if not axes:  # Outside a shard_map, or all alike.
        return tree

    def cast(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        missing = axes - varies_over(leaf)
        if not missing:
            return leaf
        return lax.pcast(leaf, tuple(sorted(missing)), to="varying")

    return jax.tree.map(cast, tree)


def split_axes(q: jax.Array, k: jax.Array) -> tuple[tuple[str, ...], str | None]:
    """The mesh axes that split the batch and the heads; those that a surrounding shard_map split are done with."""
    sizes, free = jax.sharding.get_abstract_mesh().shape, free_axes()
    batch = []
    devices = 1
    for name in BATCH:
        # An axis that would leave a device part of a row is not used: the work is then repeated along it.
        if name in free and q.shape[0] % (devices * sizes[name]) == 0:
            batch.append(name)
            devices *= sizes[name]
    # The key-value heads decide, so that each device has whole groups of query heads.
    if HEADS in free and k.shape[2] % sizes[HEADS] == 0:
        return tuple(batch), HEADS
    return tuple(batch), None


def bias_specs(bias: Bias, batch: Any, heads: str | None, along: str | None = None) -> Any:
    """Where a described bias lies; positions are split `along` an axis, if one is given."""
    each_head: Any = PartitionSpec(heads)
    if isinstance(bias, Slope):
        return replace(bias, vector=each_head, slopes=each_head)
    if isinstance(bias, ByDistance):
        return replace(bias, vector=each_head)
    if isinstance(bias, ByPosition):
        lines: Any = PartitionSpec(None if bias.q_positions.shape[0] == 1 else batch, along)
        whole: Any = PartitionSpec()
        return replace(bias, params=whole, q_positions=lines, k_positions=lines, first_head=whole)
    if isinstance(bias, ByContent):
        raise NotImplementedError("an encoding that scores content is not split over a mesh by hand")
    return None


def mask_specs(mask: Mask, batch: Any) -> Any:
    """Where the arrays of a mask lie: those of a row with their row."""
    if isinstance(mask, Both | Either):
        return type(mask)(mask_specs(mask.first, batch), mask_specs(mask.second, batch))
    if isinstance(mask, Dense):
        return replace(mask, pairs=_by_rows(mask.pairs, batch), first=PartitionSpec())
    if isinstance(mask, Segments | Global) or (isinstance(mask, First) and np.ndim(mask.size)):
        return jax.tree.map(lambda ids: _by_rows(ids, batch), mask)
    return jax.tree.map(lambda _: PartitionSpec(), mask)


def _by_rows(array: Any, batch: Any) -> PartitionSpec:
    """Where an array with a line for each row lies; one line for all rows is on every device."""
    if array.shape[0] == 1:
        return PartitionSpec(None)
    return PartitionSpec(batch)
