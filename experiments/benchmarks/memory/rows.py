"""Bytes of temporary arrays, read from compiled programs that are not run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks.common.cases import ENCODINGS, Case
from experiments.benchmarks.common.peers import BASELINE, OURS, dense, function, whole
from posjax.attention import attend
from posjax.encodings import Params


@dataclass(frozen=True)
class MemoryRow:
    """Bytes of temporary arrays at each length, and the exponent of their growth between the last two."""

    encoding: str
    peer: str
    backward: bool
    lengths: tuple[int, ...]
    bytes: tuple[int, ...]

    @property
    def exponent(self) -> float:
        """1 is linear, 2 is quadratic: the slope of a line on logarithmic axes."""
        shorter, longer = self.lengths[-2:]
        # At tiny sizes a program may need no temporary array at all.
        less, more = [max(count, 1) for count in self.bytes[-2:]]
        growth = math.log(more / less)
        stretch = math.log(longer / shorter)
        return growth / stretch


def temporaries(case: Case, peer: str) -> int:
    """Bytes of a compiled program's temporary arrays; its arguments are shapes, and nothing is run."""

    # The peers' own calls, but not `Peer.prepare`, which makes the arrays.
    def forward(params: Params, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        if peer == OURS:
            return attend(q, k, v, encoding=case.encoding, params=params, backend="chunked")
        whole_bias = whole(case, params)
        return dense(case, params, q, k, v, whole_bias, "xla")

    # Shapes alone: a whole bias at 64k tokens takes 64 GiB, and is compiled here without ever being made.
    sizes = (1, case.length, case.heads, case.head_size)
    shape = jax.ShapeDtypeStruct(sizes, jnp.dtype(case.dtype))
    params = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in case.params.items()}
    # Queries, keys, values and the cotangent have one shape.
    called = function(case, forward, case.learned)
    lowered = jax.jit(called).lower(params, shape, shape, shape, shape)
    compiled = lowered.compile()
    memory: Any = compiled.memory_analysis()
    return int(memory.temp_size_in_bytes)


def measure(encoding: str, lengths: Sequence[int], heads: int, head_size: int) -> Iterator[MemoryRow]:
    """Ours with an encoding, and the whole bias."""
    for peer in (OURS, BASELINE):
        for backward in (False, True):
            counts = []
            for length in lengths:
                case = Case(encoding, ENCODINGS[encoding], length, backward, heads, head_size)
                count = temporaries(case, peer)
                counts.append(count)
            yield MemoryRow(encoding, peer, backward, tuple(lengths), tuple(counts))
