"""Who is compared: our attention, the whole bias given to `jax.nn`, and PyTorch's where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.common.cases import GIB, Arrays, Case, Ready, Unable
from experiments.benchmarks.common.timing import Timed
from posjax.attention import attend
from posjax.attention.biases import ByContent
from posjax.attention.masks import Causal
from posjax.attention.prepared import Prepared, Tokens, gather
from posjax.encodings import Params

Function = Callable[..., jax.Array]
"""`(params, q, k, v, *more) -> out`."""


@dataclass(frozen=True)
class Peer:
    """A way to compute a case. `prepare(case, budget)` compiles it; `budget` bounds its arrays, in GiB.

    `needs`: the packages it is made of. `late`: whether it is compiled in its first run.
    """

    name: str
    prepare: Callable[[Case, float], Ready]
    needs: tuple[str, ...] = ()
    late: bool = False

    @property
    def absent(self) -> str | None:
        """The first package that is not installed."""
        for name in self.needs:
            # Found, but not imported: importing torch takes seconds, and threads of its own.
            if importlib.util.find_spec(name) is None:
                return name
        return None


def ours(case: Case, budget: float, backend: str = "chunked", fixed: bool = False) -> Ready:
    """`attend` with a backend; `fixed` takes no gradient of learned parameters."""

    def forward(params: Params, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        if fixed:
            params = jax.lax.stop_gradient(params)
        return attend(q, k, v, encoding=case.encoding, params=params, backend=backend)

    return ready(case, forward, (), budget, halved=True, learned=case.learned and not fixed)


def materialised(case: Case, budget: float) -> Ready:
    """`jax.nn` with the bias as an array: a fixed one is made beforehand, a learned one in the pass that trains it."""
    beforehand: tuple[Any, ...] = ()
    if case.encoding.bias_kind != "none" and not case.learned:
        needed = 3 * case.square / case.batch
        if needed > budget:
            raise Unable(f"making the bias would take {needed:.1f} GiB")
        beforehand = (jax.jit(lambda: whole(case, {}))(),)

    def forward(params: Params, q: jax.Array, k: jax.Array, v: jax.Array, *made: jax.Array) -> jax.Array:
        # One made beforehand is an argument: as a constant the compiler would hold it a second time.
        if made:
            return dense(case, params, q, k, v, made[0], "xla")
        return dense(case, params, q, k, v, whole(case, params), "xla")

    return ready(case, forward, beforehand, budget, halved=False, learned=case.learned)


def dense(
    case: Case,
    params: Params,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None,
    implementation: Literal["xla", "cudnn"],
    rotate: bool = True,
) -> jax.Array:
    """`jax.nn`'s attention after the encoding's own rotation."""
    if rotate:
        call = prepared(case, params)
        q = call.rotate(q, "query")
        k = call.rotate(k, "key")
    if bias is not None:
        bias = bias.astype(q.dtype)
    out = jax.nn.dot_product_attention(q, k, v, bias, is_causal=True, implementation=implementation)
    return jnp.asarray(out)


def whole(case: Case, params: Params) -> jax.Array | None:
    """The bias `[1, N, S, S]`, one by distance from its vector, which is the fastest way and keeps gradients."""
    bias = prepared(case, params).bias
    # A bias by content is no array that could be given. No case here has one.
    if bias is None or isinstance(bias, ByContent):
        return None
    return bias.tile(0, 0, case.length, case.length)


def prepared(case: Case, params: Params) -> Prepared:
    """What posjax itself makes of a case: a row without gaps, from the first position."""
    raw = case.encoding.join(params, case.encoding.constants(case.dims))
    tokens = Tokens.at(case.length, case.length, 0)
    return gather(case.encoding, raw, case.dims, tokens, Causal())


def function(case: Case, forward: Function, learned: bool) -> Callable[..., Any]:
    """The pass that is timed: the output, or with its gradients `(out, (dparams, dq, dk, dv))`."""
    if not case.backward:
        # It takes the cotangent too, so that both passes are called alike.
        return lambda params, q, k, v, d_out, *more: forward(params, q, k, v, *more)

    def both(params: Params, q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array, *more: jax.Array) -> Any:
        def of_all(params: Params, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            return forward(params, q, k, v, *more)

        if learned:
            out, pull = jax.vjp(of_all, params, q, k, v)
            return out, pull(d_out)
        # Nothing is asked of fixed parameters, so that nobody spends time on their gradients.
        out, pull = jax.vjp(partial(of_all, params), q, k, v)
        return out, ({}, *pull(d_out))

    return both


def arguments(case: Case) -> tuple[Any, ...]:
    """Parameters, queries, keys, values and the cotangent on the device, in the case's dtype."""
    # Parameters stay float32, as a model keeps them.
    params = {name: jnp.asarray(x) for name, x in case.params.items()}
    inputs = [jnp.asarray(x, case.dtype) for x in case.inputs.values()]
    return (params, *inputs)


def ready(case: Case, forward: Function, more: tuple[Any, ...], budget: float, halved: bool, learned: bool) -> Ready:
    """A JAX function compiled for a case. Errors: `Unable` where its arrays would take more than `budget` GiB."""
    given = (*arguments(case), *more)
    # Compiled before anything runs: what would not fit is known before it takes the machine down.
    compiled = jax.jit(function(case, forward, learned)).lower(*given).compile()
    memory = compiled.memory_analysis()
    # Some platforms keep no such account; there a program runs, or fails by itself.
    if memory is not None:
        needed = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
        if needed / GIB > budget:
            raise Unable(f"would take {needed / GIB:.1f} GiB")
    call = Timed(partial(compiled, *given), jax.block_until_ready)
    return Ready(call, halved, partial(_numbers, case))


def _numbers(case: Case, result: Any) -> Arrays:
    if not case.backward:
        return {"out": _on_host(case.part(result))}
    out, (d_params, dq, dk, dv) = result
    named = {"out": out, "dq": dq, "dk": dk, "dv": dv}
    found = {name: _on_host(case.part(x)) for name, x in named.items()}
    # A parameter has no tokens of which a part could be taken.
    return found | {f"d {name}": _on_host(x) for name, x in d_params.items()}


def _on_host(x: jax.Array) -> np.ndarray:
    return np.asarray(x, np.float32)


def _torch(name: str) -> Callable[[Case, float], Ready]:
    """A peer of `torch_peers`, imported only when it is asked for."""

    def prepare(case: Case, budget: float) -> Ready:
        module = importlib.import_module("experiments.benchmarks.common.torch_peers")
        return getattr(module, name)(case, budget)

    return prepare


OURS = "posjax chunked"
BASELINE = "jax.nn, whole bias"
SDPA = "torch SDPA, mask"
PEERS: tuple[Peer, ...] = (
    Peer(OURS, ours),
    Peer(BASELINE, materialised),
    Peer(SDPA, _torch("sdpa"), ("torch",)),
    Peer("torch FlexAttention", _torch("flex"), ("torch",), late=True),
    Peer("x-transformers", _torch("x_transformers"), ("torch", "x_transformers")),
    Peer("HF Bloom, eager", _torch("bloom"), ("torch", "transformers")),
)
"""Ours first: the others' results are checked against it."""
