"""Small architectures, by the sizes that tests vary; with several encodings, layers take them in turn."""

from __future__ import annotations

from dataclasses import replace

from posjax import Encoding, Rope
from posjax.models import Architecture, Embedding, Stack, Transformer, decoder

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
