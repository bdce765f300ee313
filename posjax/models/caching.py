"""Caches for a model: how they begin, and how a step is held to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import core

from posjax.arguments import whole
from posjax.attention import Favor
from posjax.attention.linear_attention import empty_state
from posjax.attention.over_cache import kept
from posjax.errors import InputError
from posjax.models.architecture import Architecture
from posjax.models.attention_layer import AttentionLayer
from posjax.models.block import Block
from posjax.models.cache import Cache, Entry
from posjax.models.compute import Compute
from posjax.models.given import given_memory
from posjax.models.memory import Memory
from posjax.models.parts import Attention, LinearAttention, Sublayer, sizes
from posjax.models.preparing import PreparedLayers
from posjax.models.windows import slots_of


@dataclass(frozen=True)
class Room:
    """What a cache is to hold: `size` tokens of `rows` rows, at positions of their own with `positions`."""

    rows: int
    size: int
    positions: bool = False
    memory: Memory | None = None


def empty_cache(architecture: Architecture, compute: Compute, blocks: Sequence[Block], room: Room) -> Cache:
    """A cache without tokens, for the blocks of the decoder; the keys of an encoder's memory are made here."""
    rows = whole(room.rows, "batch")
    size = whole(room.size, "size", least=1)
    _check_memory(architecture, room)
    # In the order of blocks and sublayers, as a pass reads and writes them.
    layers = []
    for block in blocks:
        entries = []
        for name, sublayer in zip(block.names, block.config.sublayers, strict=True):
            module = getattr(block, name)
            entries.append(_entry(sublayer, module, architecture.width, compute, room))
        layers.append(tuple(entries))
    return Cache(tuple(layers), 0, _positions(architecture, room), room.memory, rows, size)


def _positions(architecture: Architecture, room: Room) -> jax.Array | None:
    if not room.positions:
        return None
    coordinates = max(encoding.coordinates for encoding, _ in architecture.main_stack.encodings(architecture.width))
    where: tuple[int, ...] = (room.rows, room.size)
    # A single coordinate has no axis of its own: such positions are text's.
    if coordinates > 1:
        where = (*where, coordinates)
    return jnp.zeros(where, jnp.int32)


def _entry(sublayer: Sublayer, module: Any, width: int, compute: Compute, room: Room) -> Entry:
    """What one sublayer keeps before the first token."""
    # Arrays of its own: a cache that is donated may hold none of them twice.
    if isinstance(sublayer, Attention):
        return _keys_values(sublayer, module, width, compute, room)
    if not isinstance(sublayer, LinearAttention):
        return None
    _, K, H = sizes(sublayer, width)
    letters = {"B": room.rows, "K": K, "M": H, "U": H}
    if isinstance(sublayer.features, Favor):
        letters["M"] = sublayer.features.features
    return empty_state(letters)


def _keys_values(sublayer: Attention, module: AttentionLayer, width: int, compute: Compute, room: Room) -> Entry:
    if sublayer.keys_from == "memory":
        assert room.memory is not None  # An architecture that reads one has been refused without.
        return kept(*module.keys_values(room.memory.stream))
    _, K, H = sizes(sublayer, width)
    shape = (room.rows * K, slots_of(sublayer.mask, room.size), H)
    keys = jnp.zeros(shape, compute.dtype)
    values = jnp.zeros(shape, compute.dtype)
    return keys, values


def _check_memory(architecture: Architecture, room: Room) -> None:
    if architecture.decoder is None:
        raise InputError("a cache is for a decoder, and the architecture is an encoder alone: call the model itself")
    reads = architecture.encoder is not None
    if reads and room.memory is None:
        raise InputError(
            "the decoder reads an encoder's memory: make the cache with memory=model.encode(source), of which it holds "
            "the keys"
        )
    if not reads and room.memory is not None:
        raise InputError("memory was given and no layer of the decoder reads one: leave it out")
    if not isinstance(room.positions, bool):
        raise InputError(
            f"cache got positions={room.positions!r:.80}: needed is True where tokens may stand anywhere, else False; "
            "where they stand, prepare is told"
        )
    if room.memory is None:
        return
    memory = given_memory(room.memory, architecture.width)
    if memory.rows != room.rows:
        raise InputError(f"the memory has {memory.rows} rows and the cache {room.rows}: encode as many rows")


def check_cache(architecture: Architecture, cache: Any, memory: Any = None) -> Memory | None:
    """The memory that a cache holds the keys of.

    Errors: `InputError` for a cache that was made for another model, or is changed, and for another memory beside it.
    """
    if not isinstance(cache, Cache):
        raise InputError(f"cache is {cache!r:.80}: needed is one that model.cache(batch, size) made")
    if memory is not None and memory is not cache.memory:
        raise InputError(
            "memory was given beside a cache, which holds the keys of its own: leave it out, or make the cache with "
            "model.cache(..., memory=memory)"
        )
    _check_positions(cache)
    _check_read(architecture, cache)
    stack = architecture.main_stack
    # By shapes: what a cache of another model holds would be read in silence.
    need = [_wanted(stack.layer(i).sublayers, architecture.width, cache) for i in range(stack.layers)]
    have = [[_shapes(entry) for entry in layer] for layer in cache.layers]
    if have == need:
        return cache.memory
    if len(have) != len(need):
        what = f"{len(have)} layers, and the model {len(need)}"
    else:
        at = next(i for i in range(len(need)) if have[i] != need[i])
        what = f"keys of shapes {have[at]} in layer {at}, and the model {need[at]}"
    raise InputError(f"the cache has {what}: make it with model.cache(batch, size)")


def keeps_all(architecture: Architecture, cache: Cache) -> bool:
    """Whether every layer keeps all tokens that came: no window of them, and no sums."""
    for layer in architecture.main_stack.pattern:
        for sublayer in layer.sublayers:
            if isinstance(sublayer, LinearAttention):
                return False
            if not isinstance(sublayer, Attention) or sublayer.keys_from == "memory":
                continue
            if slots_of(sublayer.mask, cache.size) != cache.size:
                return False
    return True


def _check_read(architecture: Architecture, cache: Cache) -> None:
    if isinstance(cache.begun, core.Tracer) or isinstance(cache.read, core.Tracer):
        return  # The stream is marked: see `Cache.held`.
    if cache.begun != int(cache.read) and not keeps_all(architecture, cache):
        raise InputError(
            f"the cache has read {cache.read} tokens and its length is {cache.length}: layers that keep a window, or "
            "sums, cannot be taken back; keep the cache of the step to go on from, or begin anew"
        )


def _check_positions(cache: Cache) -> None:
    at = cache.positions
    if at is None:
        return
    is_whole = hasattr(at, "dtype") and jnp.issubdtype(at.dtype, jnp.integer)
    if not is_whole or at.shape[:2] != (cache.rows, cache.size):
        raise InputError(
            f"the cache has positions {at!r:.80}: needed are integers [{cache.rows}, {cache.size}], as "
            "model.cache(..., positions=True) makes them"
        )


def _wanted(sublayers: tuple[Sublayer, ...], width: int, cache: Cache) -> list[Any]:
    wanted: list[Any] = []
    for sublayer in sublayers:
        if not isinstance(sublayer, Attention):
            wanted.append(None)
            continue
        _, K, H = sizes(sublayer, width)
        held = slots_of(sublayer.mask, cache.size)
        if sublayer.keys_from == "memory":
            held = 0
            # The cache of a model that reads none has no keys of one.
            if cache.memory is not None:
                held = cache.memory.tokens
        wanted.append((cache.rows * K, held, H))
    return wanted


def _shapes(entry: Entry) -> Any:
    """The shape of what is kept where it is keys, else nothing: linear attention checks its own state."""
    # Keys stand for values, which have their shape.
    if isinstance(entry, tuple):
        keys, values = entry
        for array in (keys, values):
            if not jnp.issubdtype(array.dtype, jnp.floating):
                raise InputError(
                    f"the cache has keys and values of {array.dtype}: needed are floats, as they were made"
                )
        return tuple(keys.shape)
    return None


def check_step(tokens: jax.Array, prepared: Any, cache: Any) -> None:
    """Holds what was prepared to the tokens and the cache of one step: that of another would be read in silence.

    What is traced, as the length of a cache within a loop, cannot be compared here.
    """
    if not isinstance(prepared, PreparedLayers):
        raise InputError(f"prepared is {prepared!r:.80}: needed is what model.prepare(...) gives for these tokens")
    if cache is not None and not isinstance(cache, Cache):
        raise InputError(f"cache is {cache!r:.80}: needed is one that model.cache(batch, size) made")
    B, T = tokens.shape
    where = prepared.tokens
    rows = 1
    if where.q_positions.ndim > 1:
        rows = where.q_positions.shape[0]
    keys, begun = T, 0
    if cache is not None:
        keys, begun = cache.size, cache.begun
        if cache.rows != B:
            raise InputError(f"the cache has {cache.rows} rows and the tokens {B}: make it with model.cache({B}, size)")
    fits = where.queries == T and where.keys == keys and rows in (1, B)
    if isinstance(where.q_offset, int) and isinstance(begun, int):
        fits = fits and where.q_offset == begun
    if not fits:
        raise InputError(
            f"what was prepared is for {where.queries} tokens of {rows} rows from {where.q_offset} on among "
            f"{where.keys} keys, and this step has {T} of {B} from {begun} on among {keys}: call "
            f"model.prepare({T}, ..., cache=cache) anew for each step, and give prepare and hidden the same cache"
        )
