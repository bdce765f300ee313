"""The encodings' formulas in PyTorch, as its users write them: a whole array of pairs, or a score function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.common.cases import Case, by_distance, distances
from posjax.encodings import Alibi, Dims, Fire, Kerple, Rope, T5Bias
from posjax.positions import contiguous

# By name, so that types are checked where torch is not installed.
torch: Any = importlib.import_module("torch")
Params = dict[str, Any]
Score = Callable[..., Any]
"""FlexAttention's `(score, batch, head, q, k) -> score`."""


def buckets(case: Case) -> Any:
    """The bucket of each distance 0 .. S - 1, int64."""
    assert isinstance(case.encoding, T5Bias)
    # Made once: a bucket depends on the distance alone, and no gradient goes through it.
    far = np.arange(case.length)
    return torch.tensor(np.searchsorted(case.encoding.edges(), far, "right"), device=case.device)


def masked(case: Case) -> Callable[[Params], Any]:
    """The bias with minus infinity where the mask forbids, `[1, N, S, S]`, as a function of the parameters.

    A fixed bias is made once, beforehand; a learned one for each pair, in the pass.
    """
    S = case.length
    dtype = getattr(torch, case.dtype)
    far_SS = torch.tensor(distances(S), device=case.device)
    # Above the diagonal lies what comes after a query.
    later_SS = torch.ones(S, S, dtype=torch.bool, device=case.device).triu(1)
    if not case.learned:
        vector_NS = torch.tensor(by_distance(case), device=case.device).to(dtype)
        # In place: a second array of this size may be more than there is room for.
        fixed = vector_NS[:, far_SS].masked_fill_(later_SS, -torch.inf)[None]
        return lambda params: fixed
    formula = _pairs(case, far_SS)

    def learned(params: Params) -> Any:
        bias_NSS = formula(params).to(dtype)
        return bias_NSS.masked_fill(later_SS, -torch.inf)[None]

    return learned


def _pairs(case: Case, far_SS: Any) -> Callable[[Params], Any]:
    """A learned bias of each pair, `[N, S, S]`."""
    if isinstance(case.encoding, T5Bias):
        return _t5_pairs(buckets(case)[far_SS])
    if isinstance(case.encoding, Kerple):
        return _kerple_pairs(far_SS.float())
    assert isinstance(case.encoding, Fire)
    return _fire_pairs(case, far_SS.float())


def _t5_pairs(bucket_SS: Any) -> Callable[[Params], Any]:
    def t5(params: Params) -> Any:
        # Ours is [N, buckets]. A lookup takes whole rows, and heads come first again after it.
        table = params["table"].T
        return torch.nn.functional.embedding(bucket_SS, table).permute(2, 0, 1)

    return t5


def _kerple_pairs(distance_SS: Any) -> Callable[[Params], Any]:
    def kerple(params: Params) -> Any:
        r1_N11 = params["r1"].exp()[:, None, None]
        r2_N11 = params["r2"].exp()[:, None, None]
        return -(r1_N11 * torch.log1p(r2_N11 * distance_SS))

    return kerple


def _fire_pairs(case: Case, distance_SS: Any) -> Callable[[Params], Any]:
    position_S = torch.arange(case.length, device=case.device).float()

    def fire(params: Params) -> Any:
        c = params["c"].exp()
        threshold = params["threshold"].exp()
        # FIRE divides by the query's position, or by the threshold where that is further.
        longest_S = torch.maximum(position_S, threshold)
        whole_S1 = torch.log1p(c * longest_S)[:, None]
        share_SS = torch.log1p(c * distance_SS) / whole_S1
        before_SSM = share_SS[..., None] * params["in_scale"][0] + params["in_shift"][0]
        hidden_SSM = torch.relu(before_SSM)
        bias_NSS = torch.einsum("TSM,NM->NTS", hidden_SSM, params["out"])
        return bias_NSS + params["shift"][:, None, None]

    return fire


def score(case: Case) -> Callable[[Params], Score] | None:
    """The bias as a score function of FlexAttention, of the parameters; `None` where there is no bias."""
    if case.encoding.bias_kind == "none":
        return None
    if isinstance(case.encoding, T5Bias):
        bucket_S = buckets(case)
        return lambda params: _look_up(params["table"], bucket_S)
    if isinstance(case.encoding, Kerple):
        return _kerple
    if isinstance(case.encoding, Alibi):
        return _alibi(case)
    vector_NS = torch.tensor(by_distance(case), device=case.device)
    return lambda params: _read(vector_NS)


# The distance without its sign, here and below: a kernel reads for pairs, too, that the mask rules out afterwards.
def _read(vector_NS: Any) -> Score:
    return lambda s, b, h, q, k: s + vector_NS[h, torch.abs(q - k)]


def _look_up(table: Any, bucket_S: Any) -> Score:
    def score(s: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        bucket = bucket_S[torch.abs(q - k)]
        return s + table[h, bucket]

    return score


def _kerple(params: Params) -> Score:
    # Outside of the score function, which may read numbers of an array but not compute with all of it.
    r1 = params["r1"].exp()
    r2 = params["r2"].exp()

    def score(s: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        distance = torch.abs(q - k)
        return s - r1[h] * torch.log1p(r2[h] * distance)

    return score


def _alibi(case: Case) -> Callable[[Params], Score]:
    if case.learned:
        return lambda params: _linear(params["log_slopes"].exp())
    # A fixed slope is what the bias loses over a distance of 1.
    slopes_N = -torch.tensor(by_distance(case)[:, 1].copy(), device=case.device)
    return lambda params: _linear(slopes_N)


def _linear(slopes_N: Any) -> Score:
    return lambda s, b, h, q, k: s - slopes_N[h] * (q - k)


def rotation(case: Case) -> Callable[[Any], Any]:
    """Rotation by halves of `[B, N, S, H]` with angles made beforehand; nothing for other encodings than `Rope`."""
    if not isinstance(case.encoding, Rope):
        return lambda x: x
    prepared = case.encoding.prepare({}, contiguous(case.length), Dims(head_size=case.head_size))
    cos_SH = _both_halves(case, prepared["cos"])
    sin_SH = _both_halves(case, prepared["sin"])

    def turn(x_BNSH: Any) -> Any:
        low, high = x_BNSH.chunk(2, -1)
        return x_BNSH * cos_SH + torch.cat((-high, low), -1) * sin_SH

    return turn


def _both_halves(case: Case, wave: Any) -> Any:
    """A cosine or sine of each angle, for both channels that it turns: `[S, H]`."""
    doubled = np.concatenate([wave, wave], -1).reshape(case.length, -1)
    return torch.tensor(doubled, device=case.device).to(getattr(torch, case.dtype))
