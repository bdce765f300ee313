"""StarCoder 2: Mistral's attention with LayerNorm, biases, and a feed-forward without a gate."""

from __future__ import annotations

from posjax.interop.config import Config
from posjax.interop.families import llama, names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import FeedForward


def _architecture(config: Config) -> Architecture:
    # Keys of the code that it was first published with, which transformers' does not read.
    config.only("mlp_type", "default")
    config.only("norm_type", "layer_norm")
    # Whichever it names, `hidden_act` decides.
    config.only("activation_function", "gelu_pytorch_tanh", "gelu")
    norm = values.layer_norm(config, "norm_epsilon")
    biases = values.biased(config, "use_bias", default=True)
    attention = values.attention(config, values.rotary(config), values.windowed(config), biases)
    function = values.activation(config, "hidden_act", default="gelu_pytorch_tanh")
    inner = FeedForward(config.whole("intermediate_size"), function, gated=False, bias=bool(biases))
    layers = values.alike(config, Layer((attention, inner), norm))
    return values.decoder(config, layers, norm, values.tied(config, True))


def _weights(config: Config) -> Rules:
    layer = names.projections("self_attn", llama.NAMES) | names.plain("mlp", "c_fc c_proj")
    return llama.around(layer | llama.before())


FAMILY = ModelFamily(("starcoder2",), _architecture, _weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
