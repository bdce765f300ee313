"""PyTorch's ways to compute a case. This module imports torch; `peers` imports it only where torch is installed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.common import torch_biases
from experiments.benchmarks.common.cases import Arrays, Case, Ready, Unable
from experiments.benchmarks.common.timing import Call
from posjax.encodings import Alibi, Fire, T5Bias

torch: Any = importlib.import_module("torch")
torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def sdpa(case: Case, budget: float) -> Ready:
    """`scaled_dot_product_attention`: causal where there is no bias, else with the bias and the mask as one array."""
    attention = torch.nn.functional.scaled_dot_product_attention
    if case.encoding.bias_kind == "none":
        turn = torch_biases.rotation(case)
        return ready(case, lambda params, q, k, v: attention(turn(q), turn(k), v, is_causal=True), halved=True)
    # A mask that is differentiated takes torch's plain path, which keeps the logits and the weights too.
    hidden = case.encoding.hidden / case.heads / case.batch if isinstance(case.encoding, Fire) else 0
    fits(case, budget, (8 if case.learned and case.backward else 3) + 3 * hidden)
    mask = torch_biases.masked(case)
    return ready(case, lambda params, q, k, v: attention(q, k, v, attn_mask=mask(params)), halved=False)


def flex(case: Case, budget: float, fixed: bool = False) -> Ready:
    """FlexAttention, compiled for this shape, with the bias as its score function and causal blocks skipped."""
    module = importlib.import_module("torch.nn.attention.flex_attention")
    if case.backward and case.device == "cpu":
        raise Unable("FlexAttention has no gradients on CPUs")
    if case.encoding.bias_kind == "pairwise":
        raise Unable("a network for each pair is no score function")
    # One function serves every case of a process, and dynamo would stop compiling it anew after a few.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1000
    compiled = torch.compile(module.flex_attention, dynamic=False)
    blocks = module.create_block_mask(
        lambda b, h, q, k: q >= k,
        None,
        None,
        case.length,
        case.length,
        device=case.device,
        _compile=case.device != "cpu",
    )
    turn, score = torch_biases.rotation(case), torch_biases.score(case)

    def forward(params: dict[str, Any], q: Any, k: Any, v: Any) -> Any:
        return compiled(turn(q), turn(k), v, score_mod=score and score(params), block_mask=blocks)

    return ready(case, forward, halved=True, fixed=fixed)


def x_transformers(case: Case, budget: float) -> Ready:
    """x-transformers' own bias modules and its `Attend` with flash attention, which hands torch the bias as a mask."""
    modules = importlib.import_module("x_transformers.x_transformers")
    if isinstance(case.encoding, Alibi):
        fits(case, budget, 4)
        module = modules.AlibiPositionalBias(case.heads)
    elif isinstance(case.encoding, T5Bias):
        fits(case, budget, 10 if case.backward else 5)
        module = modules.RelativePositionBias(1.0, True, case.encoding.buckets, case.encoding.max_distance, case.heads)
        module.relative_attention_bias.weight = torch.nn.Parameter(torch.tensor(case.params["table"].T.copy()))
    else:
        raise Unable("has no such bias")
    attend = importlib.import_module("x_transformers.attend").Attend(causal=True, flash=True)
    S, dtype = case.length, getattr(torch, case.dtype)
    weights = {"table": module.relative_attention_bias.weight} if case.learned else {}

    def forward(params: dict[str, Any], q: Any, k: Any, v: Any) -> Any:
        return attend(q, k, v, attn_bias=module(S, S).to(dtype))[0]

    return ready(case, forward, halved=False, learned=weights, back=lambda name, x: x.T)


def bloom(case: Case, budget: float) -> Ready:
    """Bloom's attention layer as it is without a fused kernel, its projections replaced by nothing."""
    if not isinstance(case.encoding, Alibi):
        raise Unable("has no such bias")
    fits(case, budget, 7 if case.backward else 4)
    made = importlib.import_module("transformers.models.bloom.modeling_bloom")
    width = case.heads * case.head_size
    layer = made.BloomAttention(made.BloomConfig(hidden_size=width, n_head=case.heads), layer_idx=0).eval()
    layer.query_key_value = layer.dense = torch.nn.Identity()
    B, S, dtype = case.batch, case.length, getattr(torch, case.dtype)
    alibi = made.build_alibi_tensor(torch.ones(B, S), case.heads, dtype)
    later = torch.full((S, S), torch.finfo(dtype).min, dtype=dtype).triu(1)[None, None]
    nothing = torch.zeros(B, S, width, dtype=dtype)

    def forward(params: dict[str, Any], q: Any, k: Any, v: Any) -> Any:
        fused = torch.stack([x.transpose(1, 2) for x in (q, k, v)], 3).reshape(B, S, 3 * width)
        out, _ = layer(fused, nothing, alibi, later)
        return out.view(B, S, case.heads, case.head_size).transpose(1, 2)

    return ready(case, forward, halved=False)


def fits(case: Case, budget: float, arrays: float) -> None:
    """Errors: `Unable` where so many `[B, N, S, S]` arrays, as counted in the peer's code, are over `budget` GiB."""
    needed = arrays * case.square * (1.0 if case.dtype == "float32" else 0.75)
    if needed > budget:
        raise Unable(f"would take about {needed:.1f} GiB")


def ready(
    case: Case,
    forward: Callable[..., Any],
    halved: bool,
    fixed: bool = False,
    learned: Any = None,
    back: Callable[[str, Any], Any] = lambda name, x: x,
) -> Ready:
    """A torch function prepared for a case; `learned` are parameters of the peer's own, laid out as `back` undoes."""
    device, dtype = case.device, getattr(torch, case.dtype)
    q, k, v, d_out = (
        torch.tensor(x.swapaxes(1, 2), dtype=dtype, device=device).contiguous() for x in case.inputs.values()
    )
    params = {name: torch.tensor(x, device=device) for name, x in case.params.items()}
    trained: dict[str, Any] = ({} if fixed else params) if learned is None else learned
    if not case.backward:

        def run() -> Any:
            with torch.no_grad():
                return (forward(params, q, k, v),)
    else:
        for x in (q, k, v, *trained.values()):
            x.requires_grad_(True)

        def run() -> Any:
            out = forward(params, q, k, v)
            return (out, *torch.autograd.grad(out, (q, k, v, *trained.values()), d_out))

    def numbers(result: Any) -> Arrays:
        parts = [case.part(x.detach().transpose(1, 2)).float().cpu().numpy() for x in result[:4]]
        more = [x.detach().float().cpu() for x in result[4:]]
        found = dict(zip(("out", "dq", "dk", "dv"), parts, strict=False))
        return found | {f"d {name}": np.asarray(back(name, x)) for name, x in zip(trained, more, strict=False)}

    wait = (lambda _: torch.cuda.synchronize()) if device == "cuda" else (lambda _: None)
    return Ready(Call(run, wait), halved, numbers)
