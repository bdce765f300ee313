"""Which backend computes a call of attention: an explicit table, and the reason for every choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from posjax import axes
from posjax.attention import chunked, cudnn, fused, reference, ring, splash
from posjax.attention.jobs import Job, job
from posjax.attention.masks import Causal, Mask, as_mask, held
from posjax.attention.per_device import per_device
from posjax.attention.prepared import Prepared, first_index, fit, prepare
from posjax.encodings.base import Dims, Encoding, NoPE
from posjax.errors import InputError


@dataclass(frozen=True)
class Backend:
    """A way to compute the definition in `reference`.

    `attention(q, k, v, bias, mask, q_offset)` gives the output and the log-sum-exp, which may be `None` where a job
    does not ask for it. `refuse(job)` says why it cannot do a job, and `None` where it can. `pass_over(job)` says why
    "auto" does not take it although it can.
    """

    attention: Callable[..., tuple[jax.Array, jax.Array | None]]
    refuse: Callable[[Job], str | None]
    pass_over: Callable[[Job], str | None] = lambda job: None


BACKENDS: dict[str, Backend] = {
    "reference": Backend(reference.attention, reference.refuse),
    "chunked": Backend(chunked.attention, chunked.refuse),
    "cudnn": Backend(cudnn.attention, cudnn.refuse),
    "splash": Backend(per_device(splash.attention), splash.refuse),
    "fused": Backend(per_device(fused.attention), fused.refuse, fused.pass_over),
    "ring": Backend(ring.attention, ring.refuse),
}
"""Every backend: one file each and one line here."""

PREFERENCES: dict[str, tuple[str, ...]] = {
    "cpu": ("chunked",),
    "gpu": ("cudnn", "fused", "chunked"),
    "tpu": ("splash", "chunked"),
}
"""What `backend="auto"` tries on each platform, in this order, after "ring" where the mesh splits sequences; the last
one does every job."""


@dataclass(frozen=True)
class Choice:
    """The backend of a job, and why each one before it in the table was passed over. Prints as a few lines."""

    backend: str
    job: Job
    refused: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        j = self.job
        lines = [
            f"{self.backend}, for {j.dtype} on {j.platform}: {j.queries} queries, {j.keys} keys,",
            f"  {j.heads} heads of {j.head_size}, bias: {j.bias}, mask: {' & '.join(j.mask) or 'Full'}",
        ]
        return "\n".join([*lines, *(f"  not {name}: {why}" for name, why in self.refused)])


def choose(job: Job, backend: str = "auto") -> Choice:
    """The backend for a job: the one named, or by "auto" the first in the table that can do it.

    Errors: `InputError` for an unknown name; `NotImplementedError` where the named one cannot do the job, with the
    reason and the name of one that can.
    """
    known(backend)
    refused = []
    for name in (*(("ring",) if job.context > 1 else ()), *PREFERENCES.get(job.platform, PREFERENCES["cpu"])):
        why = BACKENDS[name].refuse(job) or BACKENDS[name].pass_over(job)
        if why is None:
            break
        refused.append((name, why))
    else:
        raise NotImplementedError(f"no backend can do {job}: " + "; ".join(f"{n}: {w}" for n, w in refused))
    if backend == "auto":
        return Choice(name, job, tuple(refused))
    why = BACKENDS[backend].refuse(job)
    if why is not None:
        raise NotImplementedError(
            f"backend={backend!r} cannot do this: {why}; backend={name!r} can, and 'auto' takes it"
        )
    return Choice(backend, job)


def known(backend: str) -> None:
    """Errors: `InputError` for a name that is neither "auto" nor in `BACKENDS`."""
    if backend != "auto" and backend not in BACKENDS:
        raise InputError(f"backend={backend!r} is unknown: needed is 'auto' or one of {', '.join(BACKENDS)}")


def explain(
    q: Any,
    k: Any = None,
    *,
    encoding: Encoding = NoPE(),
    mask: Mask = Causal(),
    q_positions: Any = None,
    k_positions: Any = None,
    backend: str = "auto",
    with_lse: bool = False,
) -> Choice:
    """The backend that `attend` would take for these arguments, and why.

    `q [B, T, N, H]` and `k [B, S, K, H]` are arrays or their shapes, `jax.ShapeDtypeStruct`; without `k` the keys are
    as many as the queries. Nothing is computed. `with_lse`: as if the log-sum-exp were asked for.

    Errors: those of `choose`, and those of `attend` for arguments that do not go together.

    >>> import posjax
    >>> q = jax.ShapeDtypeStruct((1, 4096, 8, 64), "bfloat16")
    >>> explain(q, encoding=posjax.T5Bias()).backend
    'chunked'
    """
    k = q if k is None else k
    sizes = axes.check(q_BTNH=q, k_BSKH=k)
    axes.check_floats(q=q, k=k)
    dims = Dims(sizes["N"], sizes["H"], sizes["N"] * sizes["H"])
    mask = as_mask(mask)
    q_offset = first_index(sizes["T"], sizes["S"], mask)
    mask = held(mask, sizes, q_offset)
    fit(encoding, mask, sizes)

    def prepared(key: jax.Array) -> Prepared:
        return prepare(
            encoding,
            encoding.init(key, dims),
            sizes,
            mask=mask,
            q_positions=q_positions,
            k_positions=k_positions,
            length=sizes["S"],  # No kind of bias changes with the length, and positions may be traced.
        )

    call = jax.eval_shape(prepared, jax.random.key(0))
    return choose(job(q, k, call.bias, mask, q_offset, with_lse), backend)
