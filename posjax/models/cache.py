"""The keys and values of tokens already seen, so that the next one costs one row of attention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import core

from posjax.arguments import LARGEST, whole
from posjax.attention import Causal, LinearState, Mask, Window
from posjax.attention.masks import rules
from posjax.errors import InputError
from posjax.models.memory import Memory

KeysValues = tuple[jax.Array, jax.Array]
Entry = KeysValues | LinearState | None
"""What one sublayer keeps: keys and values as `attention.over_cache` reads them, `[B K, S, H]`; the sums of linear
attention; or nothing."""


@dataclass(frozen=True)
class Cache:
    """Room for `size` tokens in each layer, `length` of them filled; made by `model.cache(batch, size)`.

    `layers`: for each layer what each of its sublayers keeps. Keys are as they were rotated when they came, or not yet
    rotated where the encoding depends on the length; those of a layer that sees a window are the window's alone, and
    those of cross attention the memory's. `positions [B, size]`, with the encodings' coordinates as a last axis, or
    `None` where they are 0, 1, 2, …. `first_read`: how many tokens the first pass read; that there are no fewer is
    known even where `length` is traced. `read`: how many tokens came in all; `length` may be
    set to fewer where layers keep all of them, and the next ones then take the place of the others.
    """

    layers: tuple[tuple[Entry, ...], ...]
    length: Any
    positions: jax.Array | None
    memory: Memory | None
    rows: int
    size: int
    first_read: int = 0
    read: Any = 0

    @property
    def begun(self) -> Any:
        """How many tokens it holds: Python's own number where that is known.

        Errors: `InputError` where it is no whole number, such as one for each row.
        """
        if isinstance(self.length, core.Tracer):
            return self.length
        return whole(self.length, "the cache's length", least=-LARGEST)

    def placed(self, new: jax.Array | None, count: int) -> jax.Array | None:
        """The keys' positions once `count` tokens have come, at positions `new` if any are given.

        Errors: `InputError` where there is no room for them, or positions are given and none are kept, or the reverse.
        """
        # Past the end an update would be moved back and overwrite what is there. Where the length is traced, the layers
        # mark what has no room.
        known = not isinstance(self.length, core.Tracer)
        room = self.size - count
        if known and not 0 <= self.begun <= room:
            raise InputError(
                f"the cache holds {self.size} tokens, {self.length} of them taken, and got {count} more: "
                "make it larger, model.cache(batch, size)"
            )
        if self.positions is None and new is None:
            return None
        if self.positions is None or new is None:
            have = "keeps positions and got none"
            if new is not None:
                have = "keeps no positions and got some"
            raise InputError(
                f"the cache {have}: make it with model.cache(..., positions=True) where tokens may stand "
                "anywhere, and give the positions of all of them"
            )
        # Positions of text may come for all rows at once, and with one number where there are several coordinates.
        if new.ndim == 1:
            new = new[None]
        if new.ndim < self.positions.ndim:
            new = new[..., None]
        batch, _, *coordinates = self.positions.shape
        rows = jnp.broadcast_to(new, (batch, count, *coordinates))
        return jax.lax.dynamic_update_slice_in_dim(self.positions, rows, self.length, 1)

    def held(self, x_BTD: jax.Array, keeps_all: bool) -> jax.Array:
        """The stream of tokens that come: NaN where it turns out, as the program runs, that they have no room.

        The last place would be overwritten, or the document of another token be read, and nobody told. So too where
        the cache was taken back, and layers do not keep all that came.
        """
        if isinstance(self.begun, int):  # Refused already: see `placed`, and `check_cache`.
            return x_BTD
        end = self.length + x_BTD.shape[1]
        fits = (self.length >= 0) & (end <= self.size)
        if not keeps_all:
            fits = fits & (self.length == self.read)
        return jnp.where(fits, x_BTD, jnp.nan)

    def extended(self, layers: tuple[tuple[Entry, ...], ...], count: int, k_positions: jax.Array) -> Cache:
        """The cache after `count` tokens, with what each layer keeps then."""
        positions = None
        if self.positions is not None:
            positions = jnp.broadcast_to(k_positions, self.positions.shape)
        first_read = self.first_read
        # Set once: a number that changed with every step would compile each of them.
        if not isinstance(self.length, core.Tracer) and int(self.length) == 0:
            first_read = count
        length = self.length + count
        return replace(self, layers=layers, length=length, positions=positions, first_read=first_read, read=length)

    def looks_past(self, mask: Mask, count: int) -> bool:
        """Whether any of the next `count` tokens may see one that comes after them, under a mask."""
        if mask.causal:
            return False
        begins: Iterable[int] = (self.begun,)
        if isinstance(self.length, core.Tracer):
            begins = range(self.first_read, self.size - count + 1)
        last = self.size - 1
        for first in begins:
            end = first + count
            # Of a cache that is full nothing more is asked.
            if end <= last and mask.may_see(first, end - 1, end, last):
                return True
        return False


jax.tree_util.register_dataclass(
    Cache, data_fields=["layers", "length", "positions", "memory", "read"], meta_fields=["rows", "size", "first_read"]
)


def window_of(mask: Mask) -> int | None:
    """How many tokens, itself included, a query sees at most under a mask: `None` for any number.

    >>> window_of(Causal() & Window(8))
    8
    """
    sizes = [rule.size for rule in rules(mask) if type(rule) is Window and isinstance(rule.size, int)]
    # A window alone looks ahead too, and other rules may ask for a token's number, which a moving window does not tell.
    is_plain = all(type(rule) in (Causal, Window) for rule in rules(mask))
    if not sizes or not mask.causal or not is_plain:
        return None
    return min(sizes)
