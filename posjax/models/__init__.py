"""Models whose positions are explicit: the layers, a decoder, and generation with a cache."""

from posjax.models.cache import Cache as Cache
from posjax.models.decoder import Decoder as Decoder, dims as dims
from posjax.models.decoding import GREEDY as GREEDY, Sampling as Sampling, generate as generate
from posjax.models.layers import (
    Attention as Attention,
    Block as Block,
    PreparedLayers as PreparedLayers,
    Probe as Probe,
    SwiGLU as SwiGLU,
)
from posjax.models.losses import cross_entropy as cross_entropy
from posjax.models.parameters import EncodingParams as EncodingParams
from posjax.models.transformer import Transformer as Transformer, build as build
