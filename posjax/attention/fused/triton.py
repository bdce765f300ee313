"""The fused backend on GPUs: what its kernels are given, how large their tiles are, and what comes back.

Queries, keys and values stay `[B, T, N, H]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pallas_triton

from posjax.attention.biases import ByDistance, ByPosition, Slope
from posjax.attention.diagonals import over_diagonals
from posjax.attention.fused import tile, triton_kernels
from posjax.attention.fused.pairwise.program import Program, build, rows
from posjax.attention.fused.plan import Block, Call, Plan, Returned, Sizes, pad, pad_edge, pad_rows
from posjax.attention.fused.rules import table
from posjax.attention.fused.triton_kernels import Kernel, Refs
from posjax.attention.reference import BLIND

HEAD_SIZE = 256
"""The largest head size that there are tiles for."""

BLOCKS: dict[int, dict[str, Block]] = {
    128: {
        "forward": Block(64, 128, 4, 2),
        "dq": Block(64, 32, 4, 3),
        "dkv": Block(32, 128, 4, 2),
        "diagonal": Block(128, 128, 8, 3),
    },
    256: {
        "forward": Block(128, 64, 8, 3),
        "dq": Block(128, 64, 8, 3),
        "dkv": Block(64, 64, 4, 2),
        "diagonal": Block(128, 128, 8, 1),
    },
    512: {
        "forward": Block(64, 32, 8, 2),
        "dq": Block(64, 32, 8, 1),
        "dkv": Block(32, 64, 8, 1),
        "diagonal": Block(32, 32, 4, 1),
    },
    1024: dict.fromkeys(("forward", "dq", "dkv", "diagonal"), Block(32, 32, 4, 1)),
    2048: dict.fromkeys(("forward", "dq", "dkv", "diagonal"), Block(16, 16, 4, 1)),
}
"""Tiles by the most bytes that a head of a token takes, float32 counted twice, since a product splits it in two.

In bfloat16 the first three rows are head sizes up to 64, 128 and 256. The first two are the fastest of 10 to 17 tiles
for each kernel on an H200 at 8192 tokens, with a Toeplitz bias and without any; the others were not timed. The operands
of a tile, and the copies that the pipeline has under way, fit the 227 KiB of a Hopper's shared memory.
"""

Out = tuple[tuple[int, ...], Any, pl.BlockSpec]
"""An output of a kernel: its shape, dtype and block."""


class _Launch:
    """One kernel of one call: its sizes, its padded arrays, and how it is run."""

    def __init__(self, plan: Plan, name: str, call: Call) -> None:
        self.plan, self.name, self.call, self.keys_first = plan, name, call, name == "dkv"
        plain = call.sizes
        self.block = _block(plan, name, call)
        rows, columns = self.block.rows, self.block.columns
        self.sizes = plain.padded(rows, columns, max(16, pl.next_power_of_2(plain.H)))
        self.table = table(call.rule, rows, columns)
        self.bias: Program | Literal["toeplitz", "linear"] | None = None
        if isinstance(call.bias, ByPosition):
            self.bias = build(call.bias, (rows, columns))
        elif call.bias is not None:
            self.bias = "linear" if isinstance(call.bias, Slope) else "toeplitz"

    def refs(self, bounds: Any, back: Returned | None = None) -> Refs:
        """The arrays that the kernel reads, padded to whole blocks."""
        z, call, rule = self.sizes, self.call, self.call.rule
        q, k, v = (pad(x, n, z.channels) for x, n in ((call.q, z.queries), (call.k, z.keys), (call.v, z.keys)))
        refs = Refs(
            rule.numbers,
            jnp.asarray(bounds),
            tuple(pad_edge(x, z.queries) for x in rule.q_ids),
            tuple(pad_edge(x, z.keys) for x in rule.k_ids),
            self.operands(),
            q,
            k,
            v,
        )
        if back is None:
            return refs
        return refs._replace(
            d_out=pad(back.d_out, z.queries, z.channels),
            lse=pad_rows(back.lse, z.queries, BLIND),
            delta=pad_rows(back.delta, z.queries, 0.0),
        )

    def operands(self) -> Any:
        """The arrays of the bias."""
        bias, z = self.call.bias, self.sizes
        if isinstance(bias, ByPosition) and isinstance(self.bias, Program):
            return (*rows(self.bias, bias), pad_edge(bias.q_positions, z.queries), pad_edge(bias.k_positions, z.keys))
        if isinstance(bias, ByDistance) and not isinstance(bias, Slope):
            vector = bias.padded(z.queries, z.keys).vector.astype(jnp.float32) * tile.LOG2E
            # Backwards for tiles with keys along their rows: what a warp reads lies in order, and so it stays in shared
            # memory.
            return vector if self.keys_first else vector[:, ::-1]
        return bias.slopes * tile.LOG2E if isinstance(bias, Slope) else None

    def run(
        self,
        kernel: Callable[..., None],
        grid: tuple[int, ...],
        refs: Refs,
        parts: tuple[bool, bool, bool],
        outs: Sequence[Out],
    ) -> list[jax.Array]:
        """The kernel's outputs."""
        device = jax.lax.Precision.HIGHEST if self.plan.interpret else jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
        static = Kernel(
            self.sizes,
            self.block,
            self.call.rule,
            parts,
            self.bias,
            tile.precision(self.call.q.dtype, device),
            self.keys_first,
        )
        whole = jax.tree.map(lambda x: pl.BlockSpec(x.shape, lambda *_, n=x.ndim: (0,) * n), refs)
        params = pallas_triton.CompilerParams(num_warps=self.block.warps, num_stages=self.block.stages)
        return pl.pallas_call(
            partial(kernel, static),
            grid=grid,
            in_specs=[whole],
            out_specs=[spec for _, _, spec in outs],
            out_shape=[jax.ShapeDtypeStruct(shape, dtype) for shape, dtype, _ in outs],
            compiler_params=params,
            interpret=self.plan.interpret,
            name=f"posjax_fused_{self.name}",
        )(refs)


def _block(plan: Plan, name: str, call: Call) -> Block:
    """The tile of a kernel: the table's, or less where the lengths are shorter."""
    z = call.sizes
    wide = pl.next_power_of_2(z.H) * call.q.dtype.itemsize * (1 + (call.q.dtype == jnp.float32))
    fitting = [most for most in BLOCKS if wide <= most]
    if not fitting or z.H > HEAD_SIZE:
        raise NotImplementedError(
            f"the fused backend has no kernels for heads of {z.H} in {call.q.dtype} on a GPU: "
            f"needed is a head size of at most {HEAD_SIZE}; take backend='chunked'"
        )
    block = BLOCKS[min(fitting)][name]
    if plan.block is not None:
        block = block._replace(rows=plan.block, columns=plan.block)
    elif isinstance(call.bias, ByPosition):  # A program holds several tiles in registers.
        rows, columns = (block.rows, block.columns // 2) if name == "dkv" else (block.rows // 2, block.columns)
        block = block._replace(rows=max(16, rows), columns=max(16, columns))
    if name == "diagonal":  # Square.
        size = min(block.rows, pl.next_power_of_2(max(16, z.T, z.S)))
        return block._replace(rows=size, columns=size)
    return block._replace(
        rows=min(block.rows, pl.next_power_of_2(max(16, z.T))),
        columns=min(block.columns, pl.next_power_of_2(max(16, z.S))),
    )


def forward(plan: Plan, call: Call) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The output `[B, T, N, H]`, and each row's maximum and sum of weights `[B, N, T]`."""
    launch = _Launch(plan, "forward", call)
    z, size, visits = launch.sizes, launch.block.rows, launch.table.by_query
    blocks = z.queries // size
    line: Out = (
        (z.B, z.N, z.queries),
        jnp.float32,
        pl.BlockSpec((None, None, size), lambda i, n, b: (b, n, blocks - 1 - i)),
    )
    out, highest, total = launch.run(
        triton_kernels.forward,
        (blocks, z.N, z.B),
        launch.refs(visits.bounds),
        visits.parts,
        [((z.B, z.queries, z.N, z.channels), call.q.dtype, _by_query(z, size, blocks)), line, line],
    )
    return out[:, : z.T, :, : z.H], highest[..., : z.T], total[..., : z.T]


def _by_query(z: Sizes, size: int, blocks: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, size, None, z.channels), lambda i, n, b: (b, blocks - 1 - i, n, 0))


def backward(plan: Plan, call: Call, back: Returned, learned: bool) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
    """The gradients of q, k and v, and where `learned` that of the bias's numbers.

    Those are the vector `[N, T + S - 1]` of a `ByDistance`, the heads' rows `[N, P]` of a `ByPosition`, the slopes
    `[N, 1]` of a `Linear`.
    """
    dq, numbers = _run_dq(plan, call, back, learned and type(call.bias) is not ByDistance)
    dk, dv = _run_dkv(plan, call, back)
    if learned and type(call.bias) is ByDistance:
        numbers = _run_diagonal(plan, call, back)
    return dq, dk, dv, numbers


def _run_dq(plan: Plan, call: Call, back: Returned, learned: bool) -> tuple[jax.Array, jax.Array | None]:
    launch = _Launch(plan, "dq", call)
    z, size, visits = launch.sizes, launch.block.rows, launch.table.by_query
    blocks = z.queries // size
    outs: list[Out] = [((z.B, z.queries, z.N, z.channels), call.q.dtype, _by_query(z, size, blocks))]
    width = launch.bias.widths[0] if isinstance(launch.bias, Program) else size
    if learned:
        wide = max(16, pl.next_power_of_2(width))
        outs.append(
            (
                (z.B, z.N, blocks, 1, wide),
                jnp.float32,
                pl.BlockSpec((None, None, None, 1, wide), lambda i, n, b: (b, n, blocks - 1 - i, 0, 0)),
            )
        )
    dq, *row = launch.run(triton_kernels.dq, (blocks, z.N, z.B), launch.refs(visits.bounds, back), visits.parts, outs)
    numbers = row[0].sum((0, 2, 3))[:, :width] if row else None
    if row and launch.bias == "linear":  # A number for each query, of which only the sum is of use.
        numbers = row[0].sum((0, 2, 3, 4))[:, None]
    return dq[:, : z.T, :, : z.H], numbers


def _run_dkv(plan: Plan, call: Call, back: Returned) -> tuple[jax.Array, jax.Array]:
    launch = _Launch(plan, "dkv", call)
    z, size, visits = launch.sizes, launch.block.columns, launch.table.by_key
    spec = pl.BlockSpec((None, size, None, z.channels), lambda j, n, b: (b, j, n, 0))
    shape = (z.B, z.keys, z.K, z.channels)
    dk, dv = launch.run(
        triton_kernels.dkv,
        (z.keys // size, z.K, z.B),
        launch.refs(visits.bounds, back),
        visits.parts,
        [(shape, call.k.dtype, spec), (shape, call.v.dtype, spec)],
    )
    return dk[:, : z.S, :, : z.H], dv[:, : z.S, :, : z.H]


def _run_diagonal(plan: Plan, call: Call, back: Returned) -> jax.Array:
    launch = _Launch(plan, "diagonal", call)
    z, size, diagonals = launch.sizes, launch.block.rows, launch.table.diagonals
    keys, blocks = z.keys // size, z.queries // size + z.keys // size - 1
    number = diagonals.shape[0]
    if not number:
        return jnp.zeros((z.N, z.T + z.S - 1), jnp.float32)
    (tiles,) = launch.run(
        triton_kernels.diagonal,
        (number, z.N),
        launch.refs(diagonals, back),
        (True, True, True),
        [((z.N, number, size, size), jnp.float32, pl.BlockSpec((None, None, size, size), lambda d, n: (n, d, 0, 0)))],
    )
    before = int(diagonals[0, 0]) + keys - 1
    whole = jnp.pad(over_diagonals(tiles), ((0, 0), (before * size, (blocks - number - before) * size)))
    return whole[:, z.keys - z.S : z.keys + z.T - 1]
