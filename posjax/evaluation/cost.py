"""What an encoding costs: time and memory of a pass by length, always beside the same model without positions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posjax.encodings import NoPE
from posjax.errors import InputError
from posjax.evaluation.base import Evaluation
from posjax.evaluation.variants import TrainedModel
from posjax.fields import check_fields
from posjax.models import Transformer, build, cross_entropy
from posjax.results import Measurement

ITSELF, WITHOUT = "raw", "nope"
CLOCKS = {"seconds": "seconds_ratio", "cpu_seconds": "cpu_ratio"}
"""Each clock, and what the ratio of two of its readings is called."""
SURE = 0.95
"""How sure an interval is of the median."""


@dataclass(frozen=True)
class Cost(Evaluation):
    """Seconds and temporary memory of a pass over random tokens, by length, and the ratio to NoPE's in the same rounds.

        seconds           the median of the rounds, `pass` "forward" or "training" (forward and backward)
        cpu_seconds       what all cores of this process spent on it: less disturbed where others use the machine
        temporary_bytes   the peak of a compiled pass's temporary arrays, beside parameters and tokens

    and `seconds_ratio`, `cpu_ratio` and `temporary_ratio`, those of the model by those of the same model with NoPE, the
    first two as the median over the rounds. `variant` "raw" is the model, "nope" the one beside it. Each of `repeats`
    rounds takes every program once, so that what slows the machine for a while slows both; intervals are of the median,
    at 95 %. Times are this machine's; ratios carry further. Lengths that a table does not hold are left out.

    Of all evaluations this alone is no function of its arguments: clocks differ from call to call.

    Errors: `InputError` for lengths that do not rise, or fewer than six repeats, whose median has no such interval.
    """

    lengths: tuple[int, ...] = (64, 256, 1024)
    repeats: int = 9
    batch: int = 1

    name: ClassVar[str] = "cost"

    def __post_init__(self) -> None:
        check_fields(self, positive=("batch",))
        if not self.lengths or self.lengths[0] < 1 or sorted(set(self.lengths)) != list(self.lengths):
            raise InputError(f"Cost got lengths={self.lengths}: needed are rising numbers of tokens, such as 64 256")
        if self.repeats < 6:
            raise InputError(f"Cost got repeats={self.repeats}: needed are 6 or more, or the median has no interval")

    def longest(self, trained_length: int) -> int:
        return self.lengths[-1]

    def smaller(self) -> Cost:
        return replace(self, lengths=self.lengths[:1], repeats=6)

    def run(self, trained_model: TrainedModel, data: Any, seed: int) -> Iterator[Measurement]:
        model = trained_model.model
        architecture = model.architecture
        # Its weights do not matter, only its sizes.
        plain = build(architecture.with_encodings(lambda _: NoPE()), model.vocabulary, 0, model.compute)
        most = architecture.max_length
        for length in self.lengths:
            # Rising lengths: what does not fit ends them.
            if most is not None and length > most:
                break
            shape = (self.batch, length)
            tokens = np.random.default_rng(seed).integers(0, model.vocabulary, shape, np.int32)
            for kind in PASSES:
                pair = {ITSELF: _compiled(model, kind, tokens), WITHOUT: _compiled(plain, kind, tokens)}
                yield from self._of_pair(pair, {"pass": kind, "length": length})

    def _of_pair(self, pair: dict[str, CompiledPass], coordinates: dict[str, Any]) -> Iterator[Measurement]:
        taken = _rounds(pair, self.repeats)
        for clock, ratio in CLOCKS.items():
            of_clock = {name: np.array([each[clock] for each in rounds]) for name, rounds in taken.items()}
            for name, values in of_clock.items():
                yield of_median(clock, values, {**coordinates, "variant": name})
            yield of_median(ratio, of_clock[ITSELF] / of_clock[WITHOUT], coordinates)
        for name, program in pair.items():
            where = {**coordinates, "variant": name}
            yield Measurement("temporary_bytes", program.temporary_bytes, coordinates=where)
        # A program as small as this may need none at all.
        bytes_of_plain = max(pair[WITHOUT].temporary_bytes, 1)
        ratio_of_bytes = pair[ITSELF].temporary_bytes / bytes_of_plain
        yield Measurement("temporary_ratio", ratio_of_bytes, coordinates=coordinates)


@dataclass(frozen=True, eq=False)
class CompiledPass:
    """A compiled pass over given tokens, and the most bytes that its temporary arrays take at once."""

    call: Callable[[], Any]
    temporary_bytes: int


# Functions of this module, so that JAX finds NoPE's programs again when the next model is measured.
@partial(jax.jit, static_argnums=0)
def _forward(graph: Any, state: Any, tokens: jax.Array) -> jax.Array:
    model: Transformer = nnx.merge(graph, state)
    return model(tokens)


@partial(jax.jit, static_argnums=0)
def _training(graph: Any, state: Any, tokens: jax.Array) -> Any:
    def loss(state: Any) -> jax.Array:
        logits = _forward(graph, state, tokens)
        # Any targets cost the same: here each token is asked for itself.
        losses = cross_entropy(logits, tokens)
        return jnp.mean(losses)

    return jax.value_and_grad(loss)(state)


PASSES = {"forward": _forward, "training": _training}


def _compiled(model: Transformer, kind: str, tokens: np.ndarray) -> CompiledPass:
    graph, state = nnx.split(model)
    inputs = jnp.asarray(tokens)
    compiled = PASSES[kind].lower(graph, state, inputs).compile()
    memory: Any = compiled.memory_analysis()
    return CompiledPass(lambda: jax.block_until_ready(compiled(state, inputs)), int(memory.temp_size_in_bytes))


def _rounds(programs: dict[str, CompiledPass], repeats: int) -> dict[str, list[dict[str, float]]]:
    """What each clock said of each program in each round."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            # Once untimed: what the one before left in caches, and its threads, are not this one's.
            program.call()
            cpu, wall = time.process_time(), time.perf_counter()
            program.call()
            taken[name].append({"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu})
    return taken


def of_median(metric: str, values: np.ndarray, coordinates: dict[str, Any]) -> Measurement:
    """The median with the narrowest pair of its own values that holds it with 95 %, whatever they are distributed like.

    >>> of_median("seconds", np.array([5.0, 1.0, 3.0, 2.0, 4.0, 9.0]), {}).low
    1.0
    """
    ordered = np.sort(values)
    count = len(ordered)
    missed = 0.0
    skipped = 0
    # The median lies below the k-th smallest with the chance of fewer than k heads in as many throws.
    while True:
        missed += 2 * math.comb(count, skipped) / 2**count
        if missed > 1 - SURE:
            break
        skipped += 1
    outside = max(skipped - 1, 0)
    low, high = ordered[outside], ordered[count - 1 - outside]
    return Measurement(metric, float(np.median(ordered)), float(low), float(high), count, coordinates)
