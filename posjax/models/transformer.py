"""One transformer for every architecture, in Flax NNX: tokens and where they stand, to logits."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import core

from posjax.arguments import LARGEST, integers, narrowed, one_key, whole
from posjax.attention import Full, Mask
from posjax.encodings.arrays import answered
from posjax.encodings.base import Encoding, Params
from posjax.encodings.traits import moves_tokens
from posjax.errors import InputError
from posjax.mesh import explicit_axes, spec_of, split_here
from posjax.models.architecture import Architecture, StackName
from posjax.models.attention_layer import Probe
from posjax.models.block import Block
from posjax.models.cache import Cache
from posjax.models.caching import Room, check_cache, check_step, empty_cache, keeps_all
from posjax.models.compute import COMPUTE, Compute
from posjax.models.explicit import by_compiler, expect_whole, memory_specs
from posjax.models.given import (
    expect_length,
    given_real,
    given_types,
    readable,
    real_tokens,
    stream_of,
    without_padding,
)
from posjax.models.looping import Training, looped, stacked, through
from posjax.models.memory import Memory
from posjax.models.modules import NormLayer, TokenEmbedding, dropped, rowwise
from posjax.models.output import OutputLayer
from posjax.models.parameters import EncodingParams
from posjax.models.plans import plan
from posjax.models.preparing import Constants, Pass, PreparedLayers, prepare
from posjax.positions import check, contiguous

ALL = Full()
DROPS = 1
"""Folded into a call's key for what is dropped, which then has a key of its own."""
MOVES = 2**16
"""Folded into it for where an encoder's tokens are drawn: far from the numbers of what drops."""


def build(architecture: Architecture, vocabulary: int, seed: int, compute: Compute = COMPUTE) -> Transformer:
    """The module of an architecture with initial parameters, a function of the seed.

    >>> from posjax.models.presets import decoder
    >>> model = build(decoder(layers=1, width=16, heads=2), vocabulary=11, seed=0)
    >>> model(jnp.zeros((1, 5), jnp.int32)).shape
    (1, 5, 11)
    """
    if not isinstance(architecture, Architecture):
        raise InputError(f"build got {architecture!r:.80}: needed is an Architecture, such as decoder()")
    if not isinstance(compute, Compute):
        raise InputError(f"build got compute={compute!r:.80}: needed is a Compute, such as Compute(dtype='bfloat16')")
    vocabulary = whole(vocabulary, "vocabulary", least=1)
    # nnx makes a key of a known number alone: that of a traced one, as in a batch of models, is made here.
    held = jax.random.key(seed) if isinstance(seed, core.Tracer) else whole(seed, "seed", least=-LARGEST)
    return Transformer(architecture, vocabulary, nnx.Rngs(params=held), compute)


class Transformer(nnx.Module):
    """Tokens to logits. Make it with `build(architecture, vocabulary, seed)`.

    What belongs to a stack is held under the stack's name: `blocks["decoder"][0]`, `encodings["decoder"]["0"]`.
    """

    def __init__(self, architecture: Architecture, vocabulary: int, rngs: nnx.Rngs, compute: Compute = COMPUTE):
        self.architecture = architecture
        self.compute = compute
        width = architecture.width
        config = architecture.embedding
        self.embedding = TokenEmbedding(vocabulary, width, config.deviation, rngs, dtype=compute.dtype)
        types, embedding_norm = None, None
        if config.types:
            drawn = nnx.initializers.normal(config.deviation)(rngs.params(), (config.types, width), jnp.float32)
            types = nnx.Param(drawn, letters="_D")
        if config.norm is not None:
            embedding_norm = NormLayer(config.norm, {"D": width}, rngs, dtype=compute.dtype)
        self.token_types = types
        self.embedding_norm = embedding_norm
        blocks, encodings = {}, {}
        norms = {}
        for name, stack in architecture.stacks.items():
            layers = plan(stack, width)
            learned = {}
            # Before the blocks, an order of draws that a seed's model depends on.
            for owner, (encoding, sizes) in layers.owners.items():
                learned[owner] = EncodingParams(encoding.init(rngs.params(), sizes), sizes)
            encodings[name] = nnx.Dict(learned)
            made = [Block(architecture, stack, i, layers, compute, rngs) for i in range(stack.layers)]
            blocks[name] = nnx.List(made)
            if stack.final_norm is not None:
                norms[name] = NormLayer(stack.final_norm, {"D": width}, rngs, dtype=compute.dtype)
        self.blocks = nnx.Dict(blocks)
        self.encodings = nnx.Dict(encodings)
        self.norms = nnx.Dict(norms)
        self.head = OutputLayer(architecture.output, width, vocabulary, compute, rngs)
        # What a reader of others' checkpoints keeps, to write the model again as it was.
        self.published: Hashable | None = None
        # For each stack whose layers are stacked the turns that are alike and their layers, by `folding.fold`.
        self.folded: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = ()

    @property
    def vocabulary(self) -> int:
        return self.embedding.num_embeddings

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        *,
        mask: Mask = ALL,
        memory: Memory | None = None,
        types: jax.Array | None = None,
        constants: Constants | None = None,
        key: jax.Array | None = None,
        length: int | None = None,
    ) -> jax.Array:
        """Logits for each token, `tokens [B, T]` -> float32 `[B, T, V]`; or of each row's classes, `[B, C]`.

        `positions` are `[T]` or `[B, T]`, by default 0, 1, 2, …; a negative one marks padding, whose logits mean
        nothing. `mask` is intersected with those of the architecture: `Segments(ids)` keeps packed documents apart.
        `memory` is what `encode` made of the source, for a decoder that reads one. `types [B, T]` are the kinds of
        tokens, 0 by default. `length` is that of the context, for an encoding that depends on it, by default one more
        than the largest position. `constants`, by `constants_of(architecture)`, stand in for the encodings' own, from
        an architecture of this structure; as an argument of a jitted function they cost no compilation. A `key` makes
        the encoding move the tokens (randomised positions) and drops what the architecture says; without one, nothing
        is random.
        """
        tokens = self._checked(tokens)
        if key is not None:
            one_key(key, "the model got key")
        given = Pass(tokens.shape[1], positions, mask, constants, length, None, memory)
        if explicit_axes():
            more: dict[str, Any] = {"mask": mask, "memory": memory, "types": types}
            more |= {"constants": constants, "key": key, "length": length}
            return by_compiler(self, "__call__", spec_of(tokens), tokens, positions, **more)
        name = self.architecture.main
        stream, prepared = self._stream(name, tokens, given, types, key)
        if self.architecture.output.classes is None:
            return self.logits(stream, may_end=prepared.may_end)
        # Padding has no part in what a row is about.
        real = real_tokens(prepared.void, mask, tokens.shape)
        pooled = self.head.pooled(stream, real)
        return self.logits(pooled, may_end=prepared.may_end)[:, 0]

    def encode(
        self,
        source: jax.Array,
        positions: jax.Array | None = None,
        *,
        real: jax.Array | None = None,
        mask: Mask = ALL,
        types: jax.Array | None = None,
        constants: Constants | None = None,
        key: jax.Array | None = None,
        length: int | None = None,
    ) -> Memory:
        """What the encoder makes of a source `[B, S]`, for the decoder to read; `real [B, S]` is false for padding."""
        if self.architecture.encoder is None:
            raise InputError("encode: the architecture has no encoder; call the model itself")
        source = self._checked(source)
        if key is not None:
            one_key(key, "encode got key")
        seen = mask
        if real is not None:
            real = given_real(real, source.shape, "real")
            expect_length(encodings_of(self.architecture, "encoder").values(), length)
            seen = without_padding(real, mask)
        if explicit_axes():
            kept = real if real is not None else real_tokens(None, mask, source.shape)
            more = {"real": kept, "mask": mask, "types": types, "constants": constants, "key": key, "length": length}
            return by_compiler(self, "encode", memory_specs(source, positions, kept), source, positions, **more)
        given = Pass(source.shape[1], positions, seen, constants, length)
        stream, prepared = self._stream("encoder", source, given, types, key)
        # What the encoder hides, by a negative position too, means nothing to whoever would read it.
        held = real_tokens(prepared.void, seen, source.shape)
        if prepared.void is not None:
            positions = prepared.tokens.q_positions
        return Memory(stream, positions, held)

    def _stream(
        self, name: StackName, tokens: jax.Array, given: Pass, types: jax.Array | None, key: jax.Array | None
    ) -> tuple[jax.Array, PreparedLayers]:
        at = self._moved(name, tokens, given.positions, key)
        prepared = self._prepare(name, replace(given, positions=at))
        real = real_tokens(prepared.void, given.mask, tokens.shape)
        tokens = readable(tokens, self.vocabulary, real)
        if types is not None:
            types = readable(types, self.architecture.embedding.types, real)
        stream, _, _ = self._through(name, tokens, prepared, types=types, memory=given.memory, key=key)
        return stream, prepared

    def _checked(self, tokens: jax.Array) -> jax.Array:
        tokens = integers(tokens, "tokens", (2,), "needed are integers [B, T]")
        self.check_tokens(tokens)
        return narrowed(jnp.asarray(tokens))

    def _moved(
        self, name: StackName, tokens: jax.Array, positions: jax.Array | None, key: jax.Array | None
    ) -> jax.Array | None:
        """Where the encodings put the tokens, which have to do with a key alone."""
        encodings = encodings_of(self.architecture, name)
        coordinates = max(encoding.coordinates for encoding in encodings.values())
        if positions is not None:
            batch, count = tokens.shape
            positions = check(positions, "positions", coordinates, (batch, count))
        moving = [(owner, encoding) for owner, encoding in encodings.items() if moves_tokens(encoding)]
        if key is None or not moving:
            return positions
        if positions is None:
            positions = contiguous(tokens.shape[1])
        if positions.ndim == 1:
            positions = jnp.broadcast_to(positions, tokens.shape)
        # All layers see the same tokens, so there is one that moves them at most.
        owner, encoding = moving[0]
        params = self.encodings[name][owner].get_value()
        # As what is dropped: the encoder's draws are not the decoder's.
        if name != self.architecture.main:
            key = jax.random.fold_in(key, MOVES)
        never_negative = jnp.maximum(positions, 0)
        batch, count = tokens.shape
        moved = check(encoding.move(params, never_negative, key), "moved positions", coordinates, (batch, count))
        return jnp.where(positions < 0, positions, moved)  # Padding stays what it is.

    def prepare(
        self,
        count: int,
        positions: jax.Array | None = None,
        *,
        mask: Mask = ALL,
        constants: Constants | None = None,
        cache: Cache | None = None,
        length: int | None = None,
        memory: Memory | None = None,
    ) -> PreparedLayers:
        """What the layers share, for `count` tokens that follow those in the cache, if there is one.

        Errors: `InputError` for a mask that lets a causal encoding look ahead, positions of another number of tokens,
        positions beside a cache that keeps none, and a cache without room.
        """
        count = whole(count, "count")
        if cache is not None:
            memory = check_cache(self.architecture, cache, memory)
        return self._prepare(self.architecture.main, Pass(count, positions, mask, constants, length, cache, memory))

    # `nnx.tabulate` shows the arguments of every public call, and cannot show a mask, nor a value without its name.
    def _prepare(self, name: StackName, given: Pass) -> PreparedLayers:
        held = self.encodings[name]
        # Not by `items`, which `nnx.tabulate` takes for a method of a layer.
        owners = encodings_of(self.architecture, name)
        learned: dict[str, Params] = {owner: held[owner].get_value() for owner in owners}
        return prepare(self.architecture, name, learned, given)

    def cache(self, batch: int, size: int, *, positions: bool = False, memory: Memory | None = None) -> Cache:
        """A cache for `size` tokens of `batch` rows; with `positions`, tokens may be anywhere (left padding).

        `memory`: what the decoder reads of an encoder, whose keys and values are made here, once.
        """
        room = Room(batch, size, positions, memory)
        return empty_cache(self.architecture, self.compute, self.blocks[self.architecture.main], room)

    def hidden(
        self,
        tokens: jax.Array,
        prepared: PreparedLayers,
        cache: Cache | None = None,
        probe: Probe | None = None,
        memory: Memory | None = None,
    ) -> tuple[jax.Array, Cache | None, list[Any]]:
        """The last layer's stream `[B, T, D]`, the cache with these tokens, and what a probe saw in each attention."""
        name = self.architecture.main
        tokens = narrowed(jnp.asarray(integers(tokens, "tokens", (2,), "needed are integers [B, T]")))
        expect_whole(tokens, "hidden")
        return self._through(name, tokens, prepared, cache=cache, probe=probe, memory=memory)

    def _through(
        self,
        name: StackName,
        tokens: jax.Array,
        prepared: PreparedLayers,
        *,
        cache: Cache | None = None,
        probe: Probe | None = None,
        memory: Memory | None = None,
        types: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache | None, list[Any]]:
        """The stream of one stack after its last layer and final norm."""
        check_step(tokens, prepared, cache)
        if key is not None:
            # The encoder's draws are not the decoder's.
            key = jax.random.fold_in(key, DROPS + list(self.architecture.stacks).index(name))
        x_BTD = self._embedded(name, tokens, prepared, types, key)
        if cache is not None:
            x_BTD = cache.held(x_BTD, keeps_all(self.architecture, cache))
        # Blocks need no more of a memory: where its tokens stand was prepared.
        stream = stream_of(memory, self.architecture.width)
        blocks = self.blocks[name]
        # Split for all layers at once, so that a loop over them draws what layers one by one do.
        keys = None
        if key is not None and self.architecture.dropout.drops:
            keys = jax.random.split(key, self.architecture.stacks[name].layers)
        # With a cache or a probe nothing is trained, and each layer gives more than its stream.
        plain = cache is None and probe is None
        if self.folded and not plain:
            raise InputError("the model's layers are stacked for training: unfold(model) has each of them again")
        if self.folded or (self.compute.loops and plain):
            x_BTD = self._looped(name, x_BTD, Training(prepared, stream, keys))
            return self._normed(name, x_BTD, prepared), None, []
        seen, layers = [], []
        for i, block in enumerate(blocks):
            entries, own_key = None, None
            if cache is not None:
                entries = cache.layers[i]
            if keys is not None:
                own_key = keys[i]
            x_BTD, entries, saw = block(
                x_BTD, prepared=prepared, entries=entries, memory=stream, key=own_key, probe=probe
            )
            layers.append(entries)
            seen += saw
        if cache is not None:
            cache = cache.extended(tuple(layers), prepared.tokens.queries, prepared.tokens.k_positions)
        return self._normed(name, x_BTD, prepared), cache, seen

    def _looped(self, name: StackName, x_BTD: jax.Array, given: Training) -> jax.Array:
        """The stream after the layers of a stack, by a loop over those that are alike."""
        blocks = self.blocks[name]
        if self.folded:
            return through(stacked(blocks, dict(self.folded)[name]), x_BTD, given, self.compute)
        pattern = self.architecture.stacks[name].pattern
        return looped(blocks, x_BTD, given, len(pattern), self.compute)

    def _normed(self, name: StackName, x_BTD: jax.Array, prepared: PreparedLayers) -> jax.Array:
        if name not in self.norms:
            return x_BTD
        return rowwise(self.norms[name], x_BTD, prepared.may_end)

    def _embedded(
        self, name: StackName, tokens: jax.Array, prepared: PreparedLayers, types: jax.Array | None, key: Any
    ) -> jax.Array:
        """The first layer's stream `[B, T, D]`: tokens, their types, and what encodings add."""
        config = self.architecture.embedding
        # An index below 0 would count from the end of the table. Past it, a traced token that is none comes out as NaN.
        indices = jnp.where(tokens < 0, self.vocabulary, tokens)
        x_BTD = self.embedding(indices)
        if config.multiplier != 1:
            x_BTD = x_BTD * config.multiplier
        types = given_types(types, tokens.shape, config.types)
        if self.token_types is not None and types is not None:
            table = self.token_types.get_value().astype(x_BTD.dtype)
            x_BTD = x_BTD + table.at[types].get(mode="fill", fill_value=jnp.nan)
        # Once for each encoding, however many layers take it.
        for kind in prepared.embedding:
            call = prepared.kinds[kind]
            answer = call.encoding.embed(call.params, x_BTD, call.tokens.q_positions)
            x_BTD = answered(call.encoding, "embed", answer, x_BTD.shape, x_BTD)
        if self.embedding_norm is not None:
            x_BTD = rowwise(self.embedding_norm, x_BTD, prepared.may_end)
        if key is not None:
            # The key itself is split for the layers, and what is drawn from it would depend on theirs.
            key = jax.random.fold_in(key, self.architecture.stacks[name].layers)
        return dropped(split_here(x_BTD, "BTD"), self.architecture.dropout.embedding, key)

    def check_tokens(self, tokens: jax.Array) -> None:
        """Errors: `InputError` for known tokens outside the vocabulary."""
        size = self.vocabulary
        if isinstance(tokens, core.Tracer) or not tokens.size:
            return
        known = np.asarray(tokens)
        if not 0 <= known.min() <= known.max() < size:
            raise InputError(
                f"tokens reach from {known.min()} to {known.max()}: the vocabulary has {size}, 0 to {size - 1}; give "
                "padding a token of it, and keep it apart by the mask"
            )

    def logits(self, x_BTD: jax.Array, may_end: bool = False) -> jax.Array:
        """The stream to float32 logits `[B, T, V]`; `may_end`: rows of NaN are kept from the head's gradient."""
        return self.head(x_BTD, embedding=self.embedding, may_end=may_end)


# No method: `nnx.tabulate` asks every public one for arrays.
def encodings_of(architecture: Architecture, name: StackName) -> dict[str, Encoding]:
    """Each encoding of a stack that learns for itself, by its name."""
    owners = plan(architecture.stacks[name], architecture.width).owners
    return {owner: encoding for owner, (encoding, _) in owners.items()}
