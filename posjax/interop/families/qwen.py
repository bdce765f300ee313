"""Qwen 2, 2.5 and 3: Llama's layers, with biases of queries, keys and values, or norms of queries and keys."""

from __future__ import annotations

from posjax.attention import Mask
from posjax.interop.config import Config
from posjax.interop.families import llama, values
from posjax.interop.family import ModelFamily
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import CAUSAL, SCORES, Projection, Scores


def masks(config: Config) -> dict[str, Mask]:
    """The mask of each layer type; a window counts where `use_sliding_window` says so."""
    # Most of its files carry a window that nothing uses; and a null switches it off again.
    if not config.flag("use_sliding_window", default=False) or values.nulled(config, "sliding_window"):
        config.ignore("sliding_window")
        return {values.FULL: CAUSAL}
    return {values.FULL: CAUSAL, values.SLIDING: values.sliding(config)}


def _described(config: Config, biases: tuple[Projection, ...], scores: Scores) -> Architecture:
    by_type = masks(config)
    count = values.layer_count(config)
    # The first layers see everything, and those from here on have the window.
    whole = min(config.whole("max_window_layers", default=28, least=0), count)
    implied = [values.FULL] * whole + [values.SLIDING] * (count - whole)
    if values.SLIDING not in by_type:
        implied = [values.FULL] * count
    encoding = values.rotary(config)
    layers = []
    for kind in values.layer_types(config, implied, *by_type):
        attention = values.attention(config, encoding, by_type[kind], biases, scores)
        layers.append(Layer((attention, values.gated(config)), values.rms(config)))
    return values.decoder(config, layers, values.rms(config), values.tied(config, False))


def _qwen2(config: Config) -> Architecture:
    return _described(config, values.QKV, SCORES)


def _qwen3(config: Config) -> Architecture:
    biases = values.biased(config, "attention_bias")
    return _described(config, biases, values.head_norm(values.rms(config)))


QWEN2 = ModelFamily(("qwen2",), _qwen2, llama.weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
QWEN3 = ModelFamily(("qwen3",), _qwen3, llama.weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
