"""Small arguments of public functions, held to what they mean where they enter: whole numbers and arrays of them."""

from __future__ import annotations

import numbers
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import core

from posjax.errors import InputError

LARGEST = 2**31 - 1
"""The largest whole number of int32, which lengths, positions and tokens are."""


def whole(given: Any, name: str, least: int = 0) -> int:
    """A whole number that is known before anything runs, as Python's own.

    Errors: `InputError` names it where it is traced, no whole number, below `least`, or past int32.

    >>> whole(np.int64(3), "new", least=1)
    3
    """
    if isinstance(given, core.Tracer):
        raise InputError(
            f"{name} is traced: needed is a number that is known before the function runs; make it a static argument"
        )
    known = np.asarray(given)[()] if getattr(given, "shape", None) == () else given
    fits = isinstance(known, numbers.Integral) and not isinstance(known, bool | np.bool_)
    if not fits or not least <= int(known) <= LARGEST:
        raise InputError(f"{name} is {given!r}: needed is a whole number, {least} or more")
    return int(known)


def integers(given: Any, name: str, ranks: tuple[int, ...], need: str, boolean: bool = False) -> Any:
    """An array of integers, or of booleans where those are meant, as it is; lists become arrays of numpy.

    Errors: `InputError` names it where it is something else or of none of the `ranks`, in the words of `need`.
    """
    try:
        array = given if hasattr(given, "dtype") else np.asarray(given)
    except ValueError:  # Lists of several lengths.
        array = np.asarray(None)
    if not jnp.issubdtype(array.dtype, jnp.integer) and not (boolean and array.dtype == bool):
        what = repr(given) if array.dtype == object or array.dtype.kind in "US" else str(array.dtype)
        raise InputError(f"{name} are {what[:80]}: {need}")
    if array.ndim not in ranks:
        raise InputError(f"{name} have shape {array.shape}: {need}")
    return array
