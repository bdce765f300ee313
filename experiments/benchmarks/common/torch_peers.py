"""PyTorch's ways to compute a case. This module imports torch; `peers` imports it only where torch is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.benchmarks.common import torch_biases
from experiments.benchmarks.common.cases import Arrays, Case, Ready, Unable
from experiments.benchmarks.common.machine import cores
from experiments.benchmarks.common.timing import Timed
from posjax.encodings import Alibi, Fire, T5Bias

torch: Any = importlib.import_module("torch")
# Every core that this process may use, as jax takes them.
torch.set_num_threads(cores())


def sdpa(case: Case, budget: float) -> Ready:
    """`scaled_dot_product_attention`: causal where there is no bias, else with the bias and the mask as one array."""
    attention = torch.nn.functional.scaled_dot_product_attention
    if case.encoding.bias_kind == "none":
        turn = torch_biases.rotation(case)
        return ready(case, lambda params, q, k, v: attention(turn(q), turn(k), v, is_causal=True), halved=True)
    arrays = 3.0
    # A mask that is differentiated takes torch's plain path, which keeps the logits and the weights too.
    if case.learned and case.backward:
        arrays = 8.0
    # FIRE's network keeps its hidden units for each pair of one row, whatever the heads.
    if isinstance(case.encoding, Fire):
        arrays += 3 * (case.encoding.hidden / case.heads / case.batch)
    fits(case, budget, arrays)
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
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 1000
    compiled = torch.compile(module.flex_attention, dynamic=False)
    blocks = module.create_block_mask(
        lambda b, h, q, k: q >= k,
        None,
        None,
        case.length,
        case.length,
        device=case.device,
        # Not compiled, it makes the whole array of pairs first, for which a GPU may have no room.
        _compile=case.device != "cpu",
    )
    turn = torch_biases.rotation(case)
    score = torch_biases.score(case)

    def forward(params: dict[str, Any], q: Any, k: Any, v: Any) -> Any:
        score_mod = None
        if score is not None:
            score_mod = score(params)
        return compiled(turn(q), turn(k), v, score_mod=score_mod, block_mask=blocks)

    return ready(case, forward, halved=True, fixed=fixed)


def x_transformers(case: Case, budget: float) -> Ready:
    """x-transformers' own bias modules and its `Attend` with flash attention, which hands torch the bias as a mask."""
    modules = importlib.import_module("x_transformers.x_transformers")
    if isinstance(case.encoding, Alibi):
        fits(case, budget, 4)
        module = modules.AlibiPositionalBias(case.heads)
    elif isinstance(case.encoding, T5Bias):
        arrays = 5
        if case.backward:
            arrays = 10
        fits(case, budget, arrays)
        module = modules.RelativePositionBias(1.0, True, case.encoding.buckets, case.encoding.max_distance, case.heads)
        # Its table is [buckets, N]; ours, [N, buckets].
        table = torch.tensor(case.params["table"].T.copy())
        module.relative_attention_bias.weight = torch.nn.Parameter(table)
    else:
        raise Unable("has no such bias")
    weights = {}
    if case.learned:
        weights = {"table": module.relative_attention_bias.weight}
    attend = importlib.import_module("x_transformers.attend").Attend(causal=True, flash=True)
    S = case.length
    dtype = getattr(torch, case.dtype)

    def forward(params: dict[str, Any], q: Any, k: Any, v: Any) -> Any:
        bias = module(S, S).to(dtype)
        return attend(q, k, v, attn_bias=bias)[0]

    return ready(case, forward, halved=False, learned=weights, back=lambda x: x.T)


def bloom(case: Case, budget: float) -> Ready:
    """Bloom's attention layer as it is without a fused kernel, its projections replaced by nothing."""
    if not isinstance(case.encoding, Alibi):
        raise Unable("has no such bias")
    arrays = 4
    if case.backward:
        arrays = 7
    fits(case, budget, arrays)
    made = importlib.import_module("transformers.models.bloom.modeling_bloom")
    width = case.heads * case.head_size
    config = made.BloomConfig(hidden_size=width, n_head=case.heads)
    # In evaluation, without dropout.
    layer = made.BloomAttention(config, layer_idx=0).eval()
    # Attention alone is compared, without the products before and after it.
    layer.query_key_value = torch.nn.Identity()
    layer.dense = torch.nn.Identity()
    B, S = case.batch, case.length
    dtype = getattr(torch, case.dtype)
    alibi = made.build_alibi_tensor(torch.ones(B, S), case.heads, dtype)
    # The mask as an array that is added, such as a model hands to its layers.
    least = torch.finfo(dtype).min
    later = torch.full((S, S), least, dtype=dtype).triu(1)[None, None]
    # The layer adds its input's stream to the result, and so nothing here.
    residual = torch.zeros(B, S, width, dtype=dtype)

    def forward(params: dict[str, Any], q: Any, k: Any, v: Any) -> Any:
        # The layer splits one array, in which each head's query, key and value lie side by side.
        by_token = [x.transpose(1, 2) for x in (q, k, v)]
        fused = torch.stack(by_token, 3).reshape(B, S, 3 * width)
        out, _ = layer(fused, residual, alibi, later)
        return out.view(B, S, case.heads, case.head_size).transpose(1, 2)

    return ready(case, forward, halved=False)


def fits(case: Case, budget: float, arrays: float) -> None:
    """Errors: `Unable` where so many `[B, N, S, S]` arrays, as counted in the peer's code, are over `budget` GiB."""
    needed = arrays * case.square
    if case.dtype != "float32":
        needed *= 0.75
    if needed > budget:
        raise Unable(f"would take about {needed:.1f} GiB")


def ready(
    case: Case,
    forward: Callable[..., Any],
    halved: bool,
    fixed: bool = False,
    learned: Mapping[str, Any] | None = None,
    back: Callable[[Any], Any] = lambda x: x,
) -> Ready:
    """A torch function prepared for a case.

    `fixed` trains no parameter. `learned`: parameters of the peer's own instead of the case's, which `back` turns into
    the layout of ours.
    """
    q, k, v, d_out = _inputs(case)
    params = {name: torch.tensor(x, device=case.device) for name, x in case.params.items()}
    trained: dict[str, Any] = {}
    if learned is not None:
        trained = dict(learned)
    elif not fixed:
        trained = params

    def without_gradients() -> Any:
        with torch.no_grad():
            return (forward(params, q, k, v),)

    def with_gradients() -> Any:
        out = forward(params, q, k, v)
        return (out, *torch.autograd.grad(out, (q, k, v, *trained.values()), d_out))

    def numbers(result: Any) -> Arrays:
        found = {}
        # Without gradients the result is the output alone.
        for name, x_BNSH in zip(("out", "dq", "dk", "dv"), result[:4], strict=False):
            found[name] = _on_host(case.part(x_BNSH.detach().transpose(1, 2)))
        for name, gradient in zip(trained, result[4:], strict=False):
            found[f"d {name}"] = np.asarray(back(_on_host(gradient.detach())))
        return found

    run = without_gradients
    if case.backward:
        run = with_gradients
        # In place: these are the arrays that `forward` is called with.
        for x in (q, k, v, *trained.values()):
            x.requires_grad_(True)
    return Ready(Timed(run, _wait(case.device)), halved, numbers)


def _inputs(case: Case) -> list[Any]:
    """Queries, keys, values and the cotangent, `[B, N, S, H]` as torch wants them."""
    dtype = getattr(torch, case.dtype)
    made = []
    for x_BSNH in case.inputs.values():
        x_BNSH = torch.tensor(x_BSNH.swapaxes(1, 2), dtype=dtype, device=case.device)
        made.append(x_BNSH.contiguous())
    return made


def _on_host(x: Any) -> np.ndarray:
    return x.float().cpu().numpy()


def _wait(device: str) -> Callable[[Any], None]:
    # On a GPU torch returns when work has been queued, on a CPU when it is done.
    if device == "cuda":
        return lambda result: torch.cuda.synchronize()
    return lambda result: None
