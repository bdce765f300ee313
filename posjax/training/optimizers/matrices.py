"""What the parameters of a model are to an optimiser: kernels are matrices, whatever axes they keep apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx


def norm(gradients: Any) -> jax.Array:
    """The norm of all gradients together.

    A sum rounds by the axes that it runs over: so a norm, and a run that it clips, is the same whether a kernel keeps
    heads and their channels apart or not.
    """
    return optax.tree.norm(each(as_matrix, gradients))


def clip(largest: float) -> optax.GradientTransformation:
    """Gradients scaled down to a norm where theirs is larger."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        size = norm(updates)
        scaled = jax.tree.map(lambda x: jnp.where(size < largest, x, x / size * largest), updates)
        return scaled, state

    return optax.GradientTransformation(optax.init_empty_state, update)


def each(change: Callable[[Any, jax.Array, int], Any], params: Any) -> Any:
    """Maps over parameters by path, value, and how many leading axes count layers that are held as one: 0 or 1."""
    held = stacked(params)

    def changed(path: Any, parameter: jax.Array) -> Any:
        # A variable's value lies one step below the variable.
        return change(path, parameter, int(path[:-1] in held))

    return jax.tree_util.tree_map_with_path(changed, params)


def stacked(params: Any) -> set[Any]:
    """The paths of those variables that hold many layers as one, as their letters say."""
    # By letters and not by shape: three axes are a map of heads as well.
    found = set()
    for path, part in jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_variable):
        if _is_variable(part) and (part.get_metadata().get("letters") or "").startswith("L"):
            found.add(path)
    return found


def _is_variable(part: Any) -> bool:
    return isinstance(part, nnx.Variable)


def as_matrix(path: Any, kernel: jax.Array, layers: int = 0) -> jax.Array:
    """A kernel of more than two axes as the matrix that it multiplies by; others as they are. Axes of layers stay."""
    if kernel.ndim - layers <= 2:
        return kernel
    # Each layer's matrix is one of its own.
    before, own = kernel.shape[:layers], kernel.shape[layers:]
    # What leads back to the stream ends in its axis, and all others begin with it.
    if _leads_back(path):
        return kernel.reshape(*before, -1, own[-1])
    return kernel.reshape(*before, own[0], -1)


def matrix_axes(path: Any, kernel: jax.Array, layers: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which axes of a kernel are the rows of that matrix, which it sums over, and which its columns."""
    # The same split as `as_matrix`, for who reshapes by itself.
    axes = tuple(range(layers, kernel.ndim))
    if _leads_back(path):
        return axes[:-1], axes[-1:]
    return axes[:1], axes[1:]


def _leads_back(path: Any) -> bool:
    return "out" in _names(path)


def decaying(params: Any) -> Any:
    """For each parameter whether it is pulled to zero: maps and tables are."""

    def decays(path: Any, parameter: jax.Array, layers: int) -> bool:
        # Scales of norms and biases have a size of their own, also where they have one for each head and channel.
        return parameter.ndim - layers >= 2 and not _names(path) & {"scale", "bias"}

    return each(decays, params)


def is_hidden(path: Any) -> bool:
    """Whether a parameter is a map between hidden layers: not one from tokens, to tokens, or of an encoding."""
    names = _names(path)
    # By place and not by shape: a table of tokens is a matrix too, whose rows have nothing to do with each other.
    return "kernel" in names and not names & {"embedding", "head", "encodings"}


def _names(path: Any) -> set[str]:
    """The names of the modules that hold a parameter, and its own."""
    return {str(getattr(key, "key", "")) for key in path}
