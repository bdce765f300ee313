"""cuDNN's fused attention, for all that leaves no array bias: rotations, and causal slopes as channels."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from posjax.attention import channels
from posjax.attention.biases import Bias, Slope
from posjax.attention.jobs import Job
from posjax.attention.masks import Causal, Mask, Window, rules
from posjax.attention.scoring import PLAIN, Scoring
from posjax.positions import Index

WIDE = ("H100", "H200", "GH200", "B100", "B200", "GB200", "B300")
"""Devices whose heads may have 256 channels; on others it is 128."""


def refuse(job: Job) -> str | None:
    """Why this backend cannot do a job; `None` where it can."""
    if job.platform not in ("gpu", "cuda"):
        return f"it runs on NVIDIA GPUs, and this is a {job.platform}"
    if job.dtype not in ("bfloat16", "float16"):
        return f"it takes bfloat16 or float16, and queries are {job.dtype}"
    if job.with_lse:
        return "its log-sum-exp, which sinks need too, is rounded and has no gradient"
    if job.beyond_kernels is not None:
        return job.beyond_kernels
    if job.scale is not None and job.bias == "slope":
        return "it would scale the channels of a slope"
    if job.bias not in ("none", "slope"):
        return f"it would need the bias ({job.bias}) as a whole [N, T, S] array"
    # Channels hold slopes in pieces of 8 bits, and positions in digits of as many: those of bfloat16.
    if job.bias == "slope" and (job.dtype != "bfloat16" or not job.causal):
        return "a bias by slopes is exact as channels in bfloat16 under a causal mask only"
    width, widest = _channels(job), _widest(job.device)
    if width % 8 or width > widest:
        return f"it takes head sizes that are multiples of 8 up to {widest}, and {width} channels are needed"
    if not set(job.mask) <= {"Causal", "Window"} or len(job.mask) > 2:
        return f"it takes Causal() and Window(n), and the mask is {' & '.join(job.mask)}"
    if job.window is not None and (job.window < 0 or not job.causal):
        return "a window must be known at compile time, and causal"
    if not job.square and (job.mask or job.bias != "none"):
        return "its masks are for queries and keys that are the same tokens"
    return None


def _channels(job: Job) -> int:
    if job.bias == "slope":
        return job.head_size + channels.WIDTH
    return job.head_size


def _widest(device: str) -> int:
    if any(name in device for name in WIDE):
        return 256
    return 128


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: Index = 0, scoring: Scoring = PLAIN
) -> tuple[jax.Array, None]:
    """As `reference.attention`, without the log-sum-exp, for the jobs that `refuse` lets through."""
    return call(q, k, v, bias, mask, "cudnn", scoring), None


def call(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: Bias,
    mask: Mask,
    implementation: Literal["xla", "cudnn"],
    scoring: Scoring = PLAIN,
) -> jax.Array:
    """The call to `jax.nn`; its "xla" shows on any device what is asked of cuDNN."""
    H = q.shape[-1]
    every = rules(mask)
    windows = [rule.size for rule in every if isinstance(rule, Window)]
    # The scale of the head size as it is, before channels are added to it.
    options: dict[str, Any] = {"scale": scoring.factor(H), "implementation": implementation}
    options["is_causal"] = any(isinstance(rule, Causal) for rule in every)
    if windows:
        # Its count is of keys before the query's own; ours includes that one.
        options["local_window_size"] = (min(windows) - 1, 0)
    if isinstance(bias, Slope):
        # It divides every logit by the root of the head size, and a bias is added after that.
        q, k = channels.widen(q, k, bias.slopes * math.sqrt(H))
        # It wants one head size for all three: the values' new channels come out as zeros, and are cut off.
        v = jnp.pad(v, ((0, 0),) * 3 + ((0, channels.WIDTH),))
    out = jnp.asarray(jax.nn.dot_product_attention(q, k, v, **options))
    return out[..., :H]
