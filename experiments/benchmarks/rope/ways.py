"""Ways to rotate `[B, S, N, H]`, and the scaling that they are measured by."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.common.machine import cores
from posjax.encodings import Dims, Rope
from posjax.positions import contiguous

SCALE = "scale in place"
COPY = "scale to a new array"
OURS = "posjax"
TORCH = "torch, rotate_half"


@dataclass(frozen=True)
class Waves:
    """Cosines and sines of one length, made beforehand, as each way wants them: halves `[S, H/2]` in float32."""

    params: dict[str, Any]
    cos: np.ndarray
    sin: np.ndarray


def waves(length: int, head_size: int) -> Waves:
    """The angles of positions 0 .. S - 1."""
    params = Rope().prepare({}, contiguous(length), Dims(head_size=head_size))
    cos = np.asarray(params["cos"]).reshape(length, -1)
    sin = np.asarray(params["sin"]).reshape(length, -1)
    return Waves(dict(params), cos, sin)


def ways(made: Waves, length: int) -> dict[str, Callable[[jax.Array], jax.Array]]:
    """The ways in JAX, and the scaling."""
    # A number that is not known to the compiler, and keeps the array's size however often it is applied.
    minus = jnp.asarray(-1.0)

    def scale(x: jax.Array) -> jax.Array:
        return x * jax.lax.optimization_barrier(minus).astype(x.dtype)

    return {
        # One function twice: the first may write into its argument, see `rows`.
        SCALE: scale,
        COPY: scale,
        OURS: lambda x: Rope().rotate(made.params, x, contiguous(length), "query"),
        "posjax, with its angles": lambda x: Rope().rotate({}, x, contiguous(length), "query"),
        "halves concatenated": _concatenated(made),
        "rotate_half": _rotate_half(made),
    }


def _concatenated(made: Waves) -> Callable[[jax.Array], jax.Array]:
    """The formula as it is written: each half of the result by itself, in float32."""
    cos = jnp.asarray(made.cos)[None, :, None]
    sin = jnp.asarray(made.sin)[None, :, None]

    def turn(x: jax.Array) -> jax.Array:
        a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        turned = [a * cos - b * sin, a * sin + b * cos]
        return jnp.concatenate(turned, -1).astype(x.dtype)

    return turn


def _rotate_half(made: Waves) -> Callable[[jax.Array], jax.Array]:
    """As it is usually written: the halves change places, in the dtype of the queries."""
    cos = jnp.concatenate([made.cos, made.cos], -1)[None, :, None]
    sin = jnp.concatenate([made.sin, made.sin], -1)[None, :, None]

    def turn(x: jax.Array) -> jax.Array:
        a, b = jnp.split(x, 2, axis=-1)
        swapped = jnp.concatenate([-b, a], -1)
        return x * cos.astype(x.dtype) + swapped * sin.astype(x.dtype)

    return turn


def torch_way(made: Waves, x_BSNH: np.ndarray, dtype: str) -> tuple[Callable[[Any], Any], Any]:
    """The rotation by halves in PyTorch, which makes a new array, and its input."""
    # By name, so that types are checked where torch is not installed.
    torch: Any = importlib.import_module("torch")
    # Every core that this process may use, as jax takes them.
    torch.set_num_threads(cores())
    kind = getattr(torch, dtype)
    # Each angle turns two channels, one in each half.
    cos = np.concatenate([made.cos, made.cos], -1)[:, None]
    sin = np.concatenate([made.sin, made.sin], -1)[:, None]
    cos = torch.tensor(cos).to(kind)
    sin = torch.tensor(sin).to(kind)

    def turn(x: Any) -> Any:
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat((-b, a), -1) * sin

    return turn, torch.tensor(x_BSNH).to(kind)


def exact(made: Waves, x_BSNH: np.ndarray) -> np.ndarray:
    """The rotation in float64, with the same cosines and sines: what a way makes of them is its own error."""
    a, b = np.split(x_BSNH.astype(np.float64), 2, axis=-1)
    cos = made.cos[:, None]
    sin = made.sin[:, None]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
