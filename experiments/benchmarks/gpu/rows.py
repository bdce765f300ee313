"""The rows of the GPU benchmark: who is compared, at which shapes, and what is kept of each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks.common.cases import ENCODINGS, Case, Ready, Unable
from experiments.benchmarks.common.peers import Peer, dense, materialised, ours, prepared, ready, whole
from posjax.attention import BACKENDS, choose, job
from posjax.attention.masks import Causal
from posjax.encodings import Alibi, Encoding

BUDGET = 12.0
"""GiB of arrays for one row."""
COMPARED = 256
MATMUL = "matmul"
LEARNED = Alibi(learned=True)

Prepare = Callable[[Case, float], Ready]


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
            # As wide and as many tokens in every shape, so that all fill the device alike.
            heads=self.width // self.head_size,
            head_size=self.head_size,
            batch=max(1, self.tokens // self.length),
            dtype=self.dtype,
            device=self.device,
            compared=COMPARED,
        )


@dataclass(frozen=True)
class GpuRow:
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
        """What tells the rows of a shape apart."""
        return f"{self.name}|{self.backward}"


@dataclass(frozen=True)
class Entry:
    """A peer with its encoding, and how that is told. `training`: it is one of training alone, with gradients."""

    peer: Peer
    kind: str
    encoding: Encoding
    training: bool = False

    def has(self, backward: bool) -> bool:
        """Whether it is measured in a pass."""
        return backward or not self.training


def cudnn(case: Case, budget: float, rotate: bool = True, biased: bool = False) -> Ready:
    """`jax.nn` by cuDNN itself, after the rotation unless told otherwise; `biased` with the whole bias."""
    # In bfloat16 the bias is half of a float32 square.
    if biased and case.square / 2 > budget:
        raise Unable(f"the bias alone would take {case.square / 2 / case.batch:.1f} GiB")

    def forward(params: Any, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        bias = None
        if biased:
            bias = whole(case, params)
        return dense(case, params, q, k, v, bias, "cudnn", rotate)

    return ready(case, forward, (), budget, halved=not biased, learned=case.learned)


def dispatched(case: Case, budget: float) -> Ready:
    """`attend` with its own choice of a backend, which the row names."""
    # The choice depends on shapes and on the kind of the bias, so nothing is computed to learn it.
    shape = (case.batch, case.length, case.heads, case.head_size)
    q_BTNH = jax.ShapeDtypeStruct(shape, jnp.dtype(case.dtype))
    bias = jax.eval_shape(lambda: prepared(case, {}).bias)
    chosen = choose(job(q_BTNH, q_BTNH, bias, Causal(), 0))
    return replace(ours(case, budget, "auto"), note="by " + chosen.backend)


def fused(case: Case, budget: float, fixed: bool = False) -> Ready:
    """`attend` with the fused backend, where this version has one."""
    if BACKENDS.get("fused") is None:
        raise Unable("this version has no fused backend")
    return ours(case, budget, "fused", fixed)


def _flex(fixed: bool) -> Prepare:
    def prepare(case: Case, budget: float) -> Ready:
        # Here, as torch may not be installed; its rows then say so and are never prepared.
        module = importlib.import_module("experiments.benchmarks.common.torch_peers")
        return module.flex(case, budget, fixed)

    return prepare


def entries() -> Iterator[Entry]:
    """Every entry, in the order of the table."""
    nope = ENCODINGS["NoPE"]
    rope = ENCODINGS["Rope"]
    alibi = ENCODINGS["Alibi"]
    t5 = ENCODINGS["T5Bias"]
    kerple = ENCODINGS["Kerple"]
    yield Entry(Peer("cuDNN, no bias", partial(cudnn, rotate=False)), "NoPE", nope)
    yield Entry(Peer("RoPE, then cuDNN", cudnn), "Rope", rope)
    yield Entry(Peer("RoPE, posjax auto", dispatched), "Rope", rope)
    yield Entry(Peer("ALiBi, posjax auto", dispatched), "Alibi", alibi)
    yield Entry(Peer("no bias, fused", fused), "NoPE", nope)
    yield from _fixed_and_learned("T5", t5, t5)
    yield from _fixed_and_learned("KERPLE", kerple, kerple)
    yield from _fixed_and_learned("ALiBi", alibi, LEARNED)
    yield Entry(Peer("no bias, FlexAttention", _flex(True), ("torch",)), "NoPE", nope)
    # What users do today with a bias for each pair, and posjax without its kernels.
    yield Entry(Peer("T5, whole bias, cuDNN", partial(cudnn, biased=True)), "T5Bias, learned", t5)
    yield Entry(Peer("T5, whole bias, XLA", materialised), "T5Bias, learned", t5)
    yield Entry(Peer("T5, posjax chunked", ours), "T5Bias, learned", t5)


def _fixed_and_learned(name: str, encoding: Encoding, trained: Encoding) -> Iterator[Entry]:
    """The fused backend and FlexAttention on one bias, without gradients to its parameters and with them."""
    kind = type(encoding).__name__
    yield Entry(Peer(f"{name} fixed, fused", partial(fused, fixed=True)), kind, encoding)
    yield Entry(Peer(f"{name} learned, fused", fused), f"{kind}, learned", trained, training=True)
    needs = ("torch",)
    yield Entry(Peer(f"{name} fixed, FlexAttention", _flex(True), needs), kind, encoding)
    yield Entry(Peer(f"{name} learned, FlexAttention", _flex(False), needs), f"{kind}, learned", trained, training=True)


def names() -> list[tuple[str, str, bool]]:
    """The name, the encoding and the pass of every row at every shape, the matmul first."""
    found = [(MATMUL, "", False)]
    for backward in (False, True):
        for entry in entries():
            if entry.has(backward):
                found.append((entry.peer.name, entry.kind, backward))
    return found
