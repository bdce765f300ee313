"""Biases inside kernels for GPUs: what each kind reads, and how its gradient is summed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from posjax.attention.fused import tile
from posjax.attention.fused.kernel import At, KernelBias, ProgramInTile, Refs, SlopeInTile, VectorInTile
from posjax.attention.fused.launch import Launch
from posjax.attention.fused.pairwise.program import head_rows
from posjax.attention.fused.triton_kernels import TritonKernel


class TritonVector(VectorInTile):
    """A bias by distance. Its gradient has a kernel of its own, `triton_kernels.diagonal`."""

    def operands(self, launch: Launch) -> Any:
        """The arrays of the bias."""
        bias: Any = launch.call.bias
        z = launch.sizes
        padded = bias.padded(z.queries, z.keys)
        vector = padded.vector.astype(jnp.float32) * tile.LOG2E
        # Backwards for tiles with keys along their rows: what a warp reads lies in order, and so it stays in shared
        # memory.
        if launch.keys_first:
            return vector
        return vector[:, ::-1]


class TritonSlope(SlopeInTile):
    """A slope for each head."""

    def operands(self, launch: Launch) -> Any:
        """The arrays of the bias."""
        bias: Any = launch.call.bias
        return bias.slopes * tile.LOG2E

    def width(self, launch: Launch) -> int:
        """How many numbers a block of queries gathers: one for each of them."""
        return launch.block.rows

    def no_gradient(self, kernel: TritonKernel, shape: tuple[int, ...]) -> jax.Array:
        """Where the sum of gradients begins."""
        return jnp.zeros((kernel.block.rows, 1), jnp.float32)

    def add_gradient(self, kernel: TritonKernel, refs: Refs, at: At, ds: jax.Array, total: jax.Array) -> jax.Array:
        """The sum of gradients and that of one more tile."""
        return total + self.of_queries(kernel, refs, at, ds)

    def gradient(self, gathered: jax.Array) -> jax.Array:
        """What blocks of queries gathered, `[B, N, blocks, 1, P]`, as the gradient of the slopes `[N, 1]`."""
        # Over the batch, blocks and the queries in them: a number for each, of which only the sum is of use.
        return gathered.sum((0, 2, 3, 4))[:, None]


class TritonProgram(ProgramInTile):
    """A program: the heads' rows, and the positions."""

    def operands(self, launch: Launch) -> Any:
        """The arrays of the bias."""
        bias: Any = launch.call.bias
        floats, integers = head_rows(self.program, bias)
        q_positions, k_positions = launch.positions()
        return floats, integers, q_positions, k_positions

    def width(self, launch: Launch) -> int:
        """How many numbers a block of queries gathers: those of the head's row."""
        return self.program.widths[0]

    def no_gradient(self, kernel: TritonKernel, shape: tuple[int, ...]) -> jax.Array:
        """Where the sum of gradients begins."""
        return jnp.zeros(shape, jnp.float32)

    def add_gradient(self, kernel: TritonKernel, refs: Refs, at: At, ds: jax.Array, total: jax.Array) -> jax.Array:
        """The sum of gradients and that of one more tile."""
        return self.onto_row(kernel, refs, at, ds, total)

    def gradient(self, gathered: jax.Array) -> jax.Array:
        """What blocks of queries gathered, `[B, N, blocks, 1, P]`, as the gradient of the heads' rows `[N, P]`."""
        # Arrays of a kernel are as wide as a power of two: what is past the row's end is nobody's.
        return gathered.sum((0, 2, 3))[:, : self.program.widths[0]]


BIASES: dict[str, type[KernelBias]] = {
    "distance": TritonVector,
    "slope": TritonSlope,
    "position": TritonProgram,
}
"""How kernels for GPUs evaluate each kind of bias."""
