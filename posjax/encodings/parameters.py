"""Parameters that a caller hands over, held to those that an encoding's own `init` and `constants` make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings.base import Dims, Encoding, Head, Params
from posjax.errors import InputError

_KINDS = (jnp.floating, jnp.unsignedinteger, jnp.signedinteger, jnp.bool_)
"""Kinds of numbers, of which none stands for another."""
_OPEN = -1
"""An axis whose size only a model knows."""


def given_params(encoding: Encoding, params: Params, dims: Dims) -> Params:
    """The parameters as hooks read them, once each has the name and the shape that the encoding makes itself.

    The model's width is not known here, so axes that depend on it are open; a bias parameter may have one head for all.

    Errors: `InputError` for parameters that are missing, or of other names, shapes or types.
    """
    learned = _learned(encoding, dims)
    if not isinstance(params, Mapping | None):
        raise InputError(
            f"{encoding!r} got params of type {type(params).__name__}: needed is a dict; pass "
            f"params=encoding.init(key, {dims!r})"
        )
    if not params and _shapes_in(learned):
        raise InputError(
            f"{encoding!r} has learned parameters and none were given: pass params=encoding.init(key, {dims!r})"
        )
    if params:
        # What is learned must all be there; constants may be left out, and are computed anew.
        _hold(encoding, params, learned, "params", dims, complete=True)
        if len(jax.tree.leaves(params)) > len(_shapes_in(learned)):
            # Constants are computed anew only where some were joined.
            constants = _shapes(encoding.constants, dims)
            _hold(encoding, params, constants, "params", dims, complete=False)
            _hold_types(encoding, params, encoding.constants(replace(dims, model_size=64)), "params", dims)
            _refuse_unknown(encoding, params, (learned, constants), dims)
    return encoding.join(params, None)


def has_constants(encoding: Encoding, params: Params, dims: Dims) -> bool:
    """Whether parameters hold more than what is learned."""
    return len(jax.tree.leaves(params)) > len(_shapes_in(_learned(encoding, dims)))


def counts_heads(encoding: Encoding, params: Params, dims: Dims) -> bool:
    """Whether a head's number among all heads decides what is done to it, where no parameter that is given says it.

    Tried out: heads of a model, and those of one of twice as many with the same parameters, are treated alike or not.

    >>> from posjax.encodings.alibi import Alibi
    >>> published = Alibi()
    >>> joined = published.join({}, published.constants(Dims(2, 4)))
    >>> counts_heads(published, {}, Dims(2, 4)), counts_heads(published, joined, Dims(2, 4))
    (True, False)
    """
    # The width is not known here, and decides nothing about heads.
    sizes = replace(dims, model_size=64)
    given = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}

    def tried() -> bool:
        try:
            constants = _only(encoding.constants(sizes), given, "")
            held = encoding.join(encoding.init(jax.random.key(0), sizes), constants)
            return _turns_by_number(encoding, held, dims) or _biases_by_number(encoding, held, dims)
        except InputError:  # It is for so many heads alone.
            return True

    # In a thread of its own, which knows nothing of the trace and the mesh that the call stands in.
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(tried).result()


def _only(tree: Any, given: set[str], path: str) -> Any:
    """The constants that are among the parameters given: others are computed anew for the heads there are."""
    kept = {}
    for name, inner in tree.items():
        below = f"{path}[{name!r}]"
        if isinstance(inner, Mapping):
            kept[name] = _only(inner, given, below)
        elif below in given:
            kept[name] = inner
    return kept


@dataclass(frozen=True)
class _OfTwice(Head):
    """A head of twice as many, which finds its parameters where `own` does."""

    own: Head | None = None

    def of(self, parameter: jax.Array) -> jax.Array:
        if self.own is None or parameter.shape[0] == self.count:
            return super().of(parameter)
        return self.own.of(parameter)


def _biases_by_number(encoding: Encoding, params: Params, dims: Dims) -> bool:
    if encoding.bias_kind == "none":
        return False
    at = jnp.arange(4, dtype=jnp.int32)
    for index in range(dims.heads):
        own = Head(index, dims.heads)
        other = _OfTwice(dims.heads + index, 2 * dims.heads, own)
        first = encoding.bias(params, at, at, own)
        second = encoding.bias(params, at, at, other)
        if not np.array_equal(first, second, equal_nan=True):
            return True
    return False


def _turns_by_number(encoding: Encoding, params: Params, dims: Dims) -> bool:
    drawn = np.random.default_rng(0).standard_normal((1, 4, dims.heads, dims.head_size))
    x = jnp.asarray(drawn, jnp.float32)
    at = jnp.arange(4, dtype=jnp.int32)
    once = encoding.rotate(params, x, at, "query")

    def doubled(leaf: Any) -> Any:
        if jnp.ndim(leaf) and leaf.shape[0] == dims.heads:
            return jnp.concatenate([leaf, leaf])
        return leaf

    of_twice = jax.tree.map(doubled, params)
    twice = encoding.rotate(of_twice, jnp.concatenate([x, x], axis=2), at, "query")
    return not np.allclose(twice, jnp.concatenate([once, once], axis=2), atol=1e-5, equal_nan=True)


def _refuse_unknown(encoding: Encoding, params: Params, known: tuple[Any, Any], dims: Dims) -> None:
    """Refuses what neither `init` nor `constants` makes: nothing reads it, or it was prepared for other positions."""
    names = set()
    for tree in known:
        for path, _ in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: isinstance(x, tuple)):
            names.add(jax.tree_util.keystr(path))
    for path in _by_path(params):
        if path not in names:
            raise InputError(
                f"{encoding!r} got params{path}, which it does not make: pass params=encoding.init(key, {dims!r}), or "
                "these joined with constants, and nothing that was prepared for some positions"
            )


def given_constants(encoding: Encoding, constants: Params, dims: Dims) -> None:
    """Holds what stands in for an encoding's constants to their names and shapes.

    Errors: `InputError` for other names, which nothing would read, and for other shapes.
    """
    made = encoding.constants(dims)
    wanted = _by_path(made)
    given = _by_path(constants)
    # Both ways: a name too many would be read by nothing, and nobody would notice.
    for path in sorted({*wanted, *given}):
        if wanted.get(path) != given.get(path):
            raise InputError(
                f"{encoding!r} got constants{path} of shape {given.get(path)}: needed is {wanted.get(path)}; give it "
                f"those of a value of its structure, encoding.constants({dims!r})"
            )
    _hold_types(encoding, constants, made, "constants", dims)


def _hold_types(encoding: Encoding, given: Any, made: Any, name: str, dims: Dims) -> None:
    """Errors: `InputError` for constants of another kind of number, or narrower ones: they are exact, and stay so."""
    types = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(made):
        types[jax.tree_util.keystr(path)] = jnp.result_type(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(given):
        where = jax.tree_util.keystr(path)
        own = jnp.result_type(leaf)
        need = types.get(where, own)
        alike = any(jnp.issubdtype(own, kind) and jnp.issubdtype(need, kind) for kind in _KINDS)
        if not alike or own.itemsize < min(need.itemsize, 4):
            raise InputError(
                f"{encoding!r} got {name}{where} of {own}: needed is {need}, as its constants are made; cast what is "
                f"learned alone, encoding.init(key, {dims!r})"
            )


def _by_path(tree: Params) -> dict[str, tuple[int, ...]]:
    """The shape of each array, by where it stands in the dicts."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        found[jax.tree_util.keystr(path)] = jnp.shape(leaf)
    return found


def _learned(encoding: Encoding, dims: Dims) -> Any:
    return _shapes(lambda sizes: _init_shapes(encoding, sizes), dims)


def _init_shapes(encoding: Encoding, dims: Dims) -> Params:
    # In shapes alone: drawing the parameters of a large model would cost more than the call.
    return jax.eval_shape(lambda key: encoding.init(key, dims), jax.random.key(0))


def _shapes_in(tree: Any) -> list[tuple[int, ...]]:
    """The shapes of a tree of them, which JAX would take apart as tuples."""
    return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, tuple))


def _shapes(make: Callable[[Dims], Any], dims: Dims) -> Any:
    """The shapes of what is made for a model of these heads, open where they follow its width."""

    def same(one: Any, other: Any) -> Any:
        if isinstance(one, Mapping):
            return {name: same(one[name], other[name]) for name in one}
        shape = []
        for a, b in zip(jnp.shape(one), jnp.shape(other), strict=True):
            shape.append(a if a == b else _OPEN)
        return tuple(shape)

    # Made for two widths: an axis that differs between them is one that follows the width.
    narrow = make(replace(dims, model_size=64))
    wide = make(replace(dims, model_size=128))
    return same(narrow, wide)


def _hold(encoding: Encoding, given: Any, need: Any, path: str, dims: Dims, complete: bool) -> None:
    remedy = f"pass params=encoding.init(key, {dims!r})"
    if isinstance(need, Mapping):
        if not isinstance(given, Mapping):
            raise InputError(f"{encoding!r} got {path} of type {type(given).__name__}: needed is a dict; {remedy}")
        for name, inner in need.items():
            if name in given:
                _hold(encoding, given[name], inner, f"{path}[{name!r}]", dims, complete)
            # A part that learns nothing may be left out.
            elif complete and inner != {}:
                raise InputError(f"{encoding!r} got {path} without {name!r}: {remedy}")
        return
    # What is trained is numbers; a constant may be true or false.
    is_told = not complete and getattr(given, "dtype", None) == np.dtype(bool)
    if not (is_told or _is_numeric(given)):
        raise _no_numbers(encoding, given, path, remedy)
    _hold_shape(encoding, tuple(given.shape), need, path, remedy)


def _no_numbers(encoding: Encoding, given: Any, path: str, remedy: str) -> InputError:
    what = f"{given!r:.80}"
    if hasattr(given, "shape"):
        what = f"{given.dtype} of shape {tuple(given.shape)}"
    return InputError(f"{encoding!r} got {path}={what}: needed is an array of numbers; {remedy}")


def _hold_shape(encoding: Encoding, shape: tuple[int, ...], need: tuple[int, ...], path: str, remedy: str) -> None:
    if _fits(shape, need) or (encoding.bias_kind != "none" and _is_shared(shape, need)):
        return
    axes = ", ".join("D" if n == _OPEN else str(n) for n in need)
    raise InputError(
        f"{encoding!r} got {path} of shape {shape}: needed is [{axes}]; {remedy}, and the fields that "
        "they were made with"
    )


def _is_numeric(given: Any) -> bool:
    if not hasattr(given, "shape"):
        return False
    return jnp.issubdtype(given.dtype, jnp.floating) or jnp.issubdtype(given.dtype, jnp.integer)


def _fits(shape: tuple[int, ...], need: tuple[int, ...]) -> bool:
    """Whether each axis has the size that is needed, where that is known."""
    if len(shape) != len(need):
        return False
    return all(needed in (size, _OPEN) for size, needed in zip(shape, need, strict=True))


def _is_shared(shape: tuple[int, ...], need: tuple[int, ...]) -> bool:
    """Whether it has one head, for all of them."""
    return len(shape) == len(need) and shape[:1] == (1,) and need[1:] == shape[1:]
