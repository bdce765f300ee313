"""Small architectures, by the sizes that tests vary; with several encodings, layers take them in turn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from posjax import Encoding, Rope
from posjax.models import Architecture, Embedding, Stack, Transformer, decoder
from posjax.models.memory import Memory

ROPE = Rope()


def small(*encodings: Encoding, layers: int = 1, deviation: float = 0.02, **sizes) -> Architecture:
    """A decoder. Large weights of the embedding, `deviation=1.0`, keep attention far from even."""
    head_size = sizes.pop("head_size", None)
    turns = []
    for encoding in encodings or (ROPE,):
        made = decoder(encoding, layers=1, **{"width": 16, "heads": 2} | sizes)
        assert made.decoder is not None
        (layer,) = made.decoder.pattern
        attention, fed = layer.sublayers
        turns.append(replace(layer, sublayers=(replace(attention, head_size=head_size), fed)))
    return replace(made, decoder=Stack(layers, tuple(turns)), embedding=Embedding(deviation))


def learned(model: Transformer, owner: str = "0"):
    """What an encoding of the decoder has learned."""
    return model.encodings["decoder"][owner]


@nnx.jit
def at_once(model: Transformer, tokens: jax.Array) -> jax.Array:
    """The logits of one pass, as one program: operation by operation each would be compiled by itself."""
    return model(tokens)


@partial(nnx.jit, static_argnames="parts")
def in_parts(model: Transformer, tokens: jax.Array, parts: tuple[int, ...], memory: Memory | None = None) -> jax.Array:
    """The logits of tokens that come over a cache, so many at a time, as one program."""
    batch, end = tokens.shape
    cache, begin = model.cache(batch, end, memory=memory), 0
    found = []
    for count in parts:
        prepared = model.prepare(count, cache=cache)
        x, cache, _ = model.hidden(tokens[:, begin : begin + count], prepared, cache)
        found.append(model.logits(x))
        begin += count
    return jnp.concatenate(found, 1)
