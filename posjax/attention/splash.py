"""JAX's splash attention on TPU, for all that leaves no array bias: rotations, and causal slopes as channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from posjax.attention import channels
from posjax.attention.biases import Bias, Slope
from posjax.attention.jobs import Job
from posjax.attention.masks import Causal, Mask, Window, rules
from posjax.attention.scoring import PLAIN, Scoring
from posjax.attention.token_masks import Segments
from posjax.positions import Index

if TYPE_CHECKING:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

LANES = 128
"""What lengths must be multiples of."""


def refuse(job: Job) -> str | None:
    """Why this backend cannot do a job; `None` where it can."""
    if job.platform != "tpu":
        return f"it runs on TPUs, and this is a {job.platform}"
    if job.varying:
        return "inside a jax.shard_map a Pallas kernel does not say what varies: pass check_vma=False to it"
    if job.dtype not in ("bfloat16", "float32"):
        return f"it takes bfloat16 or float32, and queries are {job.dtype}"
    # It gives one, but as a residual, which is not differentiated.
    if job.with_lse:
        return "its log-sum-exp, which sinks need too, has no gradient"
    if job.beyond_kernels is not None:
        return job.beyond_kernels
    if job.bias not in ("none", "slope"):
        return f"it takes no bias, and this one ({job.bias}) is no slope"
    if job.bias == "slope" and not job.causal:
        return "a bias by slopes is exact as channels under a causal mask only"
    if job.queries % LANES or job.keys % LANES:
        return f"it takes lengths that are multiples of {LANES}: {job.queries} and {job.keys} are not both"
    if not job.knows_mask or job.mask.count("Segments") > 1:
        return f"it takes Causal(), Window(n) and one Segments(ids), and the mask is {' & '.join(job.mask)}"
    if job.q_offset is None or job.window == -1:
        return "the first query's index and a window must be known at compile time"
    return None


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: Index = 0, scoring: Scoring = PLAIN
) -> tuple[jax.Array, None]:
    """As `reference.attention`, without the log-sum-exp, for the jobs that `refuse` lets through."""
    return call(q, k, v, bias, mask, int(q_offset), scoring, interpret=False), None


def call(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: Bias,
    mask: Mask,
    q_offset: int,
    scoring: Scoring = PLAIN,
    interpret: bool = False,
) -> jax.Array:
    """The kernel, a batch row at a time; `interpret` runs it on any device."""
    # Imported where it is called: Pallas takes longer to import than all of posjax, and few calls need it.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernels,
        splash_attention_mask as masks,
    )

    _, T, N, _ = q.shape
    S = k.shape[1]
    q = _scaled(q, scoring)
    if isinstance(bias, Slope):
        # After the scaling: the root of a head size need not be a power of two, and would round the slopes.
        q, k = channels.widen(q, k, bias.slopes)
    every = rules(mask)
    rule = _rule(every, (T, S), q_offset)
    kernel: Any = kernels.make_splash_mqa(
        masks.MultiHeadMask([rule] * N),
        block_sizes=_blocks(T, S),
        is_mqa=False,
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    q_BNTH, k_BKSH = _swapped(q), _swapped(k)
    v_BKSH = _swapped(v)
    segments = next((rule for rule in every if isinstance(rule, Segments)), None)
    if segments is None:
        return _swapped(jax.vmap(kernel)(q_BNTH, k_BKSH, v_BKSH))
    q_ids, k_ids = _ids(segments, q.shape[0], (T, S), q_offset)

    def of_row(q: jax.Array, k: jax.Array, v: jax.Array, q_ids: jax.Array, k_ids: jax.Array) -> jax.Array:
        return kernel(q, k, v, segment_ids=kernels.SegmentIds(q_ids, k_ids))

    out = _swapped(jax.vmap(of_row)(q_BNTH, k_BKSH, v_BKSH, q_ids, k_ids))
    # Here padding would see padding; by our rule it sees nothing.
    return jnp.where((q_ids != 0)[:, :, None, None], out, 0)


def _scaled(q: jax.Array, scoring: Scoring) -> jax.Array:
    """The queries scaled, which the kernel does not do, in the precision that products are accumulated in."""
    wide = q.astype(jnp.float32)
    if scoring.scale is None:
        scaled = wide / math.sqrt(q.shape[-1])
    else:
        scaled = wide * scoring.scale
    return scaled.astype(q.dtype)


def _swapped(x: jax.Array) -> jax.Array:
    """Tokens and heads change places: the kernel's arrays are `[N, T, H]` for a row of the batch."""
    return x.transpose(0, 2, 1, 3)


def _rule(every: tuple[Mask, ...], shape: tuple[int, int], q_offset: int) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    rule: Any = masks.FullMask(shape)
    for part in every:
        if isinstance(part, Causal):
            rule = rule & masks.CausalMask(shape, offset=q_offset)
        elif isinstance(part, Window):
            # Wider is the same, and may not fit its sums.
            reach = min(part.size, sum(shape)) - 1
            rule = rule & masks.LocalMask(shape, window_size=(reach, reach), offset=q_offset)
    return rule


def _ids(segments: Segments, batch: int, sizes: tuple[int, int], q_offset: int) -> tuple[jax.Array, jax.Array]:
    """The segments of queries `[B, T]` and keys `[B, S]`, queries being the tokens from `q_offset` on."""
    queries, keys = sizes
    q_ids = segments.queries[:, q_offset : q_offset + queries]
    k_ids = segments.queries[:, :keys]
    if segments.keys is not None:
        k_ids = segments.keys[:, :keys]
    # The batch is mapped over, so an id for all rows is spelled out for each.
    return (
        jnp.broadcast_to(q_ids, (batch, queries)).astype(jnp.int32),
        jnp.broadcast_to(k_ids, (batch, keys)).astype(jnp.int32),
    )


def _blocks(queries: int, keys: int) -> kernels.BlockSizes:
    """The largest blocks that divide the lengths, up to 512, for all of its kernels."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

    def largest(length: int) -> int:
        return next(block for block in (512, 256, LANES) if length % block == 0)

    q = largest(queries)
    k = largest(keys)
    return kernels.BlockSizes(
        block_q=q,
        block_kv=k,
        block_kv_compute=k,
        block_q_dkv=q,
        block_kv_dkv=k,
        block_kv_dkv_compute=k,
        block_q_dq=q,
        block_kv_dq=k,
    )
