"""OPT: a learned table of positions whose first two rows nobody uses."""

from __future__ import annotations

from posjax.encodings.learned import Learned
from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import FeedForward, Norm

UNUSED = 2
"""Rows before that of the first token."""


def _architecture(config: Config) -> Architecture:
    # The 350M alone has norms after, and a narrower embedding.
    config.only("do_layer_norm_before", True)
    config.only("word_embed_proj_dim", values.width(config))
    config.only("_remove_final_layer_norm", False)
    config.only("is_decoder", False, True)
    scaled = config.flag("layer_norm_elementwise_affine", default=True)
    # Its class has no key for the epsilon.
    norm = Norm("layer", 1e-5, bias=scaled, scaled=scaled)
    biases = values.biased(config, "enable_bias", default=True)
    table = Learned(config.whole("max_position_embeddings", default=2048), offset=UNUSED)
    attention = values.attention(config, table, biases=biases)
    function = values.activation(config, "activation_function", default="relu")
    inner = FeedForward(config.whole("ffn_dim"), function, gated=False, bias=bool(biases))
    layers = values.alike(config, Layer((attention, inner), norm))
    return values.decoder(config, layers, norm, values.tied(config, True))


def _weights(config: Config) -> Rules:
    layer = (
        names.projections("self_attn", "q_proj k_proj v_proj out_proj")
        | names.plain("", "fc1 fc2")
        | names.norm("attention_norm", "self_attn_layer_norm")
        | names.norm("feed_forward_norm", "final_layer_norm")
    )
    return (
        names.embedding("model.decoder.embed_tokens")
        | names.learned("decoder", "model.decoder.embed_positions")
        | names.layers("decoder", "model.decoder.layers", layer)
        | names.norm("norms.decoder", "model.decoder.final_layer_norm")
        | names.head("lm_head")
    )


FAMILY = ModelFamily(
    ("opt",),
    _architecture,
    _weights,
    spellings=((("model.decoder.", "decoder."),),),
    twins=(("lm_head.weight", "model.decoder.embed_tokens.weight"),),
)
