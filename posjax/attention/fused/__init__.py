"""Attention as one kernel for each pass, the bias evaluated inside its tiles, with gradients to what the bias learns.

The kernels are Pallas, for GPUs and for TPUs, over the same mathematics of a tile. A bias by distance enters as its
vector, a slope as one number, a bias by position as a program that runs in the kernel (`pairwise`). No kernel adds to
what another writes, so results repeat to the bit.
"""

from __future__ import annotations

import jax

from posjax.attention.biases import Bias
from posjax.attention.fused.limits import HEAD_SIZE
from posjax.attention.jobs import Job
from posjax.attention.masks import Mask
from posjax.attention.scoring import PLAIN, Scoring
from posjax.positions import Index

__all__ = ["attention", "pass_over", "refuse"]


def refuse(job: Job) -> str | None:
    """Why this backend cannot do a job; `None` where it can.

    A bias by position may still be more than a kernel can evaluate; then `attention` says so.
    """
    # What a kernel cannot know comes first, then what it cannot do, then what nobody has sized its tiles for.
    if job.varying:
        return "inside a jax.shard_map a Pallas kernel does not say what varies: pass check_vma=False to it"
    if job.bias == "content":
        return "the encoding scores content, and its kernels hold one tile"
    if not job.knows_mask:
        return f"its kernels know Causal(), Window(n) and Segments(ids), and the mask is {' & '.join(job.mask)}"
    if job.beyond_kernels is not None:
        return job.beyond_kernels
    if job.dtype not in ("bfloat16", "float16", "float32") or (job.platform == "tpu" and job.dtype == "float16"):
        return f"it takes bfloat16, float32 and on GPUs float16, and queries are {job.dtype}"
    if job.platform == "gpu" and job.head_size > HEAD_SIZE:
        return f"its kernels for GPUs take head sizes up to {HEAD_SIZE}, and this one is {job.head_size}"
    return None


def pass_over(job: Job) -> str | None:
    """Why `backend="auto"` leaves a job that this backend can do to others; `None` where it takes it."""
    # Whether it is shows only when the bias is traced, and "auto" has chosen by then.
    if job.bias == "position":
        return "a bias of explicit positions may be more than its kernels can evaluate"
    if job.platform == "gpu" and not any(name in job.device for name in ("H100", "H200")):
        return f"its tiles were chosen on an H200, and this is a {job.device}"
    return None


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: Index = 0, scoring: Scoring = PLAIN
) -> tuple[jax.Array, jax.Array]:
    """As `reference.attention`, in kernels that hold one tile: the same arguments, the same result.

    On a GPU the kernels are compiled by Triton, on a TPU by Mosaic. Elsewhere they are interpreted, which is for
    checking them: it is slower than the other backends. Inside `jax.shard_map` pass `check_vma=False`, as for every
    Pallas kernel; under `jax.jit` alone a compiler gathers sharded arguments before a kernel.

    Errors: `NotImplementedError`, with the reason, for encodings that score content, masks of one's own, and biases
    at explicit positions that are more than an elementwise function of a pair.
    """
    # Imported where it is called: Pallas takes longer to import than all of posjax, and few calls need it.
    from posjax.attention.fused.derivative import planned

    return planned(None, q, k, v, bias, mask, q_offset, scoring)
