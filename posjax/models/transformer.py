"""A decoder-only transformer in Flax NNX: tokens and where they stand, to logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import core

from posjax import attention
from posjax.arguments import LARGEST, integers, whole
from posjax.attention import Causal, Mask, Tokens, as_mask, meshes
from posjax.attention.given_masks import held
from posjax.attention.prepared import check_causal
from posjax.encodings.base import Params
from posjax.encodings.parameters import given_constants
from posjax.encodings.traits import layers, moves_tokens, of_layer
from posjax.errors import InputError
from posjax.models.cache import Cache
from posjax.models.decoder import Decoder, dims
from posjax.models.layers import Block, PreparedLayers, Probe, dense, norm, rowwise
from posjax.models.parameters import EncodingParams
from posjax.models.recomputing import recomputing
from posjax.positions import check, contiguous


def build(config: Decoder, vocabulary: int, seed: int) -> Transformer:
    """The module of a configuration with initial parameters, a function of the seed.

    >>> model = build(Decoder(layers=1, model_size=16, heads=2), vocabulary=11, seed=0)
    >>> model(jnp.zeros((1, 5), jnp.int32)).shape
    (1, 5, 11)
    """
    if not isinstance(config, Decoder):
        raise InputError(f"build got {config!r:.80}: needed is a configuration, such as Decoder()")
    vocabulary = whole(vocabulary, "vocabulary", least=1)
    if not isinstance(seed, core.Tracer):
        seed = whole(seed, "seed", least=-LARGEST)
    return Transformer(config, vocabulary, nnx.Rngs(params=seed))


class Transformer(nnx.Module):
    """Tokens to logits. Make it with `build(Decoder(...), vocabulary, seed)`."""

    def __init__(self, config: Decoder, vocabulary: int, rngs: nnx.Rngs):
        self.config = config
        self.embedding = nnx.Embed(
            vocabulary,
            config.model_size,
            dtype=jnp.dtype(config.dtype),
            param_dtype=jnp.float32,
            rngs=rngs,
            embedding_init=nnx.initializers.normal(config.embedding_scale),
        )
        learned = config.encoding.init(rngs.params(), dims(config))
        self.encoding_params = EncodingParams(learned)
        blocks = [Block(config, rngs) for _ in range(config.layers)]
        self.blocks = nnx.List(blocks)
        self.norm = norm(config, rngs)
        head = None
        if not config.tied:
            width = config.model_size
            head = dense((width, vocabulary), width**-0.5, config, rngs)
        # Assigned once: Flax decides at the first assignment whether an attribute is data.
        self.head = head

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        *,
        mask: Mask = Causal(),
        constants: Params = None,
        key: jax.Array | None = None,
        length: int | None = None,
    ) -> jax.Array:
        """Logits for each next token: `tokens [B, T]` -> float32 `[B, T, V]`.

        `positions` are `[T]` or `[B, T]`, by default 0, 1, 2, …; a negative one marks padding, whose logits mean
        nothing. `length` is that of the context, for an encoding that depends on it, by default one more than the
        largest position. `constants` stand in for the encoding's own, from another value of its structure:
        `Rope(schedule=Interpolation(2.0)).constants(dims)` in a model trained with `Rope()`, say; as an argument of a
        jitted function they cost no compilation. A `key` makes the encoding move the tokens (randomised positions);
        without one they stay where they are.
        """
        tokens = integers(tokens, "tokens", (2,), "needed are integers [B, T]")
        self.check_tokens(tokens)
        tokens = jnp.asarray(tokens).astype(jnp.int32)
        if meshes.explicit_axes():
            return self._by_compiler(tokens, positions, mask, constants, key, length)
        at = self._moved(tokens, positions, key)
        _, count = tokens.shape
        prepared = self._prepare(count, at, mask, constants, None, length)
        stream, _, _ = self.hidden(tokens, prepared=prepared)
        return self.logits(stream, may_end=prepared.of(0).may_end)

    def _moved(self, tokens: jax.Array, positions: jax.Array | None, key: jax.Array | None) -> jax.Array | None:
        """Where the encoding puts the tokens, which have to do with a key alone."""
        encoding = self.config.encoding
        if positions is not None:
            batch, count = tokens.shape
            positions = check(positions, "positions", encoding.coordinates, (batch, count))
        if key is None or not moves_tokens(encoding):
            return positions
        if positions is None:
            positions = contiguous(tokens.shape[1])
        positions = jnp.broadcast_to(positions, tokens.shape)
        params = self.encoding_params.get_value()
        never_negative = jnp.maximum(positions, 0)
        moved = encoding.move(params, never_negative, key)
        return jnp.where(positions < 0, positions, moved)  # Padding stays what it is.

    def _by_compiler(
        self,
        tokens: jax.Array,
        positions: jax.Array | None,
        mask: Mask,
        constants: Params,
        key: jax.Array | None,
        length: int | None,
    ) -> jax.Array:
        """The logits on a mesh of Explicit axes, which lie as the tokens do; within, the compiler places everything."""
        graph, state = nnx.split(self)

        def run(state: Any, tokens: jax.Array, positions: Any, mask: Mask, constants: Params, key: Any) -> jax.Array:
            model: Transformer = nnx.merge(graph, state)
            return model(tokens, positions, mask=mask, constants=constants, key=key, length=length)

        spec = meshes.spec_of(tokens)
        return meshes.by_compiler(run, spec, state, tokens, positions, mask, constants, key)

    def prepare(
        self,
        count: int,
        positions: jax.Array | None = None,
        *,
        mask: Mask = Causal(),
        constants: Params = None,
        cache: Cache | None = None,
        length: int | None = None,
    ) -> PreparedLayers:
        """What the layers share, for `count` tokens that follow those in the cache, if there is one.

        Errors: `InputError` for a mask that lets a causal encoding look ahead, positions of another number of tokens,
        positions beside a cache that keeps none, and a cache without room.
        """
        return self._prepare(count, positions, mask, constants, cache, length)

    # `nnx.tabulate` shows the arguments of every public call, and cannot show a mask, nor a value without its name.
    def _prepare(
        self,
        count: int,
        positions: jax.Array | None,
        mask: Mask,
        constants: Params,
        cache: Cache | None,
        length: int | None,
    ) -> PreparedLayers:
        encoding = self.config.encoding
        sizes = dims(self.config)
        mask = self._held(as_mask(mask), count, cache)
        at = _checked(positions, count, encoding.coordinates)
        if cache is None:
            tokens = Tokens.at(count, count, 0, at, at)
        else:
            k_positions = cache.placed(at, count)
            tokens = Tokens.at(count, cache.size, cache.begun, at, k_positions)
        constants = self._constants(constants, length, tokens, cache)
        learned = self.encoding_params.get_value()
        joined = encoding.join(learned, constants)
        # Padding, at a negative position, is computed elsewhere: its marks would reach every weight's gradient.
        void, inside = None, tokens
        if at is not None:
            void = _is_padding(at)
            never_negative = jnp.maximum(at, 0)
            inside = replace(tokens, q_positions=never_negative)
        # Once for all layers: angles and tables of the tokens' positions.
        ready = encoding.prepare(joined, inside.q_positions, sizes)
        kinds = {}
        # As many as take turns, however many layers the model has.
        for layer in range(layers(encoding)):
            own, raw = of_layer(encoding, layer, joined)
            _, params = of_layer(encoding, layer, ready)
            call = attention.gather(own, raw, sizes, tokens, mask)
            kinds[str(layer)] = replace(call, tokens=inside, params=params, void=void)
        return PreparedLayers(ready, kinds)

    def _constants(self, given: Params, length: int | None, tokens: Tokens, cache: Cache | None) -> Params:
        """The encoding's constants for a context: as given, or at the length that the tokens reach."""
        encoding = self.config.encoding
        sizes = dims(self.config)
        if given is not None:
            given_constants(encoding, given, sizes)
            return given
        q_offset = tokens.q_offset
        if length is None and not isinstance(q_offset, int) and encoding.length_dependent:
            raise InputError(
                f"{encoding!r} depends on the length of the context, and how full the cache is is known at run "
                "time only: pass length=, or constants="
            )
        end = tokens.k_positions
        if tokens.contiguous:
            end = tokens.keys
            if cache is not None and isinstance(q_offset, int):
                end = q_offset + tokens.queries  # A roomy cache is no longer context.
        context = attention.context_length(encoding, length, end)
        return encoding.at_length(context).constants(sizes)

    def _held(self, mask: Mask, count: int, cache: Cache | None) -> Mask:
        """The mask, held to the encoding and to a cache."""
        check_causal(self.config.encoding, mask)
        if cache is None:
            return mask
        cache.fits(self.config)
        sizes = {"B": cache.rows, "T": count, "S": cache.size}
        mask = held(mask, sizes, cache.begun)
        if not mask.causal:
            raise InputError(
                f"the mask {mask!r} lets tokens look ahead, and a cache has none there yet: intersect it with Causal()"
            )
        return mask

    def hidden(
        self,
        tokens: jax.Array,
        prepared: PreparedLayers,
        cache: Cache | None = None,
        probe: Probe | None = None,
    ) -> tuple[jax.Array, Cache | None, list[Any]]:
        """The last layer's stream `[B, T, D]`, the cache with these tokens, and what a probe saw in each layer."""
        first = prepared.of(0)
        _check_step(tokens, first, cache)
        # An index below 0 would count from the end of the table. Past it, a traced token that is none comes out as NaN.
        past_the_end = self.embedding.num_embeddings
        indices = jnp.where(tokens < 0, past_the_end, tokens)
        embedded = self.embedding(indices)
        x_BTD = self.config.encoding.embed(prepared.params, embedded, first.tokens.q_positions)
        # With a cache or a probe nothing is trained, and each layer gives more than its stream.
        if self.config.remat and cache is None and probe is None:
            x_BTD = recomputing(self.blocks, x_BTD, prepared)
            unseen = [None] * len(self.blocks)
            normed_BTD = rowwise(self.norm, x_BTD, first.may_end)
            return normed_BTD, None, unseen
        seen, layers = [], []
        for i, block in enumerate(self.blocks):
            cached = None
            if cache is not None:
                cached = cache.layers[i]
            x_BTD, cached, saw = block(x_BTD, prepared=prepared.of(i), cached=cached, probe=probe)
            layers.append(cached)
            seen.append(saw)
        if cache is not None:
            cache = cache.extended(tuple(layers), first.tokens)
        normed_BTD = rowwise(self.norm, x_BTD, first.may_end)
        return normed_BTD, cache, seen

    def check_tokens(self, tokens: jax.Array) -> None:
        """Errors: `InputError` for known tokens outside the vocabulary."""
        size = self.embedding.num_embeddings
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
        head = self.head
        if head is None:
            head = self.embedding.attend
        out = rowwise(head, x_BTD, may_end)
        # Whatever the model's dtype: a softmax and a loss are of float32.
        return out.astype(jnp.float32)


def _checked(positions: jax.Array | None, count: int, coordinates: int) -> jax.Array | None:
    """Positions of `count` tokens, of as many rows as they have: a model learns its batch from the tokens."""
    if positions is None:
        return None
    given = check(positions, "positions", coordinates)
    # Those of all rows at once have no axis for the batch.
    rows = 1
    if given.ndim > 1:
        rows = given.shape[0]
    return check(given, "positions", coordinates, (rows, count))


def _is_padding(positions: jax.Array) -> jax.Array:
    """Which tokens have no position, bool `[T]` or `[B, T]`: all coordinates count, where there are several."""
    if positions.ndim == 3:
        return jnp.any(positions < 0, axis=-1)
    return positions < 0


def _check_step(tokens: jax.Array, prepared: attention.Prepared, cache: Cache | None) -> None:
    """Holds what was prepared to the tokens and the cache of one step: that of another would be read in silence.

    What is traced, as the length of a cache within a loop, cannot be compared here.
    """
    B, T = tokens.shape
    where = prepared.tokens
    rows = 1
    if where.q_positions.ndim > 1:
        rows = where.q_positions.shape[0]
    keys, begun = T, 0
    if cache is not None:
        keys, begun = cache.size, cache.begun
        if cache.rows != B:
            raise InputError(
                f"the cache has {cache.rows} rows and the tokens {B}: make it with Cache.empty(config, {B}, size)"
            )
    fits = where.queries == T and where.keys == keys and rows in (1, B)
    if isinstance(where.q_offset, int) and isinstance(begun, int):
        fits = fits and where.q_offset == begun
    if not fits:
        raise InputError(
            f"what was prepared is for {where.queries} tokens of {rows} rows from {where.q_offset} on among "
            f"{where.keys} keys, and this step has {T} of {B} from {begun} on among {keys}: call "
            f"model.prepare({T}, ..., cache=cache) anew for each step, and give prepare and hidden the same cache"
        )
