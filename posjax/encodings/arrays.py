"""What hooks do with the arrays that they are given: hold them to their sizes, keep them exact."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from posjax.errors import InputError


def held(encoding: object, name: str, array: jax.Array, *sizes: int) -> jax.Array:
    """A parameter whose last axes have the sizes that the fields say: an index past a smaller one would be clamped.

    Errors: `InputError` names the encoding, the parameter and both sizes.
    """
    if array.shape[-len(sizes) :] != sizes:
        raise InputError(
            f"{encoding} got params[{name!r}] of shape {array.shape}: needed is [..., "
            f"{', '.join(map(str, sizes))}]; give it the parameters of its own init, or the fields that "
            "these were made with"
        )
    return jnp.asarray(array)


def answered(encoding: object, hook: str, answer: Any, shape: tuple[int, ...], like: Any = None) -> jax.Array:
    """What a hook returned, held to the shape that it was asked for, and to the type of `like` if one is given.

    Of another shape it would be broadcast or cut anew further on, and of a wider type make all that follows wider.

    Errors: `InputError` names the encoding, the hook, what it gave and what is needed.
    """
    given = getattr(answer, "shape", None)
    dtype = getattr(answer, "dtype", type(answer).__name__)
    if given == shape and (like is None or dtype == like.dtype):
        return answer
    needed = f"[{', '.join(map(str, shape))}]"
    if like is not None:
        needed = f"{like.dtype} {needed}, as it was given"
    raise InputError(f"{hook} of {encoding} gave {dtype} of shape {given}: needed is {needed}")


def exact(positions: jax.Array) -> jax.Array:
    """The positions that a hook was given. Errors: `InputError` for floats, which hold no odd number past 2^24."""
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise InputError(f"positions are {positions.dtype}: needed are exact integers, such as int32")
    return positions.astype(jnp.int32)  # Distances of narrow or unsigned ones would wrap.


def products(q: jax.Array, k: jax.Array) -> jax.Array:
    """`q k` in float32: `[T, N, H]` and `[S, N, H]` -> `[N, T, S]`."""
    q_TNH = q.astype(jnp.float32)
    k_SNH = k.astype(jnp.float32)
    return jnp.einsum("TNH,SNH->NTS", q_TNH, k_SNH)
