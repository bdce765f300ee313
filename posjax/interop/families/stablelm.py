"""StableLM: Llama's layers with LayerNorm, in which a quarter of the head turns."""

from __future__ import annotations

from posjax.interop.config import Config
from posjax.interop.families import llama, values
from posjax.interop.family import ModelFamily
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import Projection


def _architecture(config: Config) -> Architecture:
    # Its norms of queries and keys are a tensor for each head.
    config.only("qk_layernorm", False)
    norm = values.layer_norm(config)
    biases: tuple[Projection, ...] = ()
    if config.flag("use_qkv_bias", default=False):
        biases = values.QKV
    # Where sublayers read the same stream, the second norm is left out.
    parallel = config.flag("use_parallel_residual", default=False)
    attention = values.attention(config, values.rotary(config), biases=biases)
    layer = Layer((attention, values.gated(config)), norm, parallel=parallel, shared_norm=parallel)
    return values.decoder(config, values.alike(config, layer), norm, values.tied(config, False))


FAMILY = ModelFamily(("stablelm",), _architecture, llama.weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
