"""The keys and values of tokens already seen, so that the next one costs one row of attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import core

from posjax.arguments import LARGEST, whole
from posjax.attention import Tokens
from posjax.errors import InputError
from posjax.models.decoder import Decoder

KeysValues = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class Cache:
    """Room for `size` tokens in each layer, `length` of them filled.

    `layers`: for each layer keys and values `[B, size, K, H]`, keys as they were rotated when they came, or not yet
    rotated where the encoding depends on the length. `positions [B, size]`, with the encoding's coordinates as a
    last axis, or `None` where they are 0, 1, 2, ….
    """

    layers: tuple[KeysValues, ...]
    length: Any
    positions: jax.Array | None

    @classmethod
    def empty(cls, config: Decoder, batch: int, size: int, positions: bool = False) -> Cache:
        """A cache for `size` tokens of `batch` rows; with `positions`, tokens may be anywhere (left padding)."""
        batch = whole(batch, "batch")
        size = whole(size, "size", least=1)
        heads = config.key_value_heads
        shape = (batch, size, heads, config.size_of_head)
        # Arrays of their own for each layer: a cache that is donated may hold none of them twice.

        def empty() -> KeysValues:
            keys = jnp.zeros(shape, config.dtype)
            values = jnp.zeros(shape, config.dtype)
            return keys, values

        layers = tuple(empty() for _ in range(config.layers))
        if not positions:
            return cls(layers, 0, None)
        where: tuple[int, ...] = (batch, size)
        coordinates = config.encoding.coordinates
        # A single coordinate has no axis of its own: such positions are text's.
        if coordinates > 1:
            where = (batch, size, coordinates)
        return cls(layers, 0, jnp.zeros(where, jnp.int32))

    @property
    def size(self) -> int:
        keys, _ = self.layers[0]
        return keys.shape[1]

    @property
    def rows(self) -> int:
        """The rows of the batch that it has room for."""
        keys, _ = self.layers[0]
        return keys.shape[0]

    @property
    def begun(self) -> Any:
        """How many tokens it holds: Python's own number where that is known.

        Errors: `InputError` where it is no whole number, such as one for each row.
        """
        if isinstance(self.length, core.Tracer):
            return self.length
        return whole(self.length, "the cache's length", least=-LARGEST)

    def fits(self, config: Decoder) -> None:
        """Errors: `InputError` for a cache that was made for another model."""
        need = (config.key_value_heads, config.size_of_head)
        have = {tuple(x.shape[2:]) for layer in self.layers for x in layer}
        if len(self.layers) != config.layers or have != {need}:
            texts = map(str, sorted(have))
            shapes = ", ".join(texts)
            raise InputError(
                f"the cache has {len(self.layers)} layers of {shapes} heads and channels, "
                f"and the model {config.layers} of {need}: make it with Cache.empty(model.config, batch, size)"
            )

    def placed(self, new: jax.Array | None, count: int) -> jax.Array | None:
        """The keys' positions once `count` tokens have come, at positions `new` if any are given.

        Errors: `InputError` where there is no room for them, or positions are given and none are kept, or the reverse.
        """
        # Past the end an update would be moved back and overwrite what is there. Where the length is traced, the layers
        # mark what has no room.
        known = not isinstance(self.length, core.Tracer)
        room = self.size - count
        if known and not 0 <= int(self.length) <= room:
            raise InputError(
                f"the cache holds {self.size} tokens, {self.length} of them taken, and got {count} more: "
                "make it larger, Cache.empty(config, batch, size)"
            )
        if self.positions is None and new is None:
            return None
        if self.positions is None or new is None:
            have = "keeps positions and got none"
            if new is not None:
                have = "keeps no positions and got some"
            raise InputError(
                f"the cache {have}: make it with Cache.empty(..., positions=True) where tokens may stand "
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

    def extended(self, layers: tuple[KeysValues, ...], tokens: Tokens) -> Cache:
        """The cache after the queries of a call, with the keys and values of each layer."""
        positions = None
        if self.positions is not None:
            positions = jnp.broadcast_to(tokens.k_positions, self.positions.shape)
        length = self.length + tokens.queries
        return replace(self, layers=layers, length=length, positions=positions)


jax.tree_util.register_dataclass(Cache, data_fields=["layers", "length", "positions"], meta_fields=[])
