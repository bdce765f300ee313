"""OLMo 2 and 3: norms after sublayers, and of queries and keys over all heads; windows in OLMo 3."""

from __future__ import annotations

from posjax.interop.config import Config
from posjax.interop.families import llama, names, values
from posjax.interop.family import Family, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import CAUSAL, Scores


def olmo2(config: Config) -> Architecture:
    return _described(config, dict.fromkeys((values.FULL,), values.rotary(config)))


def olmo3(config: Config) -> Architecture:
    # What is scaled is scaled in the layers that see everything.
    return _described(config, {kind: values.rotary(config, kind) for kind in (values.FULL, values.SLIDING)})


def _described(config: Config, encodings: dict) -> Architecture:
    count = values.layer_count(config)
    masks = {values.FULL: CAUSAL}
    kinds = [values.FULL] * count
    if values.SLIDING in encodings:
        masks[values.SLIDING] = values.windowed(config, 4096)
        kinds = values.every(count, 4, values.FULL, values.SLIDING)
    norm = values.rms(config, default=1e-5)
    biases = values.biased(config, "attention_bias")
    scores = Scores(norm=norm, norm_over="all")
    layers = []
    for kind in values.layer_types(config, kinds, *masks):
        attention = values.attention(config, encodings[kind], masks[kind], biases, scores)
        layers.append(Layer((attention, values.gated(config)), norm, "after"))
    return values.decoder(config, layers, norm, values.tied(config, False))


def weights(config: Config) -> Rules:
    norms = names.norm("attention_norm", "post_attention_layernorm") | names.norm(
        "feed_forward_norm", "post_feedforward_layernorm"
    )
    return llama.around(llama.sublayers() | norms)


def flat_weights(config: Config) -> Rules:
    """Norms of queries and keys with a number for each channel of all heads, in one axis."""
    rules = weights(config)
    norms = names.norm("attention.query_norm", "self_attn.q_norm", "(N H) -> N H")
    norms |= names.norm("attention.key_norm", "self_attn.k_norm", "(N H) -> N H")
    return rules | names.layers("decoder", "model.layers", norms)


OLMO2 = Family(("olmo2",), olmo2, flat_weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
OLMO3 = Family(("olmo3",), olmo3, flat_weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
