"""A training step of a deep model: what it takes to compile, and how much memory its backward pass keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.benchmarks.common import tables
from experiments.benchmarks.common.goals import Goal
from experiments.benchmarks.common.tables import TextTable
from experiments.benchmarks.common.timing import Stopwatch, Timed, sample
from posjax import Rope
from posjax.models import Compute, build, cross_entropy, decoder
from posjax.models.folding import fold

COMPILED = 0.2
"""Of the compile time of layers that are written out one after the other, what a loop may take."""
KEPT = 0.5
"""Of the temporary memory without recomputing, what recomputing may take."""
VOCABULARY = 512
MIB = 2**20
WAYS = {
    "written out": Compute(),
    "a loop": Compute(scan=True),
    "a loop, products kept": Compute(remat="products"),
    "a loop, all computed again": Compute(remat="all"),
}
ALONE = "one layer alone"
"""What no loop can compile faster than: the table beside the layers that are written out."""


@dataclass(frozen=True)
class LoopsCase:
    """A decoder and its batch."""

    layers: int = 24
    width: int = 256
    heads: int = 8
    rows: int = 4
    length: int = 512


@dataclass(frozen=True)
class LoopsRow:
    """One way to compute a step: seconds to compile, MiB of temporaries, seconds of a step."""

    way: str
    compiling: float
    temporary: float
    step: float


def measure(case: LoopsCase) -> list[LoopsRow]:
    """Each way, in a program of its own, and one layer in place of all."""
    rows = [_measured(way, compute, case) for way, compute in WAYS.items()]
    one = replace(case, layers=1)
    return [*rows, _measured(ALONE, Compute(), one)]


def _measured(way: str, compute: Compute, case: LoopsCase) -> LoopsRow:
    architecture = decoder(Rope(), case.layers, case.width, case.heads)
    model = build(architecture, VOCABULARY, 0, compute)
    if compute.loops:
        # As a training holds it.
        model = fold(model)
    graph, state = nnx.split(model)
    tokens = jax.random.randint(jax.random.key(0), (case.rows, case.length + 1), 0, VOCABULARY)

    def loss(state: Any, tokens: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, state)(tokens[:, :-1])
        return jnp.mean(cross_entropy(logits, tokens[:, 1:]))

    # Tracing is Python's time, and the same whatever the compiler makes of it.
    lowered = jax.jit(jax.value_and_grad(loss)).lower(state, tokens)
    watch = Stopwatch()
    compiled = lowered.compile()
    compiling, _ = watch.taken()
    # What the program needs beside its arguments and results.
    analysis: Any = compiled.memory_analysis()
    # The first run also loads what was compiled.
    timed = Timed(lambda: compiled(state, tokens), jax.block_until_ready)
    timed.finished()
    _, step = sample(timed, 1)
    return LoopsRow(way, compiling, analysis.temp_size_in_bytes / MIB, step)


def table(rows: Sequence[LoopsRow]) -> TextTable:
    """The ways, a row each."""
    body = []
    for row in rows:
        temporary = f"{tables.digits(row.temporary)} MiB"
        body.append([row.way, tables.seconds(row.compiling), temporary, tables.seconds(row.step)])
    return TextTable(["layers", "CPU time to compile", "temporaries", "a step"], body)


def goals(rows: Sequence[LoopsRow]) -> tuple[Goal, Goal]:
    """Of the loop and of recomputing, against layers that are written out."""
    by_way = {row.way: row for row in rows}
    plain = by_way["written out"]
    loop = by_way["a loop"]
    again = by_way["a loop, all computed again"]
    return (
        Goal("compiling a loop, of written out", COMPILED).judged([(loop.compiling / plain.compiling, loop.way)]),
        Goal("temporaries, of written out", KEPT).judged([(again.temporary / plain.temporary, again.way)]),
    )
