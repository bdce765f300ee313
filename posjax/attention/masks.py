"""Masks as rules: small values that say which keys a query may see, made dense only for the tile that asks.

A rule is about token order (indices), not about positions: an encoding may place tokens anywhere, the order stays. `&`
intersects, `|` unites. Numbers and arrays inside a mask are data: `Window(n)` with another `n` does not compile again
when the mask is an argument of a jitted function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core, lax

from posjax.errors import InputError
from posjax.positions import Index
from posjax.trees import register


@dataclass(frozen=True)
class Mask:
    """A rule. `allowed` is the definition; `may_see` and `visible` say what may be skipped, before and at run time."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "allowed" not in vars(cls):
            return
        # A rule that derives from another and sees other pairs may neither skip the other's blocks nor become it.
        for name in ("may_see", "visible", "part"):
            if name not in vars(cls):
                setattr(cls, name, getattr(Mask, name))

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        """Whether query `q_index[t]` may see key `k_index[s]`: bool `[b, T, S]`, with b the
        batch or 1; `None`: everything."""
        raise NotImplementedError(f"{type(self).__name__} defines no rule")

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        """Whether any pair of the block can be allowed, as far as is known before run time."""
        return True

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        """Whether any pair of two blocks can be allowed, at run time: the rising token indices of blocks, `[q, t]` and
        `[k, s]`, to bool `[q, k]`; `None`: it cannot tell."""
        return None

    def part(self, first: Index, count: int) -> Mask:
        """The same rule for `count` rows of the batch from `first` on."""
        return SomeRows(self, first, count)

    @property
    def causal(self) -> bool:
        """Whether no query sees a later key."""
        return False

    # An array on the left leaves `&` and `|` to the mask on the right.
    __array_ufunc__ = None

    def __and__(self, other: MaskLike) -> Mask:
        return Both(self, as_mask(other))

    def __rand__(self, other: MaskLike) -> Mask:
        return as_mask(other) & self

    def __or__(self, other: MaskLike) -> Mask:
        return Either(self, as_mask(other))

    def __ror__(self, other: MaskLike) -> Mask:
        return as_mask(other) | self


@dataclass(frozen=True)
class Full(Mask):
    """Every query sees every key."""

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        return None

    def part(self, first: Index, count: int) -> Mask:
        return self


@dataclass(frozen=True)
class Causal(Mask):
    """A query sees itself and the keys before it.

    >>> import jax.numpy as jnp
    >>> Causal().allowed(jnp.arange(2), jnp.arange(2)).tolist()
    [[[True, False], [True, True]]]
    """

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        queries = q_index[None, :, None]
        keys = k_index[None, None, :]
        return queries >= keys

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        return k_first <= q_last

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        first_key = k_blocks[None, :, 0]
        last_query = q_blocks[:, -1, None]
        return first_key <= last_query

    def part(self, first: Index, count: int) -> Mask:
        return self

    @property
    def causal(self) -> bool:
        return True


@dataclass(frozen=True)
class Window(Mask):
    """A query sees keys fewer than `size` tokens away, on either side; with `Causal()`, itself and `size - 1` before.

    >>> import jax.numpy as jnp
    >>> (Causal() & Window(2)).allowed(jnp.arange(3), jnp.arange(3)).tolist()
    [[[True, False, False], [True, True, False], [False, True, True]]]
    """

    size: Any

    def __post_init__(self) -> None:
        if isinstance(self.size, np.integer):
            object.__setattr__(self, "size", int(self.size))
        # An array is looked at where it is used, since a traced one has no value yet.
        wrong = isinstance(self.size, int) and (self.size < 1 or isinstance(self.size, bool))
        if wrong or isinstance(self.size, float | str):
            raise InputError(
                f"Window got size={self.size!r}: needed is a whole number of tokens, 1 or more, since the "
                "query itself counts"
            )

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        queries = q_index[None, :, None]
        keys = k_index[None, None, :]
        difference = queries - keys
        away = jnp.abs(difference)
        size = jnp.asarray(self.size, jnp.int32)
        return away < size

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        # A traced size is unknown until run time, so nothing can be skipped for it.
        if not isinstance(self.size, int):
            return True
        too_early = q_first - self.size
        too_late = q_last + self.size
        return k_last > too_early and k_first < too_late

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        # Differences alone: a size may be the largest int32 there is, and then any sum with it wraps.
        first_query = q_blocks[:, 0, None]
        last_query = q_blocks[:, -1, None]
        first_key = k_blocks[None, :, 0]
        last_key = k_blocks[None, :, -1]
        behind = first_query - last_key
        ahead = first_key - last_query
        size = jnp.asarray(self.size, jnp.int32)
        return (behind < size) & (ahead < size)

    def part(self, first: Index, count: int) -> Mask:
        return self


@dataclass(frozen=True)
class Dense(Mask):
    """The pairs that an array allows: bool `[b, T, S]`, b the batch or 1, of the last T of S tokens; by `as_mask`."""

    pairs: Any
    first: Any = None
    """The first query's index among the keys; `held` puts in the call's own."""

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        # Clipped, since backends ask for the indices of padding too, and mask what they get.
        row_index = q_index - self._start()
        rows = jnp.take(self.pairs, row_index, axis=1, mode="clip")
        return jnp.take(rows, k_index, axis=2, mode="clip")

    def _start(self) -> Any:
        if self.first is not None:
            return self.first
        _, T, S = self.pairs.shape
        return max(S - T, 0)

    def __repr__(self) -> str:
        return f"an array of shape {self.pairs.shape}"

    @property
    def causal(self) -> bool:
        _, T, S = self.pairs.shape
        first = self.first
        if first is None:
            first = S - T
        if isinstance(self.pairs, core.Tracer) or not isinstance(first, int):
            return False  # Unknown until run time, so it may look ahead.
        pairs = np.asarray(self.pairs)
        ahead = np.triu(pairs, first + 1)
        return not ahead.any()


@dataclass(frozen=True)
class Both(Mask):
    """The intersection of two rules, what `&` makes."""

    first: Mask
    second: Mask

    def __repr__(self) -> str:
        second = repr(self.second)
        if isinstance(self.second, Both | Either):
            second = f"({second})"
        if isinstance(self.first, Either):
            return f"({self.first!r}) & {second}"
        return f"{self.first!r} & {second}"

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        return _both(self.first.allowed(q_index, k_index), self.second.allowed(q_index, k_index))

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        return all(m.may_see(q_first, q_last, k_first, k_last) for m in (self.first, self.second))

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        # A rule that cannot tell leaves the answer to the other: what either rules out is out.
        return _both(self.first.visible(q_blocks, k_blocks), self.second.visible(q_blocks, k_blocks))

    def part(self, first: Index, count: int) -> Mask:
        return Both(self.first.part(first, count), self.second.part(first, count))

    @property
    def causal(self) -> bool:
        return self.first.causal or self.second.causal


def _both(first: jax.Array | None, second: jax.Array | None) -> jax.Array | None:
    """Where both hold; `None` is everywhere."""
    if first is None:
        return second
    if second is None:
        return first
    return first & second


@dataclass(frozen=True)
class Either(Mask):
    """The union of two rules, what `|` makes: a query sees what one of them lets it see.

    >>> import jax.numpy as jnp
    >>> (Window(1) | Causal()).allowed(jnp.arange(2), jnp.arange(2)).astype(int).tolist()
    [[[1, 0], [1, 1]]]
    """

    first: Mask
    second: Mask

    def __repr__(self) -> str:
        second = repr(self.second)
        if isinstance(self.second, Either):
            second = f"({second})"
        return f"{self.first!r} | {second}"

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        return _either(self.first.allowed(q_index, k_index), self.second.allowed(q_index, k_index))

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        return any(m.may_see(q_first, q_last, k_first, k_last) for m in (self.first, self.second))

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        # Where a rule cannot tell, no block may be skipped: what the other rules out may be in.
        return _either(self.first.visible(q_blocks, k_blocks), self.second.visible(q_blocks, k_blocks))

    def part(self, first: Index, count: int) -> Mask:
        return Either(self.first.part(first, count), self.second.part(first, count))

    @property
    def causal(self) -> bool:
        return self.first.causal and self.second.causal


def _either(first: jax.Array | None, second: jax.Array | None) -> jax.Array | None:
    """Where one of them holds; `None` is everywhere."""
    if first is None or second is None:
        return None
    return first | second


@dataclass(frozen=True)
class SomeRows(Mask):
    """A rule for `count` rows of the batch from `first` on, where its arrays span more: a part by `Mask.part`."""

    mask: Mask
    first: Index
    count: int

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        seen = self.mask.allowed(q_index, k_index)
        if seen is None or seen.shape[0] in (1, self.count):
            return seen
        return lax.dynamic_slice_in_dim(seen, self.first, self.count)

    def may_see(self, q_first: int, q_last: int, k_first: int, k_last: int) -> bool:
        return self.mask.may_see(q_first, q_last, k_first, k_last)

    def visible(self, q_blocks: jax.Array, k_blocks: jax.Array) -> jax.Array | None:
        return self.mask.visible(q_blocks, k_blocks)

    @property
    def causal(self) -> bool:
        return self.mask.causal


MaskLike = Mask | jax.Array | np.ndarray
"""A mask, or a boolean array that `as_mask` makes one of."""


def indices_to(count: int) -> jax.Array:
    """The numbers of `count` tokens or heads, from 0 on: int32, also where `jax_enable_x64` would make them wider."""
    return jnp.arange(count, dtype=jnp.int32)


def rules(mask: Mask) -> tuple[Mask, ...]:
    """The rules that a mask intersects, without `Full()`, in the order they were written.

    >>> rules(Causal() & (Window(4) & Full()))
    (Causal(), Window(size=4))
    """
    if isinstance(mask, Both):
        return rules(mask.first) + rules(mask.second)
    if isinstance(mask, Full):
        return ()
    return (mask,)


def goes_backward(mask: Mask) -> bool:
    """Whether its rules let no query see a later key, whatever its arrays hold, which may be known at run time only.

    >>> goes_backward(Causal() & Window(4)), goes_backward(as_mask(np.ones((1, 1), bool)))
    (True, False)
    """
    if isinstance(mask, Both):
        return goes_backward(mask.first) or goes_backward(mask.second)
    if isinstance(mask, Either):
        return goes_backward(mask.first) and goes_backward(mask.second)
    return mask.causal and not isinstance(mask, Dense)


def counts_tokens(mask: Mask) -> bool:
    """Whether it depends on where the first token is, and not only on how far apart two are.

    >>> counts_tokens(Causal() & Window(4))
    False
    """
    if isinstance(mask, Both | Either):
        return counts_tokens(mask.first) or counts_tokens(mask.second)
    # Of a rule that is not known here, the worse is assumed: one that derives from these may count.
    return type(mask) not in (Full, Causal, Window)


def as_mask(given: MaskLike) -> Mask:
    """The mask itself, or a boolean array `[T, S]` or `[B, T, S]`, true where a query may see a key, as a mask.

    Errors: `InputError` for anything else: `None`, a class, an array of numbers or of another rank.

    >>> (Causal() & jnp.ones((2, 2), bool)).allowed(jnp.arange(2), jnp.arange(2)).tolist()
    [[[True, False], [True, True]]]
    """
    if isinstance(given, Mask):
        return given
    is_array = hasattr(given, "shape")
    if not is_array or given.dtype != bool or given.ndim not in (2, 3):
        what = repr(given)
        if is_array:
            what = f"{given.dtype} of shape {given.shape}"
        raise InputError(f"mask is {what}: needed is a mask such as Causal(), or a boolean array [T, S] or [B, T, S]")
    if given.ndim == 2:
        given = given[None]
    return Dense(given)


for _mask, _data in (
    (Full, []),
    (Causal, []),
    (Window, ["size"]),
    (Dense, ["pairs", "first"]),
    (Both, ["first", "second"]),
    (Either, ["first", "second"]),
):
    register(_mask, _data)
register(SomeRows, ["mask", "first"], ["count"])
