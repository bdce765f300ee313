"""Small architectures, by the sizes that tests vary; with several encodings, layers take them in turn."""

from __future__ import annotations

from dataclasses import replace

from posjax import Causal, Encoding, Mask, Rope
from posjax.models import Architecture, Embedding, Stack, Transformer, decoder

ROPE = Rope()
CAUSAL = Causal()


def small(
    *encodings: Encoding,
    layers: int = 1,
    width: int = 16,
    heads: int = 2,
    key_value_heads: int | None = None,
    head_size: int | None = None,
    feed_forward: int | None = None,
    mask: Mask = CAUSAL,
    tied: bool = False,
    deviation: float = 0.02,
) -> Architecture:
    """A decoder. Large weights of the embedding, `deviation=1.0`, keep attention far from even."""
    turns = []
    for encoding in encodings or (ROPE,):
        made = decoder(encoding, 1, width, heads, key_value_heads, feed_forward, mask, tied)
        assert made.decoder is not None
        (layer,) = made.decoder.pattern
        attention, fed = layer.sublayers
        turns.append(replace(layer, sublayers=(replace(attention, head_size=head_size), fed)))
    return replace(made, decoder=Stack(layers, tuple(turns)), embedding=Embedding(deviation))


def learned(model: Transformer, owner: str = "0"):
    """What an encoding of the decoder has learned."""
    return model.encodings["decoder"][owner]
