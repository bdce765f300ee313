"""Phi-3, 3.5 and 4: Llama's layers with queries, keys and values in one tensor, and gate and up in another."""

from __future__ import annotations

from posjax.interop.config import Config
from posjax.interop.families import llama, names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer


def _architecture(config: Config) -> Architecture:
    # Of no key does this class make a bias.
    config.only("attention_bias", False)
    mask = values.windowed(config)
    attention = values.attention(config, values.rotary(config), mask)
    norm = values.rms(config, default=1e-5)
    layers = values.alike(config, Layer((attention, values.gated(config)), norm))
    return values.decoder(config, layers, norm, values.tied(config, False))


def _weights(config: Config) -> Rules:
    heads = config.whole("num_attention_heads")
    shared = config.whole("num_key_value_heads", default=heads)
    layer = (
        names.joined("self_attn.qkv_proj", heads, shared, "(part H)")
        | names.output("self_attn", "o_proj")
        # What leads in is one tensor, below, and takes the place of the first of these.
        | names.plain("mlp", "up_proj down_proj")
        | names.both_in_one("mlp.gate_up_proj", config.whole("intermediate_size"))
    )
    return llama.around(layer | llama.before())


FAMILY = ModelFamily(("phi3",), _architecture, _weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
