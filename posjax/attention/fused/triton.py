"""The fused backend on GPUs: what its kernels are given, how large their tiles are, and what comes back.

Queries, keys and values stay `[B, T, N, H]`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pallas_triton

from posjax.attention.diagonals import over_diagonals
from posjax.attention.fused import tile, triton_kernels
from posjax.attention.fused.kernel import Refs
from posjax.attention.fused.launch import Launch, Out
from posjax.attention.fused.limits import HEAD_SIZE
from posjax.attention.fused.plan import KernelCall, KernelPlan, Returned, TileShape, pad, pad_rows
from posjax.attention.fused.triton_biases import BIASES
from posjax.attention.fused.triton_kernels import TritonKernel
from posjax.attention.reference import BLIND
from posjax.positions import Index

SMALLEST = 16
"""The shortest side of a tile: what a GPU's matrix units multiply at once."""

KernelName = Literal["forward", "dq", "dkv", "diagonal"]

BLOCKS: dict[int, dict[str, TileShape]] = {
    128: {
        "forward": TileShape(64, 128, 4, 2),
        "dq": TileShape(64, 32, 4, 3),
        "dkv": TileShape(32, 128, 4, 2),
        "diagonal": TileShape(128, 128, 8, 3),
    },
    256: {
        "forward": TileShape(128, 64, 8, 3),
        "dq": TileShape(128, 64, 8, 3),
        "dkv": TileShape(64, 64, 4, 2),
        "diagonal": TileShape(128, 128, 8, 1),
    },
    512: {
        "forward": TileShape(64, 32, 8, 2),
        "dq": TileShape(64, 32, 8, 1),
        "dkv": TileShape(32, 64, 8, 1),
        "diagonal": TileShape(32, 32, 4, 1),
    },
    1024: dict.fromkeys(("forward", "dq", "dkv", "diagonal"), TileShape(32, 32, 4, 1)),
    2048: dict.fromkeys(("forward", "dq", "dkv", "diagonal"), TileShape(16, 16, 4, 1)),
}
"""Tiles by the most bytes that a head of a token takes, float32 counted twice, since a product splits it in two.

In bfloat16 the first three rows are head sizes up to 64, 128 and 256. The first two are the fastest of 10 to 17 tiles
for each kernel on an H200 at 8192 tokens, with a Toeplitz bias and without any; the others were not timed. The operands
of a tile, and the copies that the pipeline has under way, fit the 227 KiB of a Hopper's shared memory.
"""


class TritonLaunch(Launch):
    """One kernel of one call on a GPU."""

    def __init__(self, plan: KernelPlan, name: KernelName, call: KernelCall) -> None:
        block = _block(plan, name, call)
        # Arrays of a kernel are as wide as a power of two.
        channels = max(SMALLEST, pl.next_power_of_2(call.sizes.H))
        super().__init__(plan, call, block, channels, BIASES, keys_first=name == "dkv")
        self.name = name

    def refs(self, bounds: Any, back: Returned | None = None) -> Refs:
        """The arrays that the kernel reads, padded to whole blocks."""
        z = self.sizes
        rule = self.call.rule
        q, k, v = self.tokens()
        q_ids, k_ids = self.ids()
        bias = None
        if self.bias is not None:
            bias = self.bias.operands(self)
        refs = Refs(rule.scalars, jnp.asarray(bounds), tuple(q_ids), tuple(k_ids), bias, q, k, v)
        if back is None:
            return refs
        # A padded row gets weights of 0, and no gradient.
        d_out = pad(back.d_out, z.queries, z.channels)
        lse = pad_rows(back.lse, z.queries, BLIND)
        delta = pad_rows(back.delta, z.queries, 0.0)
        return refs._replace(d_out=d_out, lse=lse, delta=delta)

    def run(
        self,
        kernel: Callable[..., None],
        grid: tuple[int, ...],
        refs: Refs,
        stretches: tuple[bool, bool, bool],
        outs: list[Out],
    ) -> list[jax.Array]:
        """The kernel's outputs."""
        # Three products of narrower numbers make one of float32, in the matrix units; interpreted, there are none.
        device: Any = lax.DotAlgorithmPreset.TF32_TF32_F32_X3
        if self.plan.interpret:
            device = lax.Precision.HIGHEST
        static = TritonKernel(
            sizes=self.sizes,
            block=self.block,
            rule=self.call.rule,
            bias=self.bias,
            precision=tile.precision(self.call.q.dtype, device),
            keys_first=self.keys_first,
            stretches=stretches,
        )
        params = pallas_triton.CompilerParams(num_warps=self.block.warps, num_stages=self.block.stages)
        run = self.pallas_call(
            partial(kernel, static),
            self.name,
            outs,
            grid=grid,
            in_specs=[jax.tree.map(_whole, refs)],
            out_specs=[out.block for out in outs],
            compiler_params=params,
        )
        return run(refs)


def _whole(x: jax.Array) -> pl.BlockSpec:
    """All of an array for every program: an address, from which a kernel loads what it needs."""

    def first(*_: Any) -> tuple[int, ...]:
        return (0,) * x.ndim

    return pl.BlockSpec(x.shape, first)


def _block(plan: KernelPlan, name: KernelName, call: KernelCall) -> TileShape:
    """The tile of a kernel: the table's, or less where the lengths are shorter."""
    z = call.sizes
    # Looked up even where a plan has its own: what the table refuses is too wide for a kernel of any tile.
    block = _from_table(call)[name]
    if plan.block is not None:
        block = block._replace(rows=plan.block, columns=plan.block)
    elif call.bias is not None and call.bias.kind == "position":
        block = _for_a_program(name, block)
    if name == "diagonal":
        # Square, so that the blocks of a diagonal all have the same distances.
        size = min(block.rows, _power_of_two(max(z.T, z.S)))
        return block._replace(rows=size, columns=size)
    # A step of decoding has one query: nearly all of a block of the table would be padding.
    rows = min(block.rows, _power_of_two(z.T))
    columns = min(block.columns, _power_of_two(z.S))
    return block._replace(rows=rows, columns=columns)


def _from_table(call: KernelCall) -> dict[str, TileShape]:
    """The tiles of heads as wide as the call's. Errors: `NotImplementedError` where they are too wide."""
    H = call.sizes.H
    dtype = call.q.dtype
    wide = pl.next_power_of_2(H) * dtype.itemsize
    if dtype == jnp.float32:
        wide *= 2
    # Interpreted kernels are held to the same table, so that a refusal does not depend on where one asks.
    fitting = [most for most in BLOCKS if wide <= most]
    if not fitting or H > HEAD_SIZE:
        raise NotImplementedError(
            f"the fused backend has no kernels for heads of {H} in {dtype} on a GPU: "
            f"needed is a head size of at most {HEAD_SIZE}; take backend='chunked'"
        )
    return BLOCKS[min(fitting)]


def _for_a_program(name: KernelName, block: TileShape) -> TileShape:
    """Half the tile: a program holds several of its size in registers, each value that it computes with."""
    # The other side stays as it is: it is what the kernel keeps, and sums into.
    if name == "dkv":
        return block._replace(rows=max(SMALLEST, block.rows), columns=max(SMALLEST, block.columns // 2))
    return block._replace(rows=max(SMALLEST, block.rows // 2), columns=max(SMALLEST, block.columns))


def _power_of_two(length: int) -> int:
    """The smallest side of a tile that holds a whole length."""
    return pl.next_power_of_2(max(SMALLEST, length))


def forward(plan: KernelPlan, call: KernelCall) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The output `[B, T, N, H]`, and each row's maximum and sum of weights `[B, N, T]`."""
    launch = TritonLaunch(plan, "forward", call)
    z = launch.sizes
    visits = launch.table.by_query
    size = launch.block.rows
    blocks = z.queries // size

    def index(i: Index, n: Index, b: Any) -> tuple[Any, ...]:
        return b, n, blocks - 1 - i

    line_block = pl.BlockSpec((None, None, size), index)
    line = Out((z.B, z.N, z.queries), jnp.float32, line_block)
    out, highest, total = launch.run(
        triton_kernels.forward,
        (blocks, z.N, z.B),
        launch.refs(visits.bounds),
        visits.stretches,
        [_tokens_out(launch), line, line],
    )
    out_BTNH = out[:, : z.T, :, : z.H]
    return out_BTNH, highest[..., : z.T], total[..., : z.T]


def _tokens_out(launch: TritonLaunch) -> Out:
    """What there is one of for each query and channel; the grid counts blocks of queries from the last one down."""
    z = launch.sizes
    size = launch.block.rows
    blocks = z.queries // size

    def index(i: Index, n: Index, b: Any) -> tuple[Any, ...]:
        return b, blocks - 1 - i, n, 0

    block = pl.BlockSpec((None, size, None, z.channels), index)
    return Out((z.B, z.queries, z.N, z.channels), launch.call.q.dtype, block)


def backward(
    plan: KernelPlan, call: KernelCall, back: Returned, learned: bool
) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
    """The gradients of q, k and v, and where `learned` that of what the bias reads.

    That is the vector `[N, T + S - 1]` of a `ByDistance`, the heads' rows `[N, P]` of a `ByPosition`, the slopes
    `[N, 1]` of a `Slope`.
    """
    # A vector's gradient sums over diagonals, which no block of queries has to itself: the others' sums are by query.
    by_diagonal = learned and call.bias is not None and call.bias.kind == "distance"
    dq, d_bias = _run_dq(plan, call, back, learned and not by_diagonal)
    dk, dv = _run_dkv(plan, call, back)
    if by_diagonal:
        d_bias = _run_diagonal(plan, call, back)
    return dq, dk, dv, d_bias


def _run_dq(plan: KernelPlan, call: KernelCall, back: Returned, learned: bool) -> tuple[jax.Array, jax.Array | None]:
    launch = TritonLaunch(plan, "dq", call)
    z = launch.sizes
    visits = launch.table.by_query
    grid = (z.queries // launch.block.rows, z.N, z.B)
    refs = launch.refs(visits.bounds, back)
    outs = [_tokens_out(launch)]
    if not learned:
        (dq,) = launch.run(triton_kernels.dq, grid, refs, visits.stretches, outs)
        return dq[:, : z.T, :, : z.H], None
    # An output more, and with it the kernel is another one: what learns nothing pays nothing.
    outs.append(_row_out(launch))
    dq, gathered = launch.run(triton_kernels.dq, grid, refs, visits.stretches, outs)
    d_bias = launch.bias.gradient(gathered)
    return dq[:, : z.T, :, : z.H], d_bias


def _row_out(launch: TritonLaunch) -> Out:
    """What each block of queries gathers for the bias, `[B, N, blocks, 1, P]`."""
    z = launch.sizes
    blocks = z.queries // launch.block.rows
    wide = _power_of_two(launch.bias.width(launch))

    def index(i: Index, n: Index, b: Any) -> tuple[Any, ...]:
        return b, n, blocks - 1 - i, 0, 0

    one_row = pl.BlockSpec((None, None, None, 1, wide), index)
    return Out((z.B, z.N, blocks, 1, wide), jnp.float32, one_row)


def _run_dkv(plan: KernelPlan, call: KernelCall, back: Returned) -> tuple[jax.Array, jax.Array]:
    launch = TritonLaunch(plan, "dkv", call)
    z = launch.sizes
    visits = launch.table.by_key
    size = launch.block.columns

    def index(j: Index, n: Index, b: Any) -> tuple[Any, ...]:
        return b, j, n, 0

    block = pl.BlockSpec((None, size, None, z.channels), index)
    shape = (z.B, z.keys, z.K, z.channels)
    dk, dv = launch.run(
        triton_kernels.dkv,
        (z.keys // size, z.K, z.B),
        launch.refs(visits.bounds, back),
        visits.stretches,
        [Out(shape, call.k.dtype, block), Out(shape, call.v.dtype, block)],
    )
    dk_BSKH = dk[:, : z.S, :, : z.H]
    dv_BSKH = dv[:, : z.S, :, : z.H]
    return dk_BSKH, dv_BSKH


def _run_diagonal(plan: KernelPlan, call: KernelCall, back: Returned) -> jax.Array:
    launch = TritonLaunch(plan, "diagonal", call)
    z = launch.sizes
    diagonals = launch.table.diagonals
    size = launch.block.rows
    count = diagonals.shape[0]
    # A mask under which no query sees a key leaves nothing to launch.
    if not count:
        return jnp.zeros((z.N, z.T + z.S - 1), jnp.float32)

    def index(d: Any, n: Index) -> tuple[Any, ...]:
        return n, d, 0, 0

    one_tile = pl.BlockSpec((None, None, size, size), index)
    tiles_out = Out((z.N, count, size, size), jnp.float32, one_tile)
    refs = launch.refs(diagonals, back)
    # The bounds here are of diagonals: they know no stretches, and the kernel visits no block by them.
    (tiles,) = launch.run(triton_kernels.diagonal, (count, z.N), refs, (True, True, True), [tiles_out])
    # Diagonals that are never seen were left out at both ends: their part of the vector has no gradient.
    key_blocks = z.keys // size
    every = z.queries // size + key_blocks - 1
    before = int(diagonals[0, 0]) + key_blocks - 1
    after = every - count - before
    seen = over_diagonals(tiles)
    whole = jnp.pad(seen, ((0, 0), (before * size, after * size)))
    # Padded keys are further below the first query, padded queries further above the last key.
    first = z.keys - z.S
    return whole[:, first : first + z.T + z.S - 1]
