"""Which backend computes a call of attention: an explicit table, and the reason for every choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax

from posjax import axes
from posjax.attention import chunked, cudnn, fused, reference, ring, splash
from posjax.attention.biases import kind_of
from posjax.attention.dropout import Dropout, given_dropout
from posjax.attention.given_masks import held
from posjax.attention.jobs import Job, job
from posjax.attention.masks import Causal, MaskLike, as_mask
from posjax.attention.per_device import per_device
from posjax.attention.prepared import Prepared, first_index, fit, prepare
from posjax.attention.scoring import check_sinks, given_scoring
from posjax.axes import Shaped
from posjax.encodings.base import Dims, Encoding, NoPE
from posjax.errors import InputError


@dataclass(frozen=True)
class Backend:
    """A way to compute the definition in `reference`.

    `attention(q, k, v, bias, mask, q_offset, scoring)` gives the output and the log-sum-exp, which may be `None` where
    a job does not ask for it. `refuse(job)` says why it cannot do a job, and `None` where it can. `pass_over(job)` says
    why "auto" does not take it although it can.
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
        job = self.job
        mask = " & ".join(job.mask) or "Full"
        lines = [
            f"{self.backend}, for {job.dtype} on {job.platform}: {job.queries} queries, {job.keys} keys,",
            f"  {job.heads} heads of {job.head_size}, bias: {job.bias}, mask: {mask}",
        ]
        if job.value_size not in (None, job.head_size):
            lines.append(f"  values of {job.value_size}")
        if job.scale is not None or job.softcap is not None:
            lines.append(f"  scale: {job.scale}, softcap: {job.softcap}")
        if job.dropout:
            lines.append("  with dropout of attention weights")
        lines += [f"  not {name}: {why}" for name, why in self.refused]
        return "\n".join(lines)


def choose(job: Job, backend: str = "auto") -> Choice:
    """The backend for a job: the one named, or by "auto" the first in the table that can do it.

    Errors: `InputError` for an unknown name; `NotImplementedError` where the named one cannot do the job, with the
    reason and the name of one that can.
    """
    known(backend)
    # What "auto" takes is known first, since an error for a named backend says which other one can.
    automatic = _first_able(job)
    if backend == "auto":
        return automatic
    why = BACKENDS[backend].refuse(job)
    if why is not None:
        raise NotImplementedError(
            f"backend={backend!r} cannot do this: {why}; backend={automatic.backend!r} can, and 'auto' takes it"
        )
    return Choice(backend, job)


def _first_able(job: Job) -> Choice:
    """The first backend of the table that can do a job, with the reasons of those before it."""
    names = PREFERENCES.get(job.platform, PREFERENCES["cpu"])
    if job.context > 1:  # No other backend keeps a sequence split that the mesh splits.
        names = ("ring", *names)
    refused: list[tuple[str, str]] = []
    for name in names:
        why = BACKENDS[name].refuse(job) or BACKENDS[name].pass_over(job)
        if why is None:
            return Choice(name, job, tuple(refused))
        refused.append((name, why))
    reasons = "; ".join(f"{name}: {why}" for name, why in refused)
    raise NotImplementedError(f"no backend can do {job}: {reasons}")


def known(backend: str) -> None:
    """Errors: `InputError` for a name that is neither "auto" nor in `BACKENDS`."""
    if not isinstance(backend, str) or backend not in ("auto", *BACKENDS):
        raise InputError(f"backend={backend!r} is unknown: needed is 'auto' or one of {', '.join(BACKENDS)}")


def explain(
    q: Shaped,
    k: Shaped | None = None,
    v: Shaped | None = None,
    *,
    encoding: Encoding = NoPE(),
    mask: MaskLike = Causal(),
    q_positions: jax.Array | None = None,
    k_positions: jax.Array | None = None,
    backend: str = "auto",
    with_lse: bool = False,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Shaped | None = None,
    dropout: Dropout | None = None,
) -> Choice:
    """The backend that `attend` would take for these arguments, and why.

    `q [B, T, N, H]`, `k [B, S, K, H]`, `v [B, S, K, U]` and `sinks [N]` are arrays or their shapes,
    `jax.ShapeDtypeStruct`; without `k` the keys are as many as the queries, and without `v` values are as keys. Nothing
    is computed. `with_lse`: as if the log-sum-exp were asked for, which sinks need.

    Errors: those of `choose`, and those of `attend` for arguments that do not go together.

    >>> import posjax
    >>> q = jax.ShapeDtypeStruct((1, 4096, 8, 64), "bfloat16")
    >>> explain(q, encoding=posjax.T5Bias()).backend
    'chunked'
    """
    if k is None:
        k = q
    if v is None:
        v = k
    sizes = axes.check(q_BTNH=q, k_BSKH=k, v_BSKU=v)
    axes.check_floats(q=q, k=k, v=v)
    check_sinks(sinks, sizes["N"])
    width = sizes["N"] * sizes["H"]
    # Nobody says the model's width, which decides nothing here; some encodings have an even one alone.
    dims = Dims(sizes["N"], sizes["H"], width + width % 2)
    mask = as_mask(mask)
    q_offset = first_index(sizes["T"], sizes["S"], mask)
    mask = held(mask, sizes, q_offset)
    fit(encoding, mask, sizes)

    def prepared() -> Prepared:
        return prepare(
            encoding,
            encoding.init(jax.random.key(0), dims),
            sizes,
            mask=mask,
            q_positions=q_positions,
            k_positions=k_positions,
            length=max(sizes["S"], 1),  # No kind of bias changes with the length, and positions may be traced.
        )

    call = jax.eval_shape(prepared)
    scoring = given_scoring(scale, softcap, kind_of(call.bias), given_dropout(dropout, q))
    asked = with_lse or sinks is not None
    return choose(job(q, k, call.bias, mask, q_offset, asked, sizes["U"], scoring), backend)
