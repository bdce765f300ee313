"""Layers that see a window, in a cache: they keep the window's keys alone, which move on as tokens come.

Kept in the order of the tokens, the last one last, so that differences of indices are what they were: a causal window
needs nothing else. What is looked up by a token's own number is cut out for the keys that are there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from posjax.attention import Causal, Full, Mask, Segments, Tokens, Window
from posjax.attention.masks import indices_to, rules
from posjax.errors import InputError
from posjax.models.cache import Cache, window_of


@dataclass(frozen=True)
class Windowed:
    """The keys of a step: `slots` that are kept, the newest last, and those of the `count` tokens that come.

    `begun`: how many tokens came before. Where these are none, and that is known, the new ones are all that there is.
    """

    slots: int
    count: int
    begun: Any

    @property
    def is_first(self) -> bool:
        return isinstance(self.begun, int) and self.begun == 0

    @property
    def kept(self) -> int:
        """How many of the keys come from the cache."""
        if self.is_first:
            return 0
        return self.slots

    def cut(self, by_token: jax.Array, axis: int = 1) -> jax.Array:
        """What holds for the keys of the step, of an array over all tokens; 0 where there was none yet."""
        padding = [(0, 0)] * by_token.ndim
        padding[axis] = (self.kept, 0)
        padded = jnp.pad(by_token, padding)
        # Token `begun - kept` is at `begun` of the padded array. Past its end the slice is moved back, and tells of
        # other tokens: there the cache has no room either, and `Cache.held` marks the stream.
        start = self.begun
        return lax.dynamic_slice_in_dim(padded, start, self.kept + self.count, axis)

    def tokens(self, tokens: Tokens) -> Tokens:
        """The same tokens, with the keys of the step alone."""
        keys = self.kept + self.count
        if self.is_first:
            own = tokens.q_positions
            return replace(tokens, keys=keys, k_positions=own)
        if tokens.contiguous:
            indices = self.begun - self.kept + indices_to(keys)
            # Of places that nothing fills yet: they are masked, and a negative position would be a mark.
            k_positions = jnp.maximum(indices, 0)
        elif tokens.k_positions.ndim == 1:
            k_positions = self.cut(tokens.k_positions, axis=0)
        else:
            k_positions = self.cut(tokens.k_positions)
        # Indices are no positions any more, so a bias may not be told by them.
        return replace(tokens, keys=keys, q_offset=self.kept, k_positions=k_positions, contiguous=False)

    def mask(self, called: Mask) -> Mask:
        """The mask of a call over the whole cache, for the keys of the step; empty places are hidden.

        Errors: `InputError` for a rule that looks at tokens' numbers.
        """
        filled = indices_to(self.kept + self.count) >= self.kept - self.begun
        ids = filled.astype(jnp.int32)[None]
        found: Mask = Full()
        is_hidden = self.is_first  # No place is empty.
        for rule in rules(called):
            # The types themselves: a class that derives from one may look at tokens' numbers.
            if type(rule) is Segments:
                found = found & self._segments(rule)
                is_hidden = True
            elif type(rule) in (Causal, Window):
                found = found & rule
            else:
                raise InputError(
                    f"the mask {rule!r} was given for a step over a cache whose layers keep a window alone: there only "
                    "Causal(), Window(n) and Segments(ids) can be told"
                )
        if is_hidden:
            return found
        return found & Segments(ids)

    def _segments(self, rule: Segments) -> Segments:
        queries = self.cut(jnp.asarray(rule.queries).astype(jnp.int32))
        if rule.keys is None:
            return Segments(queries)
        keys = self.cut(jnp.asarray(rule.keys).astype(jnp.int32))
        return Segments(queries, keys)


def slots_of(mask: Mask, size: int) -> int:
    """How many keys of earlier tokens a cache for `size` tokens keeps of a layer with that mask."""
    window = window_of(mask)
    if window is None or window > size:
        return size
    # The query itself is one of those it sees.
    return max(window - 1, 1)


def windowed(mask: Mask, cache: Cache, count: int) -> Windowed | None:
    """What a step looks at where its layer keeps a window, `None` where it keeps all tokens."""
    slots = slots_of(mask, cache.size)
    if slots == cache.size:
        return None
    return Windowed(slots, count, cache.begun)
