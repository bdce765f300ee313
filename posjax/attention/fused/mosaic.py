"""The fused backend on TPUs: a grid over blocks of pairs, its last axis in order.

Queries, keys and values are `[B, N, T, H]`. The blocks to visit are read by the grid before it runs, so that blocks
that may not be seen are neither computed nor copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pallas_tpu

from posjax.attention.biases import ByDistance, ByPosition, Slope
from posjax.attention.fused import mosaic_kernels, tile
from posjax.attention.fused.mosaic_kernels import LANES, Kernel, Layout, Refs
from posjax.attention.fused.pairwise.program import Program, build, rows
from posjax.attention.fused.plan import Block, Call, Plan, Returned, pad, pad_edge, pad_rows
from posjax.attention.fused.rules import table
from posjax.attention.reference import BLIND

BLOCK = 512
"""Queries and keys of a tile at most: its arrays take some 8 MiB of VMEM."""

Place = Callable[..., tuple[Any, Any, Any, Any]]
"""From a step of the grid and the bounds to a tile: row of the batch, query head, block of queries, block of keys."""


Out = tuple[tuple[int, ...], Any, pl.BlockSpec]
"""An output of a kernel: its shape, dtype and block."""


class _Launch:
    """One kernel of one call: its sizes, its padded arrays, and how it is run."""

    def __init__(self, plan: Plan, call: Call, keys_first: bool = False) -> None:
        self.plan, self.call, self.keys_first = plan, call, keys_first
        plain = call.sizes
        self.block = Block(_block(plan, plain.T), _block(plan, plain.S))
        rows, columns = self.block.rows, self.block.columns
        self.sizes = plain.padded(rows, columns, plain.H)
        by_query, by_key, _ = table(call.rule, rows, columns)
        visits = by_key if keys_first else by_query
        self.bounds = jnp.asarray(visits.bounds).reshape(-1)
        batch, blocks, _ = visits.bounds.shape
        self.visits = Layout(batch, blocks, visits.most, visits.parts)
        self.bias: Program | Literal["toeplitz", "linear"] | None = None
        if isinstance(call.bias, ByPosition):
            self.bias = build(call.bias, (rows, columns))
        elif call.bias is not None:
            self.bias = "linear" if isinstance(call.bias, Slope) else "toeplitz"

    def inputs(self, place: Place, back: Returned | None = None) -> tuple[Refs, Refs]:
        """The arrays that the kernel reads, padded to whole blocks, and their blocks."""
        z, call = self.sizes, self.call
        queries, keys = self.tokens(place, True), self.tokens(place, False)
        ids = [
            (tuple(pad_edge(x, n)[:, None] for x in ids), tuple(self.line(place, x.shape[0], own) for x in ids))
            for ids, n, own in ((call.rule.q_ids, z.queries, True), (call.rule.k_ids, z.keys, False))
        ]
        bias, bias_blocks = self.operands(place)
        q, k, v = (_heads_first(pad(x, n, z.H)) for x, n in ((call.q, z.queries), (call.k, z.keys), (call.v, z.keys)))
        arrays = Refs(ids[0][0], ids[1][0], bias, q, k, v)
        blocks = Refs(ids[0][1], ids[1][1], bias_blocks, queries, keys, keys)
        if back is None:
            return arrays, blocks
        lse, delta = (pad_rows(x, z.queries, value)[:, :, None] for x, value in ((back.lse, BLIND), (back.delta, 0.0)))
        line = self.row_line(place)
        return (
            arrays._replace(d_out=_heads_first(pad(back.d_out, z.queries, z.H)), lse=lse, delta=delta),
            blocks._replace(d_out=queries, lse=line, delta=line),
        )

    def tokens(self, place: Place, own: bool) -> pl.BlockSpec:
        """Blocks of queries `[B, N, T, H]`, or of keys `[B, K, S, H]`."""
        G = self.sizes.G

        def index(*step: Any) -> tuple[Any, ...]:
            b, n, i, j = place(*step)
            return (b, n, i, 0) if own else (b, jax.lax.div(n, jnp.int32(G)), j, 0)

        return pl.BlockSpec((None, None, self.block[not own], self.sizes.H), index)

    def row_line(self, place: Place) -> pl.BlockSpec:
        """Blocks of what there is one of for each query, `[B, N, 1, T]`."""

        def index(*step: Any) -> tuple[Any, ...]:
            b, n, i, _ = place(*step)
            return b, n, 0, i

        return pl.BlockSpec((None, None, 1, self.block.rows), index)

    def line(self, place: Place, batch: int, own: bool) -> pl.BlockSpec:
        """Blocks of what all heads share, `[b, 1, T]` or `[b, 1, S]`."""

        def index(*step: Any) -> tuple[Any, ...]:
            b, _, i, j = place(*step)
            return b if batch > 1 else 0, 0, i if own else j

        return pl.BlockSpec((None, 1, self.block[not own]), index)

    def operands(self, place: Place) -> tuple[Any, Any]:
        """The arrays of the bias, and their blocks."""
        bias, z = self.call.bias, self.sizes
        if isinstance(bias, ByPosition) and isinstance(self.bias, Program):
            numbers = [x.reshape(-1) for x in rows(self.bias, bias)]
            at = [pad_edge(bias.q_positions, z.queries)[:, None], pad_edge(bias.k_positions, z.keys)[:, None]]
            scalars = pl.BlockSpec(memory_space=pallas_tpu.SMEM)
            lines = [self.line(place, at[0].shape[0], own) for own in (True, False)]
            return (*numbers, *at), (scalars, scalars, *lines)
        if isinstance(bias, ByDistance) and not isinstance(bias, Slope):
            vector = bias.padded(z.queries, z.keys).vector.astype(jnp.float32) * tile.LOG2E
            vector = jnp.pad(vector if self.keys_first else vector[:, ::-1], ((0, 0), (1, 0)))
            return vector[:, None], self.whole(place, vector.shape[1])
        if isinstance(bias, Slope):
            return bias.slopes * tile.LOG2E, pl.BlockSpec(memory_space=pallas_tpu.SMEM)
        return None, None

    @property
    def width(self) -> int:
        """How many numbers of a head gather gradients."""
        if isinstance(self.bias, Program):
            return self.bias.widths[0]
        return self.block.rows if self.bias == "linear" else self.sizes.queries + self.sizes.keys

    def gradient(self, numbers: jax.Array) -> jax.Array:
        """What a head's numbers gathered, in the shape that `backward` returns."""
        z = self.sizes
        if self.bias == "linear":  # A number for each row of a block, of which only the sum is of use.
            return numbers.sum(1, keepdims=True)
        if self.bias == "toeplitz":
            return numbers[:, 1 : self.width][:, ::-1][:, z.keys - z.S : z.keys + z.T - 1]
        return numbers[:, : self.width]

    def whole(self, place: Place, width: int) -> pl.BlockSpec:
        """A head's whole row of `[N, 1, width]`."""
        return pl.BlockSpec((None, 1, width), lambda *step: (place(*step)[1], 0, 0))

    def run(
        self,
        kernel: Callable[..., None],
        grid: tuple[int, ...],
        parallel: int,
        place: Place,
        back: Returned | None,
        outs: Sequence[Out],
        scratch: Sequence[tuple[int, int]],
    ) -> list[jax.Array]:
        """The kernel's outputs. The first `parallel` axes of the grid may be run in any order; `scratch` are the shapes
        of float32 sums."""
        arrays, blocks = self.inputs(place, back)
        static = Kernel(
            self.sizes,
            self.block,
            self.call.rule,
            self.visits,
            self.bias,
            tile.precision(self.call.q.dtype, jax.lax.Precision.HIGHEST),
            self.keys_first,
        )
        order = [pallas_tpu.PARALLEL] * parallel + [pallas_tpu.ARBITRARY] * (len(grid) - parallel)
        spec = pallas_tpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=grid,
            in_specs=[blocks],
            out_specs=[block for _, _, block in outs],
            scratch_shapes=[pallas_tpu.VMEM(shape, jnp.float32) for shape in scratch],
        )
        return pl.pallas_call(
            partial(kernel, static),
            grid_spec=spec,
            interpret=self.plan.interpret,
            name=f"posjax_fused_{kernel.__name__}",
            out_shape=[jax.ShapeDtypeStruct(shape, dtype) for shape, dtype, _ in outs],
            compiler_params=pallas_tpu.CompilerParams(dimension_semantics=order),
        )(self.bounds, self.call.rule.numbers, arrays)


def _block(plan: Plan, length: int) -> int:
    """The block's size: at most the largest, and such that the last one is nearly full."""
    most = plan.block or BLOCK
    unit = min(most, LANES)
    return -(-length // (-(-length // most) * unit)) * unit


def _heads_first(x: jax.Array) -> jax.Array:
    return x.transpose(0, 2, 1, 3)


def forward(plan: Plan, call: Call) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The output `[B, T, N, H]`, and each row's maximum and sum of weights `[B, N, T]`."""
    launch = _Launch(plan, call)
    z, (size, *_), visits = launch.sizes, launch.block, launch.visits

    def place(b: Any, n: Any, i: Any, step: Any, bounds: Any, _: Any) -> tuple[Any, Any, Any, Any]:
        return b, n, i, visits.other(bounds, b, i, step)

    line: Out = ((z.B, z.N, 1, z.queries), jnp.float32, launch.row_line(place))
    out, highest, total = launch.run(
        mosaic_kernels.forward,
        (z.B, z.N, z.queries // size, visits.steps),
        3,
        place,
        None,
        [((z.B, z.N, z.queries, z.H), call.q.dtype, launch.tokens(place, True)), line, line],
        [(size, z.H), (size, 1), (size, 1)],
    )
    return _heads_first(out)[:, : z.T], highest[:, :, 0, : z.T], total[:, :, 0, : z.T]


def backward(plan: Plan, call: Call, back: Returned, learned: bool) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
    """The gradients of q, k and v, and where `learned` that of the bias's numbers.

    Those are the vector `[N, T + S - 1]` of a `ByDistance`, the heads' rows `[N, P]` of a `ByPosition`, the slopes
    `[N, 1]` of a `Linear`.
    """
    dq, numbers = _run_dq(plan, call, back, learned)
    return (dq, *_run_dkv(plan, call, back), numbers)


def _run_dq(plan: Plan, call: Call, back: Returned, learned: bool) -> tuple[jax.Array, jax.Array | None]:
    launch = _Launch(plan, call)
    z, (size, *_), visits = launch.sizes, launch.block, launch.visits

    # Heads first: what a head's numbers gather stays in VMEM until the head is done.
    def place(n: Any, b: Any, i: Any, step: Any, bounds: Any, _: Any) -> tuple[Any, Any, Any, Any]:
        return b, n, i, visits.other(bounds, b, i, step)

    outs: list[Out] = [((z.B, z.N, z.queries, z.H), call.q.dtype, launch.tokens(place, True))]
    if learned:
        outs.append(((z.N, 1, launch.width), jnp.float32, launch.whole(place, launch.width)))
    grid = z.N, z.B, z.queries // size, visits.steps
    dq, *numbers = launch.run(
        mosaic_kernels.dq, grid, 1 if learned else 3, place, back, outs, [(size, z.H), (size, 1), (size, 1)]
    )
    return _heads_first(dq)[:, : z.T], launch.gradient(numbers[0][:, 0]) if learned else None


def _run_dkv(plan: Plan, call: Call, back: Returned) -> tuple[jax.Array, jax.Array]:
    launch = _Launch(plan, call, keys_first=True)
    z, size, visits = launch.sizes, launch.block.columns, launch.visits

    def place(b: Any, head: Any, j: Any, g: Any, step: Any, bounds: Any, _: Any) -> tuple[Any, Any, Any, Any]:
        return b, head * z.G + g, visits.other(bounds, b, j, step), j

    outs = [((z.B, z.K, z.keys, z.H), dtype, launch.tokens(place, False)) for dtype in (call.k.dtype, call.v.dtype)]
    dk, dv = launch.run(
        mosaic_kernels.dkv,
        (z.B, z.K, z.keys // size, z.G, visits.steps),
        3,
        place,
        back,
        outs,
        [(size, z.H), (size, z.H)],
    )
    return _heads_first(dk)[:, : z.S], _heads_first(dv)[:, : z.S]
