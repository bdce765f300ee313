"""Granite 3: Llama's layers, with four numbers that multiply."""

from __future__ import annotations

from dataclasses import replace

from posjax.interop.config import Config
from posjax.interop.families import llama, values
from posjax.interop.family import Family
from posjax.models.architecture import Architecture, Embedding
from posjax.models.parts import Attention, Scores


def architecture(config: Config) -> Architecture:
    layer = llama.layer(config, values.rotary(config))
    scores = Scores(config.number("attention_multiplier", default=1.0))
    attention, gated = layer.sublayers
    assert isinstance(attention, Attention)
    layer = replace(
        layer,
        sublayers=(replace(attention, scores=scores), gated),
        multiplier=config.number("residual_multiplier", default=1.0),
    )
    embedding = Embedding(multiplier=config.number("embedding_multiplier", default=1.0))
    output = values.tied(config, False, multiplier=1 / config.number("logits_scaling", default=1.0))
    return values.decoder(config, values.alike(config, layer), values.rms(config), output, embedding)


FAMILY = Family(("granite",), architecture, llama.weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
