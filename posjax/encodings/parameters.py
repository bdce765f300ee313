"""Parameters that a caller hands over, held to those that an encoding's own `init` and `constants` make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from posjax.encodings.base import Dims, Encoding, Params
from posjax.errors import InputError

_OPEN = -1
"""An axis whose size only a model knows."""


def given_params(encoding: Encoding, params: Params, dims: Dims) -> Params:
    """The parameters as hooks read them, once each has the name and the shape that the encoding makes itself.

    The model's width is not known here, so axes that depend on it are open; a bias parameter may have one head for all.

    Errors: `InputError` for parameters that are missing, or of other names, shapes or types.
    """
    learned = _shapes(lambda dims: jax.eval_shape(lambda key: encoding.init(key, dims), jax.random.key(0)), dims)
    if not isinstance(params, Mapping | None):
        raise InputError(
            f"{encoding!r} got params of type {type(params).__name__}: needed is a dict; pass "
            f"params=encoding.init(key, {dims!r})"
        )
    if not params and jax.tree.leaves(learned, is_leaf=lambda x: isinstance(x, tuple)):
        raise InputError(
            f"{encoding!r} has learned parameters and none were given: pass params=encoding.init(key, {dims!r})"
        )
    if params:
        _hold(encoding, params, learned, "params", dims, complete=True)
        if len(jax.tree.leaves(params)) > len(jax.tree.leaves(learned, is_leaf=lambda x: isinstance(x, tuple))):
            # Constants are computed anew only where some were joined.
            _hold(encoding, params, _shapes(encoding.constants, dims), "params", dims, complete=False)
    return encoding.join(params, None)


def given_constants(encoding: Encoding, constants: Params, dims: Dims) -> None:
    """Holds what stands in for an encoding's constants to their names and shapes.

    Errors: `InputError` for other names, which nothing would read, and for other shapes.
    """
    need = encoding.constants(dims)
    wanted, given = (
        {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (need, constants)
    )
    for path in sorted({*wanted, *given}):
        if wanted.get(path) != given.get(path):
            raise InputError(
                f"{encoding!r} got constants{path} of shape {given.get(path)}: needed is {wanted.get(path)}; give it "
                f"those of a value of its structure, encoding.constants({dims!r})"
            )


def _shapes(make: Callable[[Dims], Any], dims: Dims) -> Any:
    """The shapes of what is made for a model of these heads, open where they follow its width."""

    def same(one: Any, other: Any) -> Any:
        if isinstance(one, Mapping):
            return {name: same(one[name], other[name]) for name in one}
        return tuple(a if a == b else _OPEN for a, b in zip(jnp.shape(one), jnp.shape(other), strict=True))

    return same(*(make(replace(dims, model_size=width)) for width in (64, 128)))


def _hold(encoding: Encoding, given: Any, need: Any, path: str, dims: Dims, complete: bool) -> None:
    remedy = f"pass params=encoding.init(key, {dims!r})"
    if isinstance(need, Mapping):
        if not isinstance(given, Mapping):
            raise InputError(f"{encoding!r} got {path} of type {type(given).__name__}: needed is a dict; {remedy}")
        for name, inner in need.items():
            if name in given:
                _hold(encoding, given[name], inner, f"{path}[{name!r}]", dims, complete)
            elif complete and inner != {}:
                raise InputError(f"{encoding!r} got {path} without {name!r}: {remedy}")
        return
    shape: tuple[int, ...] = tuple(getattr(given, "shape", ()))
    kinds = (jnp.floating, jnp.integer)
    if not (hasattr(given, "shape") and any(jnp.issubdtype(given.dtype, kind) for kind in kinds)):
        what = f"{given.dtype} of shape {shape}" if hasattr(given, "shape") else f"{given!r:.80}"
        raise InputError(f"{encoding!r} got {path}={what}: needed is an array of numbers; {remedy}")
    alike = len(shape) == len(need) and all(b in (a, _OPEN) for a, b in zip(shape, need, strict=True))
    shared = len(shape) == len(need) and shape[:1] == (1,) and need[1:] == shape[1:]
    if not alike and not (shared and encoding.bias_kind != "none"):
        axes = ", ".join("D" if n == _OPEN else str(n) for n in need)
        raise InputError(
            f"{encoding!r} got {path} of shape {shape}: needed is [{axes}]; {remedy}, and the fields that "
            "they were made with"
        )
