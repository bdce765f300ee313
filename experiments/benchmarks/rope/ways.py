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
    dims = Dims(head_size=head_size)
    params = Rope().prepare({}, contiguous(length), dims)
    cos = np.asarray(params["cos"])
    sin = np.asarray(params["sin"])
    return Waves(dict(params), cos.reshape(length, -1), sin.reshape(length, -1))


def ways(made: Waves, length: int) -> dict[str, Callable[[jax.Array], jax.Array]]:
    """The ways in JAX, and the scaling."""
    # A number that is not known to the compiler, and keeps the array's size however often it is applied.
    minus = jnp.asarray(-1.0)

    def scale(x: jax.Array) -> jax.Array:
        unknown = jax.lax.optimization_barrier(minus)
        return x * unknown.astype(x.dtype)

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
    cos_SP = jnp.asarray(made.cos)
    sin_SP = jnp.asarray(made.sin)
    cos = cos_SP[None, :, None]
    sin = sin_SP[None, :, None]

    def turn(x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        a, b = jnp.split(wide, 2, axis=-1)
        turned_a = a * cos - b * sin
        turned_b = a * sin + b * cos
        turned = jnp.concatenate([turned_a, turned_b], -1)
        return turned.astype(x.dtype)

    return turn


def _rotate_half(made: Waves) -> Callable[[jax.Array], jax.Array]:
    """As it is usually written: the halves change places, in the dtype of the queries."""
    # Each angle turns two channels, one in each half.
    cos_SH = jnp.concatenate([made.cos, made.cos], -1)
    sin_SH = jnp.concatenate([made.sin, made.sin], -1)
    cos = cos_SH[None, :, None]
    sin = sin_SH[None, :, None]

    def turn(x: jax.Array) -> jax.Array:
        a, b = jnp.split(x, 2, axis=-1)
        swapped = jnp.concatenate([-b, a], -1)
        own_cos = cos.astype(x.dtype)
        own_sin = sin.astype(x.dtype)
        return x * own_cos + swapped * own_sin

    return turn


def torch_way(made: Waves, x_BSNH: np.ndarray, dtype: str) -> tuple[Callable[[Any], Any], Any]:
    """The rotation by halves in PyTorch, which makes a new array, and its input."""
    # By name, so that types are checked where torch is not installed.
    torch: Any = importlib.import_module("torch")
    # Every core that this process may use, as jax takes them.
    torch.set_num_threads(cores())
    kind = getattr(torch, dtype)
    # Each angle turns two channels, one in each half.
    cos_SH = np.concatenate([made.cos, made.cos], -1)
    sin_SH = np.concatenate([made.sin, made.sin], -1)
    # An axis for the heads, which share their angles.
    cos_S1H = torch.tensor(cos_SH[:, None])
    sin_S1H = torch.tensor(sin_SH[:, None])
    cos = cos_S1H.to(kind)
    sin = sin_S1H.to(kind)

    def turn(x: Any) -> Any:
        a, b = x.chunk(2, -1)
        swapped = torch.cat((-b, a), -1)
        return x * cos + swapped * sin

    start = torch.tensor(x_BSNH)
    return turn, start.to(kind)


def exact(made: Waves, x_BSNH: np.ndarray) -> np.ndarray:
    """The rotation in float64, with the same cosines and sines: what a way makes of them is its own error."""
    wide = x_BSNH.astype(np.float64)
    a, b = np.split(wide, 2, axis=-1)
    cos = made.cos[:, None]
    sin = made.sin[:, None]
    turned_a = a * cos - b * sin
    turned_b = a * sin + b * cos
    return np.concatenate([turned_a, turned_b], -1)
