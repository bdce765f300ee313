"""How fast a training is: tokens a second, and which share of what its devices can multiply that is.

The operations of a model are counted by formula: six a token for each parameter that is a factor of a product (two
forward, four back), and for each attention six a token, channel and key: a token sees half of the keys on average where
the mask is causal, and all of them, so twelve, elsewhere. What is computed again in the backward pass is not counted.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from posjax.errors import InputError
from posjax.models import Architecture, build
from posjax.models.architecture import Stack
from posjax.models.parts import sizes

PEAKS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
}
"""Operations a second of dense products in bfloat16, by the beginning of a device's kind.

As makers' data sheets are commonly quoted; nothing here was measured, nor held to the sheets themselves.
"""


def trained(model: Architecture, vocabulary: int) -> dict[str, int]:
    """The trained numbers in each part of a model, by its name, from shapes alone."""
    state = jax.eval_shape(lambda: nnx.state(build(model, vocabulary, 0)))
    return {str(name): sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in state.items()}


def multiplied(model: Architecture, vocabulary: int) -> int:
    """Of these, how many are factors of matrix products: rows of a table are looked up, which costs no product."""
    counts = trained(model, vocabulary)
    counts.pop("encodings", None)
    # A tied table is the last layer's matrix too.
    if not model.output.tied:
        counts.pop("embedding")
    return sum(counts.values())


def operations(model: Architecture, vocabulary: int, length: int) -> float:
    """The floating-point operations of training on one token of rows of that length."""
    attending = sum(_attending(stack, model.width) for stack in model.stacks.values())
    return 6 * multiplied(model, vocabulary) + attending * length


def _attending(stack: Stack, width: int) -> float:
    """For each key of a row, what attention to it costs in all layers of a stack."""
    causal = channels(stack, width, causal=True)
    return 6 * causal + 12 * channels(stack, width, causal=False)


def channels(stack: Stack, width: int, causal: bool) -> float:
    """How many channels the queries of all layers of a stack have, under masks that are causal, or that are not."""
    count = 0
    for attention in stack.attentions():
        heads, _, size = sizes(attention, width)
        if attention.mask.causal == causal:
            count += heads * size
    # Of one turn of the pattern, which need not be whole at its end.
    return count * stack.layers / len(stack.pattern)


def peak(mesh: Mesh) -> float | None:
    """What the devices of a mesh can multiply together, in operations a second; `None` for a kind that is not known.

    Of CPUs it is measured, by a product of matrices in float32; simulated devices share what there is.
    """
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return _measured()
    # The longest name first: a v5 lite is no v5.
    for kind in sorted(PEAKS, key=len, reverse=True):
        if device.device_kind.startswith(kind):
            return PEAKS[kind] * mesh.size
    return None


def _measured() -> float:
    size = 1024
    matrix = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        taken.append(time.perf_counter() - began)
    # The best of them: others were interrupted.
    return 2 * size**3 / min(taken)


class Tracing:
    """A trace of some steps for a profiler, such as TensorBoard's or xprof, written into a folder.

    A context manager: leaving it ends a trace whose last step was not reached. A training that goes on from the middle
    of these steps traces the rest of them.
    """

    def __init__(self, profile: str, folder: Path):
        self._first, self._last = self.steps(profile)
        self._folder = folder
        self._runs = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            self._end()
        except Exception:  # Whatever the profiler raises where it cannot write.
            if kind is None:  # Else the error that ended the training is told.
                raise

    @staticmethod
    def steps(profile: str) -> tuple[int, int]:
        """The first and the last step of "10:13"; none where it is empty. Errors: `InputError` for another text."""
        if not profile:
            return 0, 0
        first, _, last = profile.partition(":")
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise InputError(f"profile={profile!r}: needed are a first and a last step, such as 10:13")
        return int(first), int(last)

    def before(self, step: int) -> None:
        """Begins with the first of the steps that this process takes."""
        if self._first <= step <= self._last and not self._runs:
            jax.profiler.start_trace(str(self._folder))
            self._runs = True

    def after(self, step: int, done: Any) -> None:
        """Ends with the last of them, once what it made is there."""
        if step == self._last:
            jax.block_until_ready(done)
            self._end()

    def _end(self) -> None:
        if self._runs:
            self._runs = False
            jax.profiler.stop_trace()


class Pace:
    """Where the time of one process's training goes: to begin with, and then to its steps."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._marks: dict[str, float] = {}
        self._last = self._began

    def mark(self, what: str) -> None:
        """Says that something of the beginning is done; what comes again counts no more."""
        if what in self._marks:
            return
        now = time.perf_counter()
        self._marks[what] = now - self._last
        self._last = now

    def aside(self, seconds: float) -> None:
        """Leaves out what was no training, as checks."""
        self._last += seconds

    def told(self, steps: int, tokens: int, per_token: float, most: float | None) -> str:
        """One line: the rate of that many steps, its share of a peak, and what came before them."""
        parts = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in self._marks.items())
        seconds = time.perf_counter() - self._last
        rate = steps * tokens / max(seconds, 1e-9)
        share = ""
        if most is not None:
            share = f", {rate * per_token / most:.0%} of peak"
        return f"{rate:,.0f} tokens/s{share}; {parts}"
