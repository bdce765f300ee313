"""A decoder-only transformer in Flax NNX, as a configuration value and the module that it builds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import core

from posjax import attention
from posjax.arguments import integers
from posjax.attention import Causal, Mask, as_mask, meshes
from posjax.attention.dispatch import check_causal
from posjax.attention.masks import held
from posjax.encodings.base import Encoding, Params
from posjax.encodings.parameters import given_constants
from posjax.encodings.rope import Rope
from posjax.errors import InputError
from posjax.fields import check_fields
from posjax.models.cache import Cache
from posjax.models.layers import Block, Pass, Places, Probe, dims, norm
from posjax.models.parameters import EncodingParams
from posjax.positions import check, contiguous

ROPE = Rope()
LARGEST_HEAD = 2**16
"""What an encoding computes for one head is computed at once, on the host."""


@dataclass(frozen=True)
class Decoder:
    """The configuration of a decoder: pre-norm RMSNorm, SwiGLU, grouped-query attention, positions explicit.

    `key_value_heads` and `head_size` default to `heads` and `model_size / heads`; `feed_forward` to 8/3 of the model
    size, rounded up to a multiple of 8. `dtype` is that of the computation; parameters are float32. `embedding_scale`
    is the standard deviation of the initial token embedding. `remat` recomputes each block in the backward pass,
    so that a layer more costs the memory of its input.

    Errors: `InputError` for sizes that do not divide.

    >>> model = Decoder(layers=1, model_size=16, heads=2).build(vocabulary=11, seed=0)
    >>> model(jnp.zeros((1, 5), jnp.int32)).shape
    (1, 5, 11)
    """

    encoding: Encoding = ROPE
    layers: int = 2
    model_size: int = 64
    heads: int = 4
    kv_heads: int | None = None
    head_size: int | None = None
    feed_forward: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    embedding_scale: float = 0.02
    tied: bool = False
    remat: bool = False
    epsilon: float = 1e-6
    backend: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self, positive=("layers", "model_size", "heads", "head_size", "feed_forward"), choices=True)
        if not self.epsilon > 0 or self.embedding_scale < 0:
            raise InputError(
                f"Decoder got epsilon={self.epsilon} and embedding_scale={self.embedding_scale}: needed "
                "are a small positive number, such as 1e-6, and 0 or more"
            )
        if self.head_size is None and self.model_size % self.heads:
            raise InputError(
                f"Decoder got model_size={self.model_size} and heads={self.heads}: needed is a model size "
                "that the heads divide, or an explicit head_size"
            )
        if self.key_value_heads < 1 or self.heads % self.key_value_heads:
            fit = [n for n in range(1, self.heads + 1) if self.heads % n == 0]
            raise InputError(
                f"Decoder got heads={self.heads} and kv_heads={self.kv_heads}: needed is a number of "
                f"key-value heads that divides the query heads, one of {', '.join(map(str, fit))}"
            )
        if self.size_of_head > LARGEST_HEAD:
            raise InputError(
                f"Decoder got model_size={self.model_size}, heads={self.heads} and head_size="
                f"{self.head_size}, heads of {self.size_of_head}: needed is {LARGEST_HEAD} or less"
            )
        attention.known(self.backend)
        self.encoding.constants(dims(self))  # Says now what it would say after minutes: an odd rotary size, say.

    @property
    def key_value_heads(self) -> int:
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def size_of_head(self) -> int:
        return self.model_size // self.heads if self.head_size is None else self.head_size

    @property
    def size_of_feed_forward(self) -> int:
        return -(-self.model_size * 8 // 3 // 8) * 8 if self.feed_forward is None else self.feed_forward

    @property
    def residual_scale(self) -> float:
        """What keeps the stream's variance at 1 at the start, with two additions in each layer."""
        return (2 * self.layers) ** -0.5

    def size(self, vocabulary: int) -> int:
        """The number of parameters, but for norms and what the encoding learns: from the sizes, however large."""
        heads = 2 * (self.heads + self.key_value_heads) * self.size_of_head
        layer = self.model_size * (heads + 3 * self.size_of_feed_forward)
        return self.layers * layer + vocabulary * self.model_size * (1 if self.tied else 2)

    def explain(self, length: int) -> attention.Choice:
        """The backend of a full pass over that many tokens, and why; of the first layer where layers differ."""
        q, k = (
            jax.ShapeDtypeStruct((1, length, n, self.size_of_head), jnp.dtype(self.dtype))
            for n in (self.heads, self.key_value_heads)
        )
        return attention.explain(q, k, encoding=self.encoding, backend=self.backend)

    def build(self, vocabulary: int, seed: int) -> Transformer:
        """The module with initial parameters, a function of the seed."""
        return Transformer(self, vocabulary, nnx.Rngs(params=seed))


class Transformer(nnx.Module):
    """Tokens to logits. Make it with `Decoder(...).build(vocabulary, seed)`."""

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
        self.encoding_params = EncodingParams(config.encoding.init(rngs.params(), dims(config)))
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.norm = norm(config, rngs)
        self.head = (
            None
            if config.tied
            else nnx.Linear(
                config.model_size,
                vocabulary,
                use_bias=False,
                dtype=jnp.dtype(config.dtype),
                param_dtype=jnp.float32,
                kernel_init=nnx.initializers.normal(config.model_size**-0.5),
                rngs=rngs,
            )
        )

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
        largest position. `constants` stand in for the encoding's own, from
        another value of its family: `Rope(schedule=Linear(2.0)).constants(dims)` in a model trained with `Rope()`,
        say; as an argument of a jitted function they cost no compilation. A `key` makes the encoding place the tokens
        (randomised positions); without one they stay where they are.
        """
        tokens = integers(tokens, "tokens", (2,), "needed are integers [B, T]")
        self.check_tokens(tokens)
        tokens = jnp.asarray(tokens).astype(jnp.int32)
        if meshes.explicit_axes():
            return self._by_compiler(tokens, positions, mask, constants, key, length)
        at, encoding = positions, self.config.encoding
        if at is not None:
            at = check(at, "positions", encoding.coordinates, (tokens.shape[0], tokens.shape[1]))
        if key is not None and encoding.moves:
            every = jnp.broadcast_to(contiguous(tokens.shape[1]) if at is None else at, tokens.shape)
            moved = encoding.place(self.encoding_params.get_value(), jnp.maximum(every, 0), key)
            at = jnp.where(every < 0, every, moved)  # Padding is not placed.
        places = self._places(tokens.shape[1], at, mask, constants, None, length)
        return self.logits(self.hidden(tokens, places=places)[0])

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

        return meshes.by_compiler(run, meshes.spec_of(tokens), state, tokens, positions, mask, constants, key)

    def places(
        self,
        count: int,
        positions: jax.Array | None = None,
        *,
        mask: Mask = Causal(),
        constants: Params = None,
        cache: Cache | None = None,
        length: int | None = None,
    ) -> Pass:
        """What the layers share, for `count` tokens that follow those in the cache, if there is one.

        Errors: `InputError` for a mask that lets a causal encoding look ahead, positions of another number of tokens,
        positions beside a cache that keeps none, and a cache without room.
        """
        return self._places(count, positions, mask, constants, cache, length)

    # `nnx.tabulate` shows the arguments of every public call, and cannot show a mask, nor places without their name.
    def _places(
        self,
        count: int,
        positions: jax.Array | None,
        mask: Mask,
        constants: Params,
        cache: Cache | None,
        length: int | None,
    ) -> Pass:
        encoding, sizes = self.config.encoding, dims(self.config)
        q_offset, keys = (0, count) if cache is None else (cache.begun, cache.size)
        mask = self._seen(as_mask(mask), count, cache)
        at = None if positions is None else check(positions, "positions", encoding.coordinates)
        rows = 1 if at is None or at.ndim == 1 else at.shape[0]
        at = None if at is None else check(at, "positions", encoding.coordinates, (rows, count))
        key_at = at if cache is None else cache.placed(at, count)
        if constants is None:
            if length is None and not isinstance(q_offset, int) and encoding.length_dependent:
                raise InputError(
                    f"{encoding!r} depends on the length of the context, and how full the cache is is known at run "
                    "time only: pass length=, or constants="
                )
            reached = q_offset + count if isinstance(q_offset, int) else keys
            reached = attention.context_length(encoding, length, reached, key_at)
            constants = encoding.at_length(reached).constants(sizes)
        else:
            given_constants(encoding, constants, sizes)
        joined = encoding.join(self.encoding_params.get_value(), constants)
        # Padding, at a negative position, is computed elsewhere: its marks would reach every weight's gradient.
        void = None if at is None else jnp.any(at < 0, axis=-1) if at.ndim == 3 else at < 0
        q_at = contiguous(count, q_offset) if at is None else jnp.maximum(at, 0)
        k_at = contiguous(keys) if key_at is None else key_at
        prepared = encoding.prepare(joined, q_at, sizes)
        kinds = []
        for layer in range(encoding.layers):
            (own, raw), (_, ready) = (encoding.of_layer(layer, params) for params in (joined, prepared))
            bias = attention.describe(own, raw, sizes.heads, at, key_at, (count, keys), q_offset)
            kinds.append(Places(own, ready, q_at, bias, mask, q_offset, raw, k_at, void))
        return Pass(prepared, {str(i): kind for i, kind in enumerate(kinds)})

    def _seen(self, mask: Mask, count: int, cache: Cache | None) -> Mask:
        """The mask, held to the encoding and to a cache."""
        check_causal(self.config.encoding, mask)
        if cache is None:
            return mask
        cache.fits(self.config)
        mask = held(mask, {"B": cache.rows, "T": count, "S": cache.size}, cache.begun)
        if not mask.causal:
            raise InputError(
                f"the mask {mask!r} lets tokens look ahead, and a cache has none there yet: intersect it with Causal()"
            )
        return mask

    def hidden(
        self, tokens: jax.Array, places: Pass, cache: Cache | None = None, probe: Probe | None = None
    ) -> tuple[jax.Array, Cache | None, list[Any]]:
        """The last layer's stream `[B, T, D]`, the cache with these tokens, and what a probe saw in each layer."""
        first = places.of(0)
        x_BTD = self.config.encoding.embed(places.params, self.embedding(tokens), first.positions)
        if self.config.remat and cache is None and probe is None:
            return self.norm(_recomputing(self.blocks, x_BTD, places)), None, [None] * len(self.blocks)
        seen, layers = [], []
        for i, block in enumerate(self.blocks):
            cached = None if cache is None else cache.layers[i]
            own = places.of(i)
            x_BTD, cached, saw = block(x_BTD, places=own, cached=cached, probe=probe)
            layers.append(cached)
            seen.append(saw)
        return self.norm(x_BTD), cache and cache.extended(tuple(layers), first, tokens.shape[1]), seen

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

    def logits(self, x_BTD: jax.Array) -> jax.Array:
        """The stream to float32 logits `[B, T, V]`."""
        out = self.embedding.attend(x_BTD) if self.head is None else self.head(x_BTD)
        return out.astype(jnp.float32)


def _recomputing(blocks: Any, x_BTD: jax.Array, places: Pass) -> jax.Array:
    """The stream after all blocks, of which the backward pass keeps nothing but each one's input.

    A loop over the layers, or over all kinds of layer in turn where they differ: of layers written out one after the
    other a compiler would compute everything anew at once, and save little.
    """
    kinds = len(places.kinds)

    @jax.checkpoint
    def turn(x: jax.Array, states: tuple[Any, ...]) -> tuple[jax.Array, None]:
        # Places are no argument: what is static in them, the first index and windows, would become traced.
        for kind, state in enumerate(states):
            x = nnx.merge(graph, state)(x, places.of(kind))[0]
        return x, None

    graph, states = nnx.split(blocks[0])[0], [nnx.state(block) for block in blocks]
    if not all(_alike(graph, states[0], block) for block in blocks):
        return _one_by_one(blocks, x_BTD, places)
    whole = len(states) // kinds * kinds
    if whole:
        every = [jax.tree.map(lambda *each: jnp.stack(each), *states[kind:whole:kinds]) for kind in range(kinds)]
        x_BTD, _ = jax.lax.scan(turn, x_BTD, tuple(every))
    rest = tuple(states[whole:])
    return turn(x_BTD, rest)[0] if rest else x_BTD


def _alike(graph: Any, state: Any, block: Any) -> bool:
    """Whether a block differs from the first in the numbers of its parameters alone, and changes none when it runs."""
    other, own = nnx.split(block)
    shapes = [jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), x) for x in (state, own)]
    return other == graph and shapes[0] == shapes[1] and not jax.tree.leaves(nnx.state(block, nnx.Not(nnx.Param)))


def _one_by_one(blocks: Any, x_BTD: jax.Array, places: Pass) -> jax.Array:
    """The stream after blocks that a user has changed, each recomputed; what they count or draw is kept."""
    for i, block in enumerate(blocks):
        graph, state = nnx.split(block)

        @jax.checkpoint
        def run(state: Any, x: jax.Array, graph: Any = graph, i: int = i) -> tuple[jax.Array, Any]:
            own = nnx.merge(graph, state)
            x = own(x, places.of(i))[0]
            return x, nnx.state(own, nnx.Not(nnx.Param))

        x_BTD, changed = run(state, x_BTD)
        if jax.tree.leaves(changed):
            nnx.update(block, changed)
    return x_BTD
