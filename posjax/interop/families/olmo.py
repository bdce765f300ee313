"""OLMo 2 and 3: norms after sublayers, and of queries and keys over all heads; windows in OLMo 3."""

from __future__ import annotations

from collections.abc import Mapping

from posjax.attention import Mask
from posjax.encodings.base import Encoding
from posjax.interop.config import Config
from posjax.interop.families import llama, names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import CAUSAL, Scores


def _olmo2(config: Config) -> Architecture:
    return _described(config, {values.FULL: values.rotary(config)})


def _olmo3(config: Config) -> Architecture:
    # What is scaled is scaled in the layers that see everything.
    return _described(config, {kind: values.rotary(config, kind) for kind in (values.FULL, values.SLIDING)})


def _described(config: Config, encodings: Mapping[str, Encoding]) -> Architecture:
    count = values.layer_count(config)
    masks: dict[str, Mask] = {values.FULL: CAUSAL}
    kinds = [values.FULL] * count
    if values.SLIDING in encodings:
        masks[values.SLIDING] = values.sliding(config)
        kinds = values.every(count, 4, values.FULL, values.SLIDING)
    norm = values.rms(config, default=1e-5)
    biases = values.biased(config, "attention_bias")
    # Over all heads at once, before they are parted.
    scores = Scores(norm=norm, norm_over="all")
    layers = []
    for kind in values.layer_types(config, kinds, *masks):
        attention = values.attention(config, encodings[kind], masks[kind], biases, scores)
        layers.append(Layer((attention, values.gated(config)), norm, "after"))
    return values.decoder(config, layers, norm, values.tied(config, False))


def weights(config: Config) -> Rules:
    """Llama's, with norms after sublayers, as EXAONE 4 has them too."""
    norms = names.norm("attention_norm", "post_attention_layernorm") | names.norm(
        "feed_forward_norm", "post_feedforward_layernorm"
    )
    return llama.around(llama.sublayers() | norms)


def _flat_weights(config: Config) -> Rules:
    """Norms of queries and keys with a number for each channel of all heads, in one axis."""
    rules = weights(config)
    norms = names.norm("attention.query_norm", "self_attn.q_norm", "(N H) -> N H")
    norms |= names.norm("attention.key_norm", "self_attn.k_norm", "(N H) -> N H")
    return rules | names.layers("decoder", "model.layers", norms)


OLMO2 = ModelFamily(("olmo2",), _olmo2, _flat_weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
OLMO3 = ModelFamily(("olmo3",), _olmo3, _flat_weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
