"""Llama 1 to 3.3, and what is published as one: CodeLlama, Yi, TinyLlama, SmolLM 1 and 2, Falcon 3."""

from __future__ import annotations

from posjax.attention import Mask
from posjax.encodings.base import Encoding
from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import CAUSAL

NAMES = "q_proj k_proj v_proj o_proj"
ROTATIONS = ("*.rotary_emb.inv_freq",)
"""Older files hold the frequencies, which the configuration says."""
TWINS = (("lm_head.weight", "model.embed_tokens.weight"),)
"""Some files of tied models hold the table twice."""


def layer(config: Config, encoding: Encoding, mask: Mask = CAUSAL) -> Layer:
    """RMSNorm before attention and before a gated feed-forward."""
    # One key for all four projections, as in its class.
    biases = values.biased(config, "attention_bias")
    gated = values.gated(config, bias=config.flag("mlp_bias", default=False))
    return Layer((values.attention(config, encoding, mask, biases), gated), values.rms(config))


def _architecture(config: Config) -> Architecture:
    # In how many slices products were once computed; a sum in another order.
    config.ignore("pretraining_tp")
    layers = values.alike(config, layer(config, values.rotary(config)))
    return values.decoder(config, layers, values.rms(config), values.tied(config, False))


def sublayers() -> Rules:
    """Attention and the feed-forward of a layer, which many families name alike."""
    return (
        names.projections("self_attn", NAMES)
        | names.norm("attention.query_norm", "self_attn.q_norm")
        | names.norm("attention.key_norm", "self_attn.k_norm")
        | names.gated("mlp", "gate_proj up_proj down_proj")
    )


def before() -> Rules:
    """The norms of sublayers that stand before them."""
    return names.norm("attention_norm", "input_layernorm") | names.norm("feed_forward_norm", "post_attention_layernorm")


def around(rules: Rules) -> Rules:
    """All weights, from those of a layer."""
    return (
        names.embedding("model.embed_tokens")
        | names.layers("decoder", "model.layers", rules)
        | names.norm("norms.decoder", "model.norm")
        | names.head("lm_head")
    )


def weights(config: Config) -> Rules:
    """Those of the class, which do not depend on the configuration."""
    return around(sublayers() | before())


FAMILY = ModelFamily(("llama",), _architecture, weights, ignored=ROTATIONS, twins=TWINS)
