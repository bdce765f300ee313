"""What a law found, and how it is told: assertions that obey chex, and the errors that they compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import chex
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from posjax.encodings.base import Dims, Encoding
from posjax.errors import InputError

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Finding:
    """A law, the worst error against what is allowed, and the input that gave it."""

    law: str
    worst: float
    allowed: float
    where: str

    @property
    def holds(self) -> bool:
        return self.worst <= self.allowed

    def enforce(self, encoding: Encoding) -> None:
        """Errors: `AssertionError` where the law does not hold."""
        # chex decides whether assertions are on, as for its own.
        if not self.holds and asserting():
            raise AssertionError(f"{encoding!r} breaks {self.told}")

    @property
    def told(self) -> str:
        """The law, and by how much it is broken."""
        return f"the law {self.law!r}: the error is {self.worst:.2g} at {self.where}, and {self.allowed:.2g} is allowed"


def asserting() -> bool:
    """Whether assertions are on: not after `chex.disable_asserts()`."""
    try:
        chex.assert_equal(0, 1)  # chex tells by its assertions alone: this one fails wherever they are on.
    except AssertionError:
        return True
    return False


def assertion(law: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """An assertion that measures nothing while assertions are off."""

    @wraps(law)
    def obedient(*args: Arguments.args, **named: Arguments.kwargs) -> None:
        if asserting():
            law(*args, **named)

    return obedient


def expect(encoding: Any, dims: Any, params: Any = ()) -> None:
    """Errors: `InputError` names an argument that is no encoding, no `Dims`, or no parameters."""
    if not isinstance(encoding, Encoding):
        raise InputError(f"encoding is {encoding!r}: needed is a value, such as Rope()")
    if not isinstance(dims, Dims):
        raise InputError(f"dims is {dims!r}: needed is Dims(heads, head_size, model_size)")
    if params is None:
        raise InputError("params is None: needed is encoding.init(key, dims), {} where nothing is learned")


def error_of(got: Any, want: Any) -> float:
    """The largest difference; infinite where either is not a number."""
    exact_got = np.asarray(got, np.float64)
    exact_want = np.asarray(want, np.float64)
    # Infinities that agree, such as of pairs that a bias rules out, are no difference.
    alike = exact_got == exact_want
    with np.errstate(invalid="ignore"):
        difference = np.where(alike, 0.0, np.abs(exact_got - exact_want))
    # Every comparison with NaN is false: as NaN, the worst error of all would pass.
    difference = np.where(np.isnan(difference), np.inf, difference)
    return float(np.max(difference, initial=0.0))


def normal(shape: tuple[int, ...], seed: int, dtype: DTypeLike = jnp.float32) -> np.ndarray:
    """Random numbers, made and cut on the host: JAX would compile its generator for each shape, half a second each."""
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return drawn.astype(jnp.dtype(dtype))


def worst_of(law: str, pairs: dict[str, tuple[Any, Any]], allowed: float) -> Finding:
    """The finding of a law that compares pairs: the worst of them, and which it is."""
    # The worst alone is told: it names the input to begin with.
    errors = {where: error_of(got, want) for where, (got, want) in pairs.items()}
    where = max(errors, key=lambda name: errors[name])
    return Finding(law, errors[where], allowed, where)
