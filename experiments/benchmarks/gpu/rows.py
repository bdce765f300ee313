"""The rows of the GPU benchmark at one shape, in a process of its own: each is written down as soon as it is known."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks.common.cases import ENCODINGS, Arrays, Case, Ready, Unable, error, tolerance
from experiments.benchmarks.common.peers import Peer, dense, materialised, ours, ready, whole
from experiments.benchmarks.common.timing import Call, interleave, once
from posjax.attention import BACKENDS, choose, describe, job
from posjax.attention.masks import Causal
from posjax.encodings import Alibi, Encoding

BUDGET = 12.0
"""GiB of arrays for one row."""
COMPARED = 256
CHECKED = 2048
"""The longest length at which results are compared."""
MATMUL = "matmul"
LEARNED = Alibi(learned=True)


@dataclass(frozen=True)
class Shape:
    """Rows of `length` tokens, `tokens` in all, and heads of `head_size` that make up `width`."""

    head_size: int
    length: int
    tokens: int = 32768
    width: int = 2048
    dtype: str = "bfloat16"
    device: str = "cuda"

    def case(self, name: str, encoding: Encoding, backward: bool) -> Case:
        return Case(
            name,
            encoding,
            self.length,
            backward,
            self.width // self.head_size,
            self.head_size,
            max(1, self.tokens // self.length),
            self.dtype,
            self.device,
            COMPARED,
        )


@dataclass(frozen=True)
class Row:
    """One entry: seconds and TFLOP/s of what a causal mask leaves, or the reason why there are none."""

    name: str
    encoding: str
    head_size: int
    length: int
    backward: bool
    seconds: float | None = None
    tflops: float | None = None
    error: float | None = None
    agrees: bool | None = None
    why: str = ""

    @property
    def key(self) -> str:
        return f"{self.name}|{self.backward}"


Prepare = Callable[[Case, float], Ready]


def cudnn(case: Case, budget: float, rotate: bool = True, biased: bool = False) -> Ready:
    """`jax.nn` by cuDNN itself, after the rotation unless told otherwise; `biased` with the whole bias."""
    if biased and case.square / 2 > budget:
        raise Unable(f"the bias alone would take {case.square / 2 / case.batch:.1f} GiB")

    def forward(params: Any, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return dense(case, params, q, k, v, whole(case, params) if biased else None, "cudnn", rotate)

    return ready(case, forward, (), budget, halved=not biased, learned=case.learned)


def dispatched(case: Case, budget: float) -> Ready:
    """`attend` with its own choice of a backend, which the row names."""
    q = jax.ShapeDtypeStruct((case.batch, case.length, case.heads, case.head_size), jnp.dtype(case.dtype))
    joined = case.encoding.join({}, case.encoding.constants(case.dims))
    sizes = (case.length, case.length)
    bias = jax.eval_shape(lambda: describe(case.encoding, joined, case.heads, None, None, sizes, 0))
    return replace(ours(case, budget, "auto"), note="by " + choose(job(q, q, bias, Causal(), 0)).backend)


def fused(case: Case, budget: float, fixed: bool = False) -> Ready:
    """`attend` with the fused backend, where this version has one."""
    if BACKENDS.get("fused") is None:
        raise Unable("this version has no fused backend")
    return ours(case, budget, "fused", fixed)


def _flex(fixed: bool) -> Prepare:
    def prepare(case: Case, budget: float) -> Ready:
        return importlib.import_module("experiments.benchmarks.common.torch_peers").flex(case, budget, fixed)

    return prepare


def entries() -> Iterator[tuple[Peer, str, Encoding, bool]]:
    """Every row: its peer, its encoding, and whether it is one of training alone."""
    nope, rope, alibi, t5, kerple = (ENCODINGS[name] for name in ("NoPE", "Rope", "Alibi", "T5Bias", "Kerple"))
    yield Peer("cuDNN, no bias", partial(cudnn, rotate=False)), "NoPE", nope, False
    yield Peer("RoPE, then cuDNN", cudnn), "Rope", rope, False
    yield Peer("RoPE, posjax auto", dispatched), "Rope", rope, False
    yield Peer("ALiBi, posjax auto", dispatched), "Alibi", alibi, False
    yield Peer("no bias, fused", fused), "NoPE", nope, False
    for name, encoding, trained in (("T5", t5, t5), ("KERPLE", kerple, kerple), ("ALiBi", alibi, LEARNED)):
        kind = type(encoding).__name__
        for peer, fixed, learned in (
            ("fused", partial(fused, fixed=True), fused),
            ("FlexAttention", _flex(True), _flex(False)),
        ):
            needs = ("torch",) if peer == "FlexAttention" else ()
            yield Peer(f"{name} fixed, {peer}", fixed, needs), kind, encoding, False
            yield Peer(f"{name} learned, {peer}", learned, needs), f"{kind}, learned", trained, True
    yield Peer("no bias, FlexAttention", _flex(True), ("torch",)), "NoPE", nope, False
    yield Peer("T5, whole bias, cuDNN", partial(cudnn, biased=True)), "T5Bias, learned", t5, False
    yield Peer("T5, whole bias, XLA", materialised), "T5Bias, learned", t5, False
    yield Peer("T5, posjax chunked", ours), "T5Bias, learned", t5, False


def names() -> list[tuple[str, str, bool]]:
    """The name, the encoding and the pass of every row at every shape, the matmul first."""
    each = [
        (peer.name, kind, backward)
        for backward in (False, True)
        for peer, kind, _, training in entries()
        if backward or not training
    ]
    return [(MATMUL, "", False), *each]


def work(shape: Shape, path: Path, skip: frozenset[str], rounds: int, deadline: float) -> None:
    """Prepares every row and times them in turns; with no rounds, only fills the compilers' caches.

    Writes one JSON line when it begins a row, so that the parent knows which one ended the process, and one for each
    row that is known. `deadline`: the `time.time()` past which no row is begun.
    """
    with path.open("a") as file:

        def say(**what: Any) -> None:
            file.write(json.dumps(what) + "\n")
            file.flush()

        # torch compiles for longer than all the others together: they are timed before it begins.
        for torch in (False, True):
            made, rows, first = _prepare(shape, torch, skip, deadline, say)
            say(begin="timing")
            times = interleave({key: r.call for key, r in made.items()}, rounds, first, most=1.0) if rounds else {}
            for key, taken in times.items():
                seconds, row = taken.medians[1], rows[key]
                attention = shape.case("", ENCODINGS["NoPE"], row.backward).flops
                flops = 2.0 * _edge(shape) ** 3 if row.name == MATMUL else attention
                say(row=asdict(replace(row, seconds=seconds, tflops=flops / seconds / 1e12)))
        say(begin="")


def _prepare(
    shape: Shape, torch: bool, skip: frozenset[str], deadline: float, say: Callable[..., None]
) -> tuple[dict[str, Ready], dict[str, Row], dict[str, float]]:
    """What can be timed, with its row and the seconds of one call. The others' rows are said with their reasons.

    `torch`: only the rows that need it, or only those that do not.
    """
    made: dict[str, Ready] = {}
    rows: dict[str, Row] = {}
    first: dict[str, float] = {}
    wanted: dict[tuple[str, bool], Arrays | None] = {}
    every = [
        (peer, kind, encoding, backward)
        for backward in (False, True)
        for peer, kind, encoding, training in entries()
        if backward or not training
    ]
    matmul = (Peer(MATMUL, _matmul(shape)), "", ENCODINGS["NoPE"], False)
    for peer, kind, encoding, backward in [matmul, *every]:
        if ("torch" in peer.needs) != torch:
            continue
        row = Row(peer.name, kind, shape.head_size, shape.length, backward)
        if row.key in skip:
            continue
        say(begin=row.key)
        try:
            if time.time() > deadline:
                raise Unable("no time was left")
            if peer.absent is not None:
                raise Unable(f"{peer.absent} is not installed")
            case = shape.case(kind, encoding, backward)
            ready = peer.prepare(case, BUDGET)
            ready.call.finished()
            result, (_, first[row.key]) = once(ready.call)
            if peer.name != MATMUL and shape.length <= CHECKED:
                row = _compared(row, case, ready.numbers(result), wanted)
            made[row.key], rows[row.key] = ready, replace(row, why=ready.note)
        except Exception as reason:  # Whatever another project's compiler raises is the reason of its row.
            say(row=asdict(replace(row, why=_short(reason))))
    return made, rows, first


def _compared(row: Row, case: Case, numbers: Arrays, wanted: dict[tuple[str, bool], Arrays | None]) -> Row:
    """The row with its distance from the chunked backend, whose results are computed once for each encoding."""
    key = (repr(case.encoding), case.backward)
    if key not in wanted:
        check = ours(case, BUDGET)
        wanted[key] = check.numbers(check.call.finished())
    off = error(numbers, wanted[key] or {})
    return replace(row, error=off, agrees=off <= tolerance(case.dtype))


def _short(reason: Exception) -> str:
    text = " ".join(str(reason).split()) or "no message"
    return text[:200] if isinstance(reason, Unable) else f"{type(reason).__name__}: {text}"[:200]


def _edge(shape: Shape) -> int:
    return min(8192, shape.tokens)


def _matmul(shape: Shape) -> Prepare:
    """A product of two square matrices: what the device can do."""

    def prepare(case: Case, budget: float) -> Ready:
        a, b = jax.random.normal(jax.random.key(0), (2, _edge(shape), _edge(shape)), jnp.dtype(shape.dtype))
        product = jax.jit(jnp.matmul).lower(a, b).compile()
        return Ready(Call(partial(product, a, b), jax.block_until_ready), False, lambda _: {})

    return prepare
