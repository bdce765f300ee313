"""One transformer whose positions are explicit, for every architecture; and generation with a cache."""

from posjax.models.architecture import (
    Architecture as Architecture,
    DropoutRates as DropoutRates,
    Embedding as Embedding,
    Hidden as Hidden,
    Layer as Layer,
    Output as Output,
    Stack as Stack,
)
from posjax.models.attention_layer import Probe as Probe
from posjax.models.cache import Cache as Cache
from posjax.models.compute import Compute as Compute, explain as explain
from posjax.models.decoding import generate as generate, stream as stream
from posjax.models.holding import assert_model as assert_model
from posjax.models.losses import cross_entropy as cross_entropy
from posjax.models.memory import Memory as Memory
from posjax.models.parameters import EncodingParams as EncodingParams
from posjax.models.parts import (
    Attention as Attention,
    FeedForward as FeedForward,
    LinearAttention as LinearAttention,
    Norm as Norm,
    Scores as Scores,
)
from posjax.models.preparing import PreparedLayers as PreparedLayers, constants_of as constants_of
from posjax.models.presets import decoder as decoder, encoder as encoder, encoder_decoder as encoder_decoder
from posjax.models.sampling import GREEDY as GREEDY, Sampling as Sampling
from posjax.models.transformer import Transformer as Transformer, build as build
