"""GPT-NeoX 20B and Pythia: a part of the head turns, and sublayers read the same stream."""

from __future__ import annotations

from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import FeedForward


def _architecture(config: Config) -> Architecture:
    config.only("is_decoder", False, True)
    norm = values.layer_norm(config)
    biases = values.biased(config, "attention_bias", default=True)
    attention = values.attention(config, values.rotary(config), biases=biases)
    size = config.whole("intermediate_size")
    inner = FeedForward(size, values.activation(config, "hidden_act", default="gelu"), gated=False, bias=True)
    # Each sublayer has a norm of its own, also where they read the same stream.
    parallel = config.flag("use_parallel_residual", default=True)
    layers = values.alike(config, Layer((attention, inner), norm, parallel=parallel))
    return values.decoder(config, layers, norm, values.tied(config, False))


def _weights(config: Config) -> Rules:
    heads = config.whole("num_attention_heads")
    layer = (
        # Head by head: a query, a key and a value of each.
        names.joined("attention.query_key_value", heads, heads, "(K part H)")
        | names.output("attention", "dense")
        | names.plain("mlp", "dense_h_to_4h dense_4h_to_h")
        | names.norm("attention_norm", "input_layernorm")
        | names.norm("feed_forward_norm", "post_attention_layernorm")
    )
    return (
        names.embedding("gpt_neox.embed_in")
        | names.layers("decoder", "gpt_neox.layers", layer)
        | names.norm("norms.decoder", "gpt_neox.final_layer_norm")
        | names.head("embed_out")
    )


FAMILY = ModelFamily(
    ("gpt_neox",),
    _architecture,
    _weights,
    # Masks and frequencies that older files hold.
    ignored=("*.attention.bias", "*.attention.masked_bias", "*.rotary_emb.inv_freq"),
)
