"""Mistral and Ministral 3: Llama's layers within a sliding window."""

from __future__ import annotations

from posjax.interop.config import Config
from posjax.interop.families import llama, values
from posjax.interop.family import ModelFamily
from posjax.models.architecture import Architecture


def _architecture(config: Config) -> Architecture:
    # The class of Mistral has a window where the configuration is silent; that of Ministral 3 has none.
    default = {"mistral": 4096}.get(config.family)
    mask = values.windowed(config, default)
    layers = values.alike(config, llama.layer(config, values.rotary(config), mask))
    return values.decoder(config, layers, values.rms(config), values.tied(config, False))


FAMILY = ModelFamily(
    ("mistral", "ministral3"), _architecture, llama.weights, ignored=llama.ROTATIONS, twins=llama.TWINS
)
