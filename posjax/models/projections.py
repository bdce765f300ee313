"""The four maps that every kind of attention has."""

from __future__ import annotations

from flax import nnx

from posjax.models.compute import Compute
from posjax.models.modules import DenseLayer
from posjax.models.parts import Attending, sizes


class Projections(nnx.Module):
    """The stream to queries `[N, H]`, keys and values `[K, H]`, and heads together back to the stream."""

    def __init__(self, config: Attending, width: int, residual_scale: float, compute: Compute, rngs: nnx.Rngs):
        N, K, H = sizes(config, width)
        stream = {"D": width}
        queries, keys = {"N": N, "H": H}, {"K": K, "H": H}
        dtype = compute.dtype
        # Deviations that keep the variance of what they make at that of what they read.
        deviation = width**-0.5
        biases = config.biases
        self.query = DenseLayer(stream, queries, deviation, rngs, dtype=dtype, bias="query" in biases)
        self.key = DenseLayer(stream, keys, deviation, rngs, dtype=dtype, bias="key" in biases)
        self.value = DenseLayer(stream, keys, deviation, rngs, dtype=dtype, bias="value" in biases)
        # What adds to the stream starts smaller, the more sublayers add.
        out_deviation = (N * H) ** -0.5 * residual_scale
        self.out = DenseLayer(queries, stream, out_deviation, rngs, dtype=dtype, bias="out" in biases)
