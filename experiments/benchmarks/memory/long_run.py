"""One long row through a small model, forward and backward, for real: how much memory and how long."""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.benchmarks.common import tables
from experiments.benchmarks.common.goals import Goal
from experiments.benchmarks.common.timing import Stopwatch
from posjax.encodings import T5Bias
from posjax.models import Architecture, Compute, build, cross_entropy, decoder

LIMIT = 24.0
"""GiB that the process may take."""


@dataclass(frozen=True)
class Long:
    """A decoder with T5's bias over one row of tokens."""

    length: int = 65536
    layers: int = 4
    width: int = 128
    heads: int = 2
    vocabulary: int = 256
    compute: Compute = Compute(remat="all")  # noqa: RUF009


def run(long: Long) -> dict[str, Any]:
    """Loss, norm of the bias's gradient, seconds, and the process's peak of resident memory in GiB."""
    model = build(_decoder(long), long.vocabulary, 0, long.compute)
    graph, state = nnx.split(model)
    # One token more than the length: each but the last is read, each but the first is to be foretold.
    shape = (1, long.length + 1)
    tokens = jax.random.randint(jax.random.key(0), shape, 0, long.vocabulary)

    def loss(state: Any, tokens: jax.Array) -> jax.Array:
        model = nnx.merge(graph, state, copy=True)
        logits = model(tokens[:, :-1])
        losses = cross_entropy(logits, tokens[:, 1:])
        return losses.mean()

    # Compiled apart, so that the run's time is the run's alone.
    watch = Stopwatch()
    jitted = jax.jit(jax.value_and_grad(loss))
    compiled = jitted.lower(state, tokens).compile()
    _, compiling = watch.taken()
    watch = Stopwatch()
    # Asked to wait: a call returns before its arrays are there.
    value, gradients = jax.block_until_ready(compiled(state, tokens))
    cpu, wall = watch.taken()
    found = {name: size for name, size in asdict(long).items() if name != "vocabulary"} | {
        "loss": float(value),
        "gradient": _norm(gradients["encodings"]),
        "compile_s": compiling,
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_gib": _peak(),
        "limit_gib": LIMIT,
    }
    verdict = Goal("GiB at the peak", LIMIT, worst=found["peak_gib"]).verdict
    # The sentence is kept with the numbers: a later command without a long run puts it on its page again.
    return found | {"met": verdict == "met", "text": _told(found, verdict)}


def _decoder(long: Long) -> Architecture:
    return decoder(T5Bias(), layers=long.layers, width=long.width, heads=long.heads)


def _norm(gradients: Any) -> float:
    """Whether the bias learned from the row at all: a gradient that went missing on the way would be 0."""
    # All of its tables together, however the encoding divides them.
    squares = [jnp.sum(jnp.square(x)) for x in jax.tree.leaves(gradients)]
    return float(sum(squares) ** 0.5)


def _peak() -> float:
    """GiB of resident memory at the peak of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, KiB on Linux.
    if sys.platform == "darwin":
        return used / 2**30
    return used / 2**20


def _told(found: dict[str, Any], verdict: str) -> str:
    return (
        f"{found['length']:,} tokens with T5's bias through a decoder of {found['layers']} layers, "
        f"{found['heads']} heads and size {found['width']}, forward and backward: "
        f"{tables.digits(found['peak_gib'])} GiB of resident memory at the peak of the whole process, of "
        f"{LIMIT:.0f} allowed ({verdict}); {tables.seconds(found['wall_s'])} after "
        f"{tables.seconds(found['compile_s'])} of compiling. Loss {found['loss']:.4f}, norm of the gradient of the "
        f"bias's table {found['gradient']:.1e}."
    )
