"""What the parameters of a model are to an optimiser: kernels are matrices, whatever axes they keep apart."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax


def norm(gradients: Any) -> jax.Array:
    """The norm of all gradients together.

    A sum rounds by the axes that it runs over: so a norm, and a run that it clips, is the same whether a kernel keeps
    heads and their channels apart or not.
    """
    return optax.tree.norm(jax.tree_util.tree_map_with_path(as_matrix, gradients))


def clip(largest: float) -> optax.GradientTransformation:
    """Gradients scaled down to a norm where theirs is larger."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        size = norm(updates)
        scaled = jax.tree.map(lambda x: jnp.where(size < largest, x, x / size * largest), updates)
        return scaled, state

    return optax.GradientTransformation(optax.init_empty_state, update)


def as_matrix(path: Any, kernel: jax.Array) -> jax.Array:
    """A kernel of more than two axes as the matrix that it multiplies by; others as they are."""
    if kernel.ndim <= 2:
        return kernel
    # What leads back to the stream ends in its axis, and all others begin with it.
    if _leads_back(path):
        return kernel.reshape(-1, kernel.shape[-1])
    return kernel.reshape(kernel.shape[0], -1)


def matrix_axes(path: Any, kernel: jax.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which axes of a kernel are the rows of that matrix, which it sums over, and which its columns."""
    # The same split as `as_matrix`, for who reshapes by itself.
    axes = tuple(range(kernel.ndim))
    if _leads_back(path):
        return axes[:-1], axes[-1:]
    return axes[:1], axes[1:]


def _leads_back(path: Any) -> bool:
    return "out" in _names(path)


def decaying(params: Any) -> Any:
    """For each parameter whether it is pulled to zero: maps and tables are."""

    def decays(path: Any, parameter: jax.Array) -> bool:
        # Scales of norms and biases have a size of their own, also where they have one for each head and channel.
        return parameter.ndim >= 2 and not _names(path) & {"scale", "bias"}

    return jax.tree_util.tree_map_with_path(decays, params)


def is_hidden(path: Any) -> bool:
    """Whether a parameter is a map between hidden layers: not one from tokens, to tokens, or of an encoding."""
    names = _names(path)
    # By place and not by shape: a table of tokens is a matrix too, whose rows have nothing to do with each other.
    return "kernel" in names and not names & {"embedding", "head", "encodings"}


def _names(path: Any) -> set[str]:
    """The names of the modules that hold a parameter, and its own."""
    return {str(getattr(key, "key", "")) for key in path}
