"""Models whose positions are explicit: the layers, a decoder, and generation with a cache."""

from posjax.models.cache import Cache
from posjax.models.decoder import Decoder, Transformer
from posjax.models.decoding import GREEDY, Sampling, generate
from posjax.models.layers import Attention, Block, Pass, Places, Probe, SwiGLU, dims
from posjax.models.losses import cross_entropy
from posjax.models.parameters import EncodingParams

__all__ = [
    "GREEDY",
    "Attention",
    "Block",
    "Cache",
    "Decoder",
    "EncodingParams",
    "Pass",
    "Places",
    "Probe",
    "Sampling",
    "SwiGLU",
    "Transformer",
    "cross_entropy",
    "dims",
    "generate",
]
