"""What the kernels of every device share: what they read, the tile they are at, its logits, and the bias inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from posjax.attention.biases import ByPosition
from posjax.attention.fused import tile
from posjax.attention.fused.pairwise.program import Program, build
from posjax.attention.fused.pairwise.stages import Reader
from posjax.attention.fused.plan import Sizes, TileShape
from posjax.attention.fused.rules import Ids, Rule, allowed, minus_distance


class Refs(NamedTuple):
    """What kernels read: on a TPU one block of each, on a GPU whole arrays, of which a kernel reads what it needs.

    `scalars` are those of the mask, `bounds` the blocks to visit, `bias` what the bias reads: a head's vector, the
    slopes, or for a program the rows of all heads and the positions. The last three are there in a backward pass only.
    """

    scalars: Any
    bounds: Any
    q_ids: tuple[Any, ...]
    k_ids: tuple[Any, ...]
    bias: Any
    q: Any
    k: Any
    v: Any
    d_out: Any = None
    lse: Any = None
    delta: Any = None


class At(NamedTuple):
    """A tile: its row of the batch, its query head, its block of queries and of keys, and whether it needs the mask."""

    b: Any
    n: Any
    i: Any
    j: Any
    masked: bool = False


@dataclass(frozen=True)
class Kernel:
    """The static facts of one kernel. `keys_first` lays its tiles `[columns, rows]`.

    The gradients of keys and values are sums over queries: laid that way, a tile enters their products as it is, and
    need not be transposed in every step. A driver says how its device lays out and reads what the methods ask for.
    """

    sizes: Sizes
    block: TileShape
    rule: Rule
    bias: KernelBias | None
    precision: Any
    keys_first: bool

    def indices(self, at: At) -> tuple[jax.Array, jax.Array]:
        """The indices of the tile's queries and keys, to broadcast to it."""
        raise NotImplementedError

    def ids(self, refs: Refs, at: At) -> list[Ids]:
        """The segments of the tile, to broadcast to it."""
        raise NotImplementedError

    def toeplitz(self, refs: Refs, at: At) -> jax.Array:
        """The tile of a bias by distance, from its vector."""
        raise NotImplementedError

    def reads(self, refs: Refs, at: At) -> tuple[Reader, jax.Array, jax.Array]:
        """What a program reads: the head's rows, and the positions of the tile's queries and keys."""
        raise NotImplementedError

    def product(self, q: jax.Array, k: jax.Array) -> jax.Array:
        """The tile of products of what queries and keys hold."""
        if self.keys_first:
            return tile.dot(k, q, (1, 1), self.precision)
        return tile.dot(q, k, (1, 1), self.precision)

    def logits(self, refs: Refs, q: jax.Array, k: jax.Array, at: At) -> jax.Array:
        """The logits of a tile to base 2, masked where the tile needs it."""
        # One factor for the scale and the change of base: a product less for every pair.
        logits = self.product(q, k) * (self.sizes.scale * tile.LOG2E)
        if self.bias is not None:
            logits += self.bias.tile(self, refs, at)
        if not at.masked:
            return logits
        # Last of all, over the bias too: what stands at a pair that may not be seen need only be finite.
        q_index, k_index = self.indices(at)
        seen = allowed(self.rule, q_index, k_index, refs.scalars, self.ids(refs, at))
        return tile.masked(logits, seen)

    def minus_distance(self, refs: Refs, at: At) -> jax.Array:
        """What a slope multiplies."""
        q_index, k_index = self.indices(at)
        return minus_distance(self.rule, q_index, k_index, refs.scalars)


@dataclass(frozen=True)
class KernelBias:
    """How a kernel evaluates a described bias: one class for each kind, and for each driver what only it can say."""

    @classmethod
    def of(cls, bias: Any, block: TileShape) -> KernelBias:
        """That of a described bias, for tiles of one shape."""
        return cls()

    def tile(self, kernel: Kernel, refs: Refs, at: At) -> jax.Array:
        """The bias of a tile to base 2, as its tiles lie."""
        raise NotImplementedError


@dataclass(frozen=True)
class VectorInTile(KernelBias):
    """A bias by distance: its vector, a number for each distance, laid out as a tile."""

    def tile(self, kernel: Kernel, refs: Refs, at: At) -> jax.Array:
        """The bias of a tile to base 2."""
        return kernel.toeplitz(refs, at)


@dataclass(frozen=True)
class SlopeInTile(KernelBias):
    """Minus a slope times the distance: one number for each head, and nothing as long as the sequence."""

    def tile(self, kernel: Kernel, refs: Refs, at: At) -> jax.Array:
        """The bias of a tile to base 2."""
        return refs.bias[at.n] * kernel.minus_distance(refs, at)

    def of_queries(self, kernel: Kernel, refs: Refs, at: At, ds: jax.Array) -> jax.Array:
        """What the gradient of a tile's logits `[rows, columns]` adds to the slope's, for each query: `[rows, 1]`."""
        # Not one number yet: kernels add vectors up, and only the last sum, outside, is over queries.
        return jnp.sum(ds * kernel.minus_distance(refs, at), 1, keepdims=True)


@dataclass(frozen=True)
class ProgramInTile(KernelBias):
    """A bias of pairs of positions: a program, run on the positions of the tile."""

    program: Program

    @classmethod
    def of(cls, bias: ByPosition, block: TileShape) -> ProgramInTile:
        """That of a described bias, for tiles of one shape."""
        return cls(build(bias, (block.rows, block.columns)))

    def tile(self, kernel: Kernel, refs: Refs, at: At) -> jax.Array:
        """The bias of a tile to base 2."""
        bias = self.program.tile(*kernel.reads(refs, at)) * tile.LOG2E
        # A program knows one orientation: it was traced for queries along the rows.
        if kernel.keys_first:
            return bias.T
        return bias

    def onto_row(self, kernel: Kernel, refs: Refs, at: At, ds: jax.Array, row: jax.Array) -> jax.Array:
        """The gradient of the head's row `[1, P]`, and what the gradient of a tile's logits adds to it."""
        _, pull = self.program.tile_and_pull(*kernel.reads(refs, at))
        return pull(ds, row)
