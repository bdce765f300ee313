"""The alphabet: one letter per axis, with one meaning everywhere, kernels included.

    B batch    T query time    S key time    N query heads    K key-value heads    G = N / K    H head size
    D model    F feed-forward  V vocabulary  M a small hidden size  U head size of values

A local name carries its axes (`q_BTNH`), and `check` holds a public function's arguments to the names it gives them.
"""

from __future__ import annotations

from typing import Any

import jax

from posjax.errors import InputError

Shaped = jax.Array | jax.ShapeDtypeStruct
"""An array, or what is known of one before there is any."""


def expand_rank(table: jax.Array, rank: int) -> jax.Array:
    """A table with leading axes of 1 up to a rank: broadcast on purpose, also where JAX is told to refuse it.

    >>> import jax.numpy as jnp
    >>> expand_rank(jnp.zeros(4), 3).shape
    (1, 1, 4)
    """
    return table.reshape((1,) * (rank - table.ndim) + table.shape)


def check_floats(**arrays: Any) -> None:
    """Errors: `InputError` names an array that holds no floats, whose result would be rounded to whole numbers."""
    for name, array in arrays.items():
        if not hasattr(array, "dtype"):
            raise InputError(f"{name} is a {type(array).__name__}: needed is an array of floats")
        if not jax.numpy.issubdtype(array.dtype, jax.numpy.floating):
            raise InputError(f"{name} is {array.dtype}: needed are floats, for example .astype(jnp.float32)")


def check(**arrays: Any) -> dict[str, int]:
    """Holds every array to the axes in its name and returns the size of each letter.

    A letter has one size in all of the arrays; an array of `None` is passed over.

    Errors: `InputError` names the array, its shape, and the size that the letter already had.

    >>> import jax.numpy as jnp
    >>> check(q_BTNH=jnp.zeros((2, 5, 4, 8)), k_BSKH=jnp.zeros((2, 7, 2, 8)))["S"]
    7
    """
    # What the arrays before have said of each letter.
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        if array is None:
            continue
        # An array's own name, and after the last underscore its axes.
        label, _, letters = name.rpartition("_")
        if not hasattr(array, "shape"):
            raise InputError(f"{label} is a {type(array).__name__}: needed is an array [{', '.join(letters)}]")
        if len(array.shape) != len(letters):
            raise InputError(f"{label} has shape {array.shape}: needed are {len(letters)} axes, [{', '.join(letters)}]")
        for letter, size in zip(letters, array.shape, strict=True):
            # The first array that has a letter says its size.
            if sizes.setdefault(letter, size) != size:
                raise InputError(
                    f"{label} [{', '.join(letters)}] has shape {array.shape}: axis {letter} is {size} here and "
                    f"{sizes[letter]} in the arrays before it; make them equal"
                )
    return sizes
