"""One kernel of one call, before it runs: what the launches of both drivers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.experimental import pallas as pl

from posjax.attention.fused.kernel import KernelBias
from posjax.attention.fused.plan import KernelCall, KernelPlan, TileShape, pad, pad_edge
from posjax.attention.fused.rules import table


class Out(NamedTuple):
    """An output of a kernel: its shape, its dtype, and the block of it that one program writes."""

    shape: tuple[int, ...]
    dtype: Any
    block: pl.BlockSpec

    @property
    def like(self) -> jax.ShapeDtypeStruct:
        """What the whole output is like."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)


class Launch:
    """One kernel of one call: its sizes, what it visits, its bias, and its padded arrays."""

    def __init__(
        self,
        plan: KernelPlan,
        call: KernelCall,
        block: TileShape,
        channels: int,
        biases: Mapping[str, type[KernelBias]],
        keys_first: bool,
    ) -> None:
        self.plan = plan
        self.call = call
        self.block = block
        self.keys_first = keys_first
        self.sizes = call.sizes.padded(block.rows, block.columns, channels)
        self.table = table(call.rule, block.rows, block.columns)
        # What kernels make of the bias; its arrays stay in the call, since this part is static.
        self.bias: Any = None
        if call.bias is not None:
            self.bias = biases[call.bias.kind].of(call.bias, block)

    def tokens(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values, padded to whole blocks."""
        z, call = self.sizes, self.call
        # Zeros: padded queries are cut off afterwards, padded keys masked, and padded channels add nothing.
        q = pad(call.q, z.queries, z.channels)
        k = pad(call.k, z.keys, z.channels)
        v = pad(call.v, z.keys, z.channels)
        return q, k, v

    def ids(self) -> tuple[list[jax.Array], list[jax.Array]]:
        """The segments of queries and of keys, padded to whole blocks; the mask hides padded keys by their index."""
        rule = self.call.rule
        q_ids = [pad_edge(x, self.sizes.queries) for x in rule.q_ids]
        k_ids = [pad_edge(x, self.sizes.keys) for x in rule.k_ids]
        return q_ids, k_ids

    def positions(self) -> tuple[jax.Array, jax.Array]:
        """The positions of a bias by position, padded to whole blocks."""
        bias: Any = self.call.bias
        # A real position once more, and not 0: an encoding need not be finite where no token is.
        q_positions = pad_edge(bias.q_positions, self.sizes.queries)
        k_positions = pad_edge(bias.k_positions, self.sizes.keys)
        return q_positions, k_positions

    def pallas_call(self, body: Callable[..., None], name: str, outs: list[Out], **options: Any) -> Callable[..., Any]:
        """The kernel as a function of what it reads."""
        return pl.pallas_call(
            body,
            out_shape=[out.like for out in outs],
            interpret=self.plan.interpret,
            name=f"posjax_fused_{name}",
            **options,
        )
