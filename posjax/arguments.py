"""Small arguments of public functions, held to what they mean where they enter: whole numbers and arrays of them."""

from __future__ import annotations

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from posjax.errors import InputError

LARGEST = 2**31 - 1
"""The largest whole number of int32, which lengths, positions and tokens are."""


def whole(given: Any, name: str, least: int = 0, is_bounded: bool = True) -> int:
    """A whole number that is known before anything runs, as Python's own.

    Errors: `InputError` names it where it is traced, no whole number, below `least`, or past int32 where it
    `is_bounded`.

    >>> whole(np.int64(3), "new", least=1)
    3
    """
    if isinstance(given, core.Tracer):
        raise InputError(
            f"{name} is traced: needed is a number that is known before the function runs; make it a static argument"
        )
    known = given
    is_key = isinstance(given, jax.Array) and jax.dtypes.issubdtype(given.dtype, jax.dtypes.prng_key)
    if isinstance(given, np.generic | np.ndarray | jax.Array) and given.shape == () and not is_key:
        # An array of one number, numpy's or JAX's, is as good as the number.
        known = np.asarray(given)[()]
    # True and False are whole numbers to Python, and here they are a mistake.
    fits = isinstance(known, numbers.Integral) and not isinstance(known, bool | np.bool_)
    if not fits or int(known) < least or (is_bounded and int(known) > LARGEST):
        bound = ""
        if is_bounded:
            bound = " and below 2^31"
        raise InputError(f"{name} is {given!r}: needed is a whole number, {least} or more{bound}")
    return int(known)


def narrowed(numbers: jax.Array) -> jax.Array:
    """Whole numbers as int32; one that int32 does not hold has no meaning, and says so by being negative."""
    if numbers.dtype.itemsize < 4 or numbers.dtype == jnp.int32:
        return numbers.astype(jnp.int32)
    # Traced numbers of more bits are not known here, and a cast would wrap them to others.
    held = (numbers <= LARGEST) & (numbers >= 0)
    return jnp.where(held, numbers, -1).astype(jnp.int32)


def one_key(given: Any, name: str) -> Any:
    """A key of `jax.random`, new or old, as it is.

    Errors: `InputError` names it where it is a number, several keys, or something else.
    """
    shape = getattr(given, "shape", None)
    dtype = getattr(given, "dtype", None)
    fits = False
    if dtype == jnp.uint32:
        # An old key says nothing of its kind of generator, which is the one that is set.
        kind = jax.config.jax_default_prng_impl  # type: ignore[attr-defined]
        words = 2 if kind == "threefry2x32" else 4
        fits = shape == (words,)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        fits = shape == ()
    if not fits:
        raise InputError(f"{name}={given!r}: needed is one key, such as jax.random.key(0)")
    return given


def integers(given: Any, name: str, ranks: tuple[int, ...], need: str, boolean: bool = False) -> Any:
    """An array of integers, or of booleans where those are meant, as it is; lists become arrays of numpy.

    Errors: `InputError` names it where it is something else or of none of the `ranks`, in the words of `need`.
    """
    array = as_array(given)
    fits = jnp.issubdtype(array.dtype, jnp.integer) or (boolean and array.dtype == bool)
    if not fits:
        what = str(array.dtype)
        # Of lists that are no array, and of texts, a type would say nothing: they are shown.
        if array.dtype == object or array.dtype.kind in "US":
            what = repr(given)
        raise InputError(f"{name} are {what[:80]}: {need}")
    if array.ndim not in ranks:
        raise InputError(f"{name} have shape {array.shape}: {need}")
    return array


def distinct(ids: Any, name: str) -> None:
    """Errors: `InputError` names ids, known before anything runs, of which int32 would make two one."""
    if not ids.size or ids.dtype.itemsize <= 4:  # Of four bytes, distinct ids stay distinct in int32.
        return
    known = np.asarray(ids)
    low, high = int(known.min()), int(known.max())
    if high > LARGEST or low < -LARGEST - 1:
        raise InputError(
            f"{name} from {low} to {high}: needed are numbers of int32, in which others would fall together"
        )


def as_array(given: Any) -> Any:
    """An array as it is, and lists as one of numpy: of no numbers, which every check refuses, where they are none."""
    if hasattr(given, "dtype"):
        return given
    try:
        return np.asarray(given)
    except ValueError:  # Lists of several lengths.
        return np.asarray(None)
