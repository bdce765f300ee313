"""The rows of the rotation's benchmark: every way at one length and dtype, in turns."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.common.timing import Timed, Times, interleave, once
from experiments.benchmarks.rope.ways import COPY, SCALE, TORCH, exact, torch_way, waves, ways


@dataclass(frozen=True)
class RotationRow:
    """One way to rotate `[B, S, N, H]`: CPU and wall seconds, and CPU time relative to the scaling."""

    name: str
    dtype: str
    length: int
    cpu: float | None = None
    wall: float | None = None
    ratio: float | None = None
    error: float | None = None
    why: str = ""


class Turning:
    """A function applied to its own result again and again, so that its buffer may be used again."""

    def __init__(self, function: Callable[[Any], Any], x: Any):
        self.function = function
        self.x = x

    def run(self) -> Any:
        self.x = self.function(self.x)
        return self.x


@dataclass
class Turned:
    """The ways of one length and dtype: what is timed, and the largest error of one application."""

    calls: dict[str, Timed] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)


def measure(shape: tuple[int, int, int, int], dtype: str, rounds: int) -> list[RotationRow]:
    """Every way at one shape `[B, S, N, H]` and dtype, in turns."""
    length = shape[1]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    turned = _in_jax(x, dtype)
    absent = []
    if importlib.util.find_spec("torch") is not None:
        _in_torch(x, dtype, turned)
    else:
        absent.append(RotationRow(TORCH, dtype, length, why="torch is not installed"))
    # How long each takes, which says how many calls make a sample.
    first = {}
    for name, call in turned.calls.items():
        _, (_, first[name]) = once(call)
    times = interleave(turned.calls, rounds, first)
    found = _rows(times, turned.errors, dtype, length)
    return found + absent


def _in_jax(x_BSNH: np.ndarray, dtype: str) -> Turned:
    """The ways in JAX, compiled."""
    _, length, _, head_size = x_BSNH.shape
    made = waves(length, head_size)
    wanted = _wanted(x_BSNH, dtype)
    turned = Turned()
    for name, function in ways(made, length).items():
        given: tuple[int, ...] = ()
        # Given away, a buffer helps only what can work in place: a rotation would copy its result into it.
        if name == SCALE:
            given = (0,)
        jitted = jax.jit(function, donate_argnums=given)
        lowered = jitted.lower(jnp.asarray(x_BSNH, dtype))
        compiled = lowered.compile()
        # Two inputs of their own, as the first may be given away.
        start = jnp.asarray(x_BSNH, dtype)
        turning = Turning(compiled, start)
        turned.calls[name] = Timed(turning.run, jax.block_until_ready)
        again = jnp.asarray(x_BSNH, dtype)
        once_turned = compiled(again)
        got = np.asarray(once_turned, np.float32)
        turned.errors[name] = _largest_error(got, wanted)
    return turned


def _in_torch(x_BSNH: np.ndarray, dtype: str, turned: Turned) -> None:
    """Adds the way in PyTorch."""
    _, length, _, head_size = x_BSNH.shape
    made = waves(length, head_size)
    turn, start = torch_way(made, x_BSNH, dtype)
    turning = Turning(turn, start)
    # On a CPU torch returns when it is done.
    turned.calls[TORCH] = Timed(turning.run, lambda result: None)
    got = turn(start).float().numpy()
    wanted = _wanted(x_BSNH, dtype)
    turned.errors[TORCH] = _largest_error(got, wanted)


def _largest_error(got: np.ndarray, wanted: np.ndarray) -> float:
    difference = np.abs(got - wanted)
    return float(difference.max())


def _wanted(x_BSNH: np.ndarray, dtype: str) -> np.ndarray:
    """The exact rotation of what is left of the numbers in that dtype: rounding the input is no way's error."""
    _, length, _, head_size = x_BSNH.shape
    narrow = jnp.asarray(x_BSNH, dtype)
    rounded = np.asarray(narrow, np.float32)
    made = waves(length, head_size)
    return exact(made, rounded)


def _rows(times: Mapping[str, Times], errors: Mapping[str, float], dtype: str, length: int) -> list[RotationRow]:
    scale, _ = times[SCALE].medians
    rows = []
    for name, taken in times.items():
        cpu, wall = taken.medians
        error: float | None = errors[name]
        # A scaling is no rotation, and has no error as one.
        if name in (SCALE, COPY):
            error = None
        ratio = cpu / scale
        row = RotationRow(name, dtype, length, cpu, wall, ratio, error)
        rows.append(row)
    return rows
