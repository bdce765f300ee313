"""The fused backend on TPUs: a grid over blocks of pairs, its last axis in order.

Queries, keys and values are `[B, N, T, H]`. The blocks to visit are read by the grid before it runs, so that blocks
that may not be seen are neither computed nor copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pallas_tpu

from posjax.attention.fused import mosaic_kernels, tile
from posjax.attention.fused.kernel import At, Refs
from posjax.attention.fused.launch import Launch, Out
from posjax.attention.fused.mosaic_biases import BIASES, Locate, line_block, whole_row
from posjax.attention.fused.mosaic_kernels import LANES, Layout, MosaicKernel
from posjax.attention.fused.plan import KernelCall, KernelPlan, Returned, TileShape, pad, pad_rows
from posjax.attention.reference import BLIND
from posjax.positions import Index

BLOCK = 512
"""Queries and keys of a tile at most: its arrays take some 8 MiB of VMEM."""


@dataclass(frozen=True)
class Grid:
    """The steps of a kernel: how many along each axis, and the tile that each of them computes.

    The first `parallel` axes may be run in any order, and on two cores; the others are run one step after the other,
    which is what sums in VMEM stand on.
    """

    steps: tuple[int, ...]
    parallel: int
    locate: Locate

    @property
    def order(self) -> list[Any]:
        """What Mosaic may do with each axis."""
        in_order = len(self.steps) - self.parallel
        return [pallas_tpu.PARALLEL] * self.parallel + [pallas_tpu.ARBITRARY] * in_order


class MosaicLaunch(Launch):
    """One kernel of one call on a TPU: what its grid copies, and how it is run."""

    def __init__(self, plan: KernelPlan, call: KernelCall, keys_first: bool = False) -> None:
        block = TileShape(_block(plan, call.sizes.T), _block(plan, call.sizes.S))
        super().__init__(plan, call, block, call.sizes.H, BIASES, keys_first)
        visits = self.table.by_query
        if keys_first:
            visits = self.table.by_key
        batch, blocks, _ = visits.bounds.shape
        self.bounds = jnp.asarray(visits.bounds).reshape(-1)
        self.visits = Layout(batch, blocks, visits.most, visits.stretches)

    def inputs(self, locate: Locate, back: Returned | None) -> tuple[Refs, Refs]:
        """The arrays that the kernel reads, padded to whole blocks, and their blocks."""
        q, k, v = self.tokens()
        q_ids, k_ids = self.ids()
        bias, bias_blocks = self._bias(locate)
        queries = self.query_block(locate)
        keys = self._key_block(locate)
        arrays = Refs(
            scalars=None,
            bounds=None,
            # A middle axis of one: the last two axes of a block are what is laid into registers.
            q_ids=tuple(x[:, None] for x in q_ids),
            k_ids=tuple(x[:, None] for x in k_ids),
            bias=bias,
            q=_heads_first(q),
            k=_heads_first(k),
            v=_heads_first(v),
        )
        blocks = Refs(
            scalars=None,
            bounds=None,
            q_ids=tuple(line_block(self.block, locate, x.shape[0], of_queries=True) for x in q_ids),
            k_ids=tuple(line_block(self.block, locate, x.shape[0], of_queries=False) for x in k_ids),
            bias=bias_blocks,
            q=queries,
            k=keys,
            v=keys,
        )
        if back is None:
            return arrays, blocks
        line = self.row_line(locate)
        return self._with_back(arrays, back), blocks._replace(d_out=queries, lse=line, delta=line)

    def _with_back(self, arrays: Refs, back: Returned) -> Refs:
        """The arrays with what comes back in a backward pass; a padded row gets weights of 0, and no gradient."""
        z = self.sizes
        d_out = pad(back.d_out, z.queries, z.H)
        lse = pad_rows(back.lse, z.queries, BLIND)
        delta = pad_rows(back.delta, z.queries, 0.0)
        # What there is one of for each row is a line along lanes, `[B, N, 1, T]`.
        return arrays._replace(d_out=_heads_first(d_out), lse=lse[:, :, None], delta=delta[:, :, None])

    def _bias(self, locate: Locate) -> tuple[Any, Any]:
        if self.bias is None:
            return None, None
        return self.bias.operands(self, locate)

    def query_block(self, locate: Locate) -> pl.BlockSpec:
        """Blocks of queries, `[B, N, T, H]`."""

        def index(*step: Any) -> tuple[Any, ...]:
            at = locate(*step)
            return at.b, at.n, at.i, 0

        return pl.BlockSpec((None, None, self.block.rows, self.sizes.H), index)

    def _key_block(self, locate: Locate) -> pl.BlockSpec:
        """Blocks of keys, `[B, K, S, H]`."""
        G = self.sizes.G

        def index(*step: Any) -> tuple[Any, ...]:
            at = locate(*step)
            # Query heads of a group are neighbours, and read the same keys.
            return at.b, lax.div(at.n, jnp.int32(G)), at.j, 0

        return pl.BlockSpec((None, None, self.block.columns, self.sizes.H), index)

    def key_outs(self, locate: Locate) -> list[Out]:
        """The gradients of keys and values, `[B, K, S, H]`."""
        z, call = self.sizes, self.call
        shape = (z.B, z.K, z.keys, z.H)
        block = self._key_block(locate)
        return [Out(shape, call.k.dtype, block), Out(shape, call.v.dtype, block)]

    def row_line(self, locate: Locate) -> pl.BlockSpec:
        """Blocks of what there is one of for each query, `[B, N, 1, T]`."""

        def index(*step: Any) -> tuple[Any, ...]:
            at = locate(*step)
            return at.b, at.n, 0, at.i

        return pl.BlockSpec((None, None, 1, self.block.rows), index)

    def run(
        self,
        kernel: Callable[..., None],
        grid: Grid,
        back: Returned | None,
        outs: list[Out],
        scratch: Sequence[tuple[int, int]],
    ) -> list[jax.Array]:
        """The kernel's outputs. `scratch` are the shapes of the float32 sums that stay in VMEM between steps."""
        arrays, blocks = self.inputs(grid.locate, back)
        static = MosaicKernel(
            sizes=self.sizes,
            block=self.block,
            rule=self.call.rule,
            bias=self.bias,
            precision=tile.precision(self.call.q.dtype, lax.Precision.HIGHEST),
            keys_first=self.keys_first,
            visits=self.visits,
        )

        def body(bounds: Any, scalars: Any, refs: Refs, *rest: Any) -> None:
            # Prefetched, these two come apart from the others: the grid reads them before any block is copied.
            kernel(static, refs._replace(bounds=bounds, scalars=scalars), *rest)

        spec = pallas_tpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=grid.steps,
            in_specs=[blocks],
            out_specs=[out.block for out in outs],
            scratch_shapes=[pallas_tpu.VMEM(shape, jnp.float32) for shape in scratch],
        )
        params = pallas_tpu.CompilerParams(dimension_semantics=grid.order)
        run = self.pallas_call(body, kernel.__name__, outs, grid_spec=spec, compiler_params=params)
        return run(self.bounds, self.call.rule.scalars, arrays)


def _block(plan: KernelPlan, length: int) -> int:
    """The block's size: at most the largest, and such that the last one is nearly full."""
    most = plan.block or BLOCK
    # Whole registers; a plan's own block may be smaller, where it is interpreted.
    unit = min(most, LANES)
    # As many blocks as of the largest size, and each only as large as they need to be.
    blocks = -(-length // most)
    units = -(-length // (blocks * unit))
    return units * unit


def _heads_first(x: jax.Array) -> jax.Array:
    return x.transpose(0, 2, 1, 3)


def forward(plan: KernelPlan, call: KernelCall) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The output `[B, T, N, H]`, and each row's maximum and sum of weights `[B, N, T]`."""
    launch = MosaicLaunch(plan, call)
    z = launch.sizes
    visits = launch.visits
    size = launch.block.rows

    def locate(b: Any, n: Index, i: Index, step: Any, bounds: Any, _: Any) -> At:
        return At(b, n, i, visits.other(bounds, b, i, step))

    grid = Grid((z.B, z.N, z.queries // size, visits.steps), parallel=3, locate=locate)
    line = Out((z.B, z.N, 1, z.queries), jnp.float32, launch.row_line(locate))
    tokens = Out((z.B, z.N, z.queries, z.H), call.q.dtype, launch.query_block(locate))
    softmax = [(size, z.H), (size, 1), (size, 1)]
    out, highest, total = launch.run(mosaic_kernels.forward, grid, None, [tokens, line, line], softmax)
    out_BTNH = _heads_first(out)
    out_BTNH = out_BTNH[:, : z.T]
    highest_BNT = highest[:, :, 0, : z.T]
    total_BNT = total[:, :, 0, : z.T]
    return out_BTNH, highest_BNT, total_BNT


def backward(
    plan: KernelPlan, call: KernelCall, back: Returned, learned: bool
) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
    """The gradients of q, k and v, and where `learned` that of what the bias reads.

    That is the vector `[N, T + S - 1]` of a `ByDistance`, the heads' rows `[N, P]` of a `ByPosition`, the slopes
    `[N, 1]` of a `Slope`.
    """
    # Two kernels, since sums go two ways: a block of queries meets all its keys in one, a block of keys its queries in
    # the other. In one kernel, some programs would have to add to what others write, and in no certain order.
    dq, d_bias = _run_dq(plan, call, back, learned)
    dk, dv = _run_dkv(plan, call, back)
    return dq, dk, dv, d_bias


def _run_dq(plan: KernelPlan, call: KernelCall, back: Returned, learned: bool) -> tuple[jax.Array, jax.Array | None]:
    launch = MosaicLaunch(plan, call)
    z = launch.sizes
    visits = launch.visits
    size = launch.block.rows

    # Heads first: what a head's bias gathers stays in VMEM until the head is done.
    def locate(n: Index, b: Any, i: Index, step: Any, bounds: Any, _: Any) -> At:
        return At(b, n, i, visits.other(bounds, b, i, step))

    steps = (z.N, z.B, z.queries // size, visits.steps)
    outs = [Out((z.B, z.N, z.queries, z.H), call.q.dtype, launch.query_block(locate))]
    kept = [(size, z.H), (size, 1), (size, 1)]
    if not learned:
        (dq,) = launch.run(mosaic_kernels.dq, Grid(steps, 3, locate), back, outs, kept)
        return _heads_first(dq)[:, : z.T], None
    width = launch.bias.width(launch)
    outs.append(Out((z.N, 1, width), jnp.float32, whole_row(locate, width)))
    # Only heads run beside each other, as all tiles of one add to the same numbers.
    dq, gathered = launch.run(mosaic_kernels.dq, Grid(steps, 1, locate), back, outs, kept)
    d_bias = launch.bias.gradient(launch, gathered[:, 0])
    return _heads_first(dq)[:, : z.T], d_bias


def _run_dkv(plan: KernelPlan, call: KernelCall, back: Returned) -> tuple[jax.Array, jax.Array]:
    launch = MosaicLaunch(plan, call, keys_first=True)
    z = launch.sizes
    visits = launch.visits
    size = launch.block.columns

    def locate(b: Any, head: Index, j: Index, g: Any, step: Any, bounds: Any, _: Any) -> At:
        # A step of this grid is a block of queries, and its own block is one of keys.
        i = visits.other(bounds, b, j, step)
        return At(b, head * z.G + g, i, j)

    grid = Grid((z.B, z.K, z.keys // size, z.G, visits.steps), parallel=3, locate=locate)
    sums = [(size, z.H), (size, z.H)]
    dk, dv = launch.run(mosaic_kernels.dkv, grid, back, launch.key_outs(locate), sums)
    dk_BSKH = _heads_first(dk)[:, : z.S]
    dv_BSKH = _heads_first(dv)[:, : z.S]
    return dk_BSKH, dv_BSKH
