"""One long row through a small model, forward and backward, for real: how much memory and how long."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.benchmarks.common import tables
from posjax.encodings import T5Bias
from posjax.models import Decoder, build, cross_entropy

LIMIT = 24.0
"""GiB that the process may take."""


@dataclass(frozen=True)
class Long:
    """A decoder with T5's bias over one row of tokens."""

    length: int = 65536
    layers: int = 4
    model_size: int = 128
    heads: int = 2
    vocabulary: int = 256
    remat: bool = True


def run(long: Long) -> dict[str, Any]:
    """Loss, norm of the bias's gradient, seconds, and the process's peak of resident memory in GiB."""
    model = build(
        Decoder(encoding=T5Bias(), layers=long.layers, model_size=long.model_size, heads=long.heads, remat=long.remat),
        long.vocabulary,
        seed=0,
    )
    graph, state = nnx.split(model)
    tokens = jax.random.randint(jax.random.key(0), (1, long.length + 1), 0, long.vocabulary)

    def loss(state: Any, tokens: jax.Array) -> jax.Array:
        return cross_entropy(nnx.merge(graph, state, copy=True)(tokens[:, :-1]), tokens[:, 1:]).mean()

    begin = time.perf_counter()
    compiled = jax.jit(jax.value_and_grad(loss)).lower(state, tokens).compile()
    compiling = time.perf_counter() - begin
    begin, cpu = time.perf_counter(), time.process_time()
    value, gradients = jax.block_until_ready(compiled(state, tokens))
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    moved = float(sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(gradients["encoding_params"])) ** 0.5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    found = {
        "length": long.length,
        "layers": long.layers,
        "model_size": long.model_size,
        "heads": long.heads,
        "remat": long.remat,
        "loss": float(value),
        "gradient": moved,
        "compile_s": compiling,
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_gib": peak,
        "limit_gib": LIMIT,
        "met": peak <= LIMIT,
    }
    return found | {"text": _told(found)}


def _told(found: dict[str, Any]) -> str:
    return (
        f"{found['length']:,} tokens with T5's bias through a decoder of {found['layers']} layers, "
        f"{found['heads']} heads and size {found['model_size']}, forward and backward: "
        f"{tables.digits(found['peak_gib'])} GiB of resident memory at the peak of the whole process, of "
        f"{LIMIT:.0f} allowed ({'met' if found['met'] else 'NOT met'}); {tables.seconds(found['wall_s'])} after "
        f"{tables.seconds(found['compile_s'])} of compiling. Loss {found['loss']:.4f}, norm of the gradient of the "
        f"bias's table {found['gradient']:.1e}."
    )
