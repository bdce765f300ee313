"""Granite 3: Llama's layers, with four numbers that multiply."""

from __future__ import annotations

from dataclasses import replace

from posjax.interop.config import Config
from posjax.interop.families import llama, values
from posjax.interop.family import ModelFamily
from posjax.models.architecture import Architecture, Embedding
from posjax.models.parts import Attention, Scores


def _architecture(config: Config) -> Architecture:
    layer = llama.layer(config, values.rotary(config))
    # In place of the root of the head size, not beside it.
    scores = Scores(config.positive("attention_multiplier", default=1.0))
    attention, gated = layer.sublayers
    assert isinstance(attention, Attention)
    layer = replace(
        layer,
        sublayers=(replace(attention, scores=scores), gated),
        multiplier=config.number("residual_multiplier", default=1.0),
    )
    embedding = Embedding(multiplier=config.number("embedding_multiplier", default=1.0))
    # Logits are divided by what is called a scaling.
    output = values.tied(config, False, multiplier=1 / config.positive("logits_scaling", default=1.0))
    return values.decoder(config, values.alike(config, layer), values.rms(config), output, embedding)


FAMILY = ModelFamily(("granite",), _architecture, llama.weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
