"""Biases inside kernels for TPUs: what each kind reads, where that lies, and where its gradient gathers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pallas_tpu

from posjax.attention.fused import tile
from posjax.attention.fused.kernel import At, KernelBias, ProgramInTile, Refs, SlopeInTile, VectorInTile
from posjax.attention.fused.launch import Launch
from posjax.attention.fused.mosaic_kernels import MosaicKernel, diagonal_sums, row
from posjax.attention.fused.pairwise.program import head_rows
from posjax.attention.fused.plan import TileShape

Locate = Callable[..., At]
"""From a step of the grid, the bounds and the scalars to the tile of that step."""


def scalar_memory() -> pl.BlockSpec:
    """Where single numbers lie: whole arrays, beside the vector registers."""
    return pl.BlockSpec(memory_space=pallas_tpu.SMEM)


def line_block(block: TileShape, locate: Locate, batch: int, of_queries: bool) -> pl.BlockSpec:
    """Blocks of what all heads share, `[b, 1, T]` or `[b, 1, S]`."""

    def index(*step: Any) -> tuple[Any, ...]:
        at = locate(*step)
        of_row = 0
        if batch > 1:
            of_row = at.b
        if of_queries:
            return of_row, 0, at.i
        return of_row, 0, at.j

    if of_queries:
        return pl.BlockSpec((None, 1, block.rows), index)
    return pl.BlockSpec((None, 1, block.columns), index)


def whole_row(locate: Locate, width: int) -> pl.BlockSpec:
    """A head's whole row of `[N, 1, width]`: for all its tiles the same, so it is copied once."""

    def index(*step: Any) -> tuple[Any, ...]:
        return locate(*step).n, 0, 0

    return pl.BlockSpec((None, 1, width), index)


class MosaicVector(VectorInTile):
    """A bias by distance: a head's whole vector in VMEM."""

    def operands(self, launch: Launch, locate: Locate) -> tuple[Any, Any]:
        """The arrays of the bias, and their blocks."""
        bias: Any = launch.call.bias
        z = launch.sizes
        padded = bias.padded(z.queries, z.keys)
        vector = padded.vector.astype(jnp.float32) * tile.LOG2E
        # Backwards for tiles with keys along their rows, where distances fall.
        if not launch.keys_first:
            vector = vector[:, ::-1]
        # Of T + S - 1 distances T + S numbers, whole registers: the segment of a tile begins with one it does not use.
        vector = jnp.pad(vector, ((0, 0), (1, 0)))
        return vector[:, None], whole_row(locate, vector.shape[1])

    def width(self, launch: Launch) -> int:
        """How many numbers of a head gather gradients."""
        return launch.sizes.queries + launch.sizes.keys

    def add_gradient(self, kernel: MosaicKernel, refs: Refs, at: At, ds: jax.Array, ref: Any) -> None:
        """Adds a tile's gradient to the head's."""
        # Tiles of one diagonal add to the same stretch, and neighbours overlap: in order, since a head's tiles are.
        ref[:, kernel.segment(at)] += diagonal_sums(ds)

    def gradient(self, launch: Launch, gathered: jax.Array) -> jax.Array:
        """What was gathered `[N, T + S]`, padded, as the gradient of the vector `[N, T + S - 1]`."""
        z = launch.sizes
        # Back from the order in which a tile's rows read it, without the number that no tile used.
        forwards = gathered[:, 1:][:, ::-1]
        # Padded keys are further below the first query, padded queries further above the last key.
        first = z.keys - z.S
        return forwards[:, first : first + z.T + z.S - 1]


class MosaicSlope(SlopeInTile):
    """A slope for each head, in scalar memory."""

    def operands(self, launch: Launch, locate: Locate) -> tuple[Any, Any]:
        """The arrays of the bias, and their blocks."""
        bias: Any = launch.call.bias
        return bias.slopes * tile.LOG2E, scalar_memory()

    def width(self, launch: Launch) -> int:
        """How many numbers of a head gather gradients: one for each row of a block."""
        return launch.block.rows

    def add_gradient(self, kernel: MosaicKernel, refs: Refs, at: At, ds: jax.Array, ref: Any) -> None:
        """Adds a tile's gradient to the head's."""
        ref[...] += row(self.of_queries(kernel, refs, at, ds))

    def gradient(self, launch: Launch, gathered: jax.Array) -> jax.Array:
        """What was gathered as the gradient of the slopes `[N, 1]`."""
        # A number for each row of a block, of which only the sum is of use.
        return gathered.sum(1, keepdims=True)


class MosaicProgram(ProgramInTile):
    """A program: the heads' rows in scalar memory, and the positions of the tile."""

    def operands(self, launch: Launch, locate: Locate) -> tuple[Any, Any]:
        """The arrays of the bias, and their blocks."""
        bias: Any = launch.call.bias
        floats, integers = head_rows(self.program, bias)
        q_positions, k_positions = launch.positions()
        batch = q_positions.shape[0]
        # Rows of all heads in one, since scalar memory would pad each of them to a register.
        flat_floats = floats.reshape(-1)
        flat_integers = integers.reshape(-1)
        arrays = (flat_floats, flat_integers, q_positions[:, None], k_positions[:, None])
        q_block = line_block(launch.block, locate, batch, of_queries=True)
        k_block = line_block(launch.block, locate, batch, of_queries=False)
        return arrays, (scalar_memory(), scalar_memory(), q_block, k_block)

    def width(self, launch: Launch) -> int:
        """How many numbers of a head gather gradients."""
        return self.program.widths[0]

    def add_gradient(self, kernel: MosaicKernel, refs: Refs, at: At, ds: jax.Array, ref: Any) -> None:
        """Adds a tile's gradient to the head's."""
        ref[...] = self.onto_row(kernel, refs, at, ds, ref[...])

    def gradient(self, launch: Launch, gathered: jax.Array) -> jax.Array:
        """What was gathered as the gradient of the heads' rows `[N, P]`."""
        return gathered


BIASES: dict[str, type[KernelBias]] = {
    "distance": MosaicVector,
    "slope": MosaicSlope,
    "position": MosaicProgram,
}
"""How kernels for TPUs evaluate each kind of bias."""
