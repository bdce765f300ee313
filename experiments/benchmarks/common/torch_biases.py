"""The encodings' formulas in PyTorch, as its users write them: a whole array of pairs, or a score function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.common.cases import Case, by_distance, distances
from posjax.encodings import Alibi, Dims, Fire, Kerple, Rope, T5Bias
from posjax.positions import contiguous

torch: Any = importlib.import_module("torch")
Params = dict[str, Any]


def buckets(case: Case) -> Any:
    """The bucket of each distance 0 .. S - 1, int64."""
    assert isinstance(case.encoding, T5Bias)
    far = np.arange(case.length)
    return torch.tensor(np.searchsorted(case.encoding.edges(), far, "right"), device=case.device)


def masked(case: Case) -> Callable[[Params], Any]:
    """The bias with minus infinity where the mask forbids, `[1, N, S, S]`, as a function of the parameters.

    A fixed bias is made once, beforehand; a learned one for each pair, in the pass.
    """
    dtype = getattr(torch, case.dtype)
    far = torch.tensor(distances(case.length), device=case.device)
    later = torch.ones(case.length, case.length, dtype=torch.bool, device=case.device).triu(1)
    if not case.learned:
        vector = torch.tensor(by_distance(case), device=case.device).to(dtype)
        fixed = vector[:, far].masked_fill_(later, -torch.inf)[None]
        return lambda params: fixed
    formula = _pairs(case, far)
    return lambda params: formula(params).to(dtype).masked_fill(later, -torch.inf)[None]


def _pairs(case: Case, far: Any) -> Callable[[Params], Any]:
    """A learned bias of each pair, `[N, S, S]`."""
    if isinstance(case.encoding, T5Bias):
        bucket = buckets(case)[far]
        return lambda params: torch.nn.functional.embedding(bucket, params["table"].T).permute(2, 0, 1)
    distance = far.float()
    if isinstance(case.encoding, Kerple):
        return lambda params: (
            -(params["r1"].exp()[:, None, None] * torch.log1p(params["r2"].exp()[:, None, None] * distance))
        )
    assert isinstance(case.encoding, Fire)
    place = torch.arange(case.length, device=case.device).float()

    def fire(params: Params) -> Any:
        c, least = params["c"].exp(), params["threshold"].exp()
        share = torch.log1p(c * distance) / torch.log1p(c * torch.maximum(place, least))[:, None]
        hidden = torch.relu(share[..., None] * params["in_scale"][0] + params["in_shift"][0])
        return torch.einsum("TSM,NM->NTS", hidden, params["out"]) + params["shift"][:, None, None]

    return fire


def score(case: Case) -> Callable[[Params], Any] | None:
    """The bias as a score function of FlexAttention, of the parameters; `None` where there is no bias."""
    if case.encoding.bias_kind == "none":
        return None
    if isinstance(case.encoding, T5Bias):
        bucket = buckets(case)
        return lambda params: lambda s, b, h, q, k: s + params["table"][h, bucket[torch.abs(q - k)]]
    if isinstance(case.encoding, Kerple):
        return _kerple
    if isinstance(case.encoding, Alibi):
        slopes = -torch.tensor(by_distance(case)[:, 1].copy(), device=case.device)
        return lambda params: _linear(params["log_slopes"].exp() if case.learned else slopes)
    vector = torch.tensor(by_distance(case), device=case.device)
    return lambda params: lambda s, b, h, q, k: s + vector[h, torch.abs(q - k)]


def _kerple(params: Params) -> Callable[..., Any]:
    # Outside of the score function, which may read numbers of an array but not compute with all of it.
    r1, r2 = params["r1"].exp(), params["r2"].exp()
    return lambda s, b, h, q, k: s - r1[h] * torch.log1p(r2[h] * torch.abs(q - k))


def _linear(slopes: Any) -> Callable[..., Any]:
    return lambda s, b, h, q, k: s - slopes[h] * (q - k)


def rotation(case: Case) -> Callable[[Any], Any]:
    """Rotation by halves of `[B, N, S, H]` with angles made beforehand; nothing for other encodings than `Rope`."""
    if not isinstance(case.encoding, Rope):
        return lambda x: x
    ready = case.encoding.prepare({}, contiguous(case.length), Dims(head_size=case.head_size))
    dtype = getattr(torch, case.dtype)
    cos, sin = (
        torch.tensor(np.concatenate([ready[n], ready[n]], -1).reshape(case.length, -1), device=case.device).to(dtype)
        for n in ("cos", "sin")
    )

    def turn(x: Any) -> Any:
        low, high = x.chunk(2, -1)
        return x * cos + torch.cat((-high, low), -1) * sin

    return turn
