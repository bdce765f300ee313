"""The module after the last layer: logits of each token, or of classes of a row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from posjax.axes import expand_rank
from posjax.errors import InputError
from posjax.mesh import split_here
from posjax.models.architecture import Hidden, Output
from posjax.models.compute import Compute
from posjax.models.modules import DenseLayer, NormLayer, TokenEmbedding, activation, rowwise


class HiddenLayer(nnx.Module):
    """`norm(activation(x W))`."""

    def __init__(self, config: Hidden, width: int, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.dense = DenseLayer({"D": width}, {"D": width}, width**-0.5, rngs, dtype=compute.dtype, bias=config.bias)
        norm = None
        if config.norm is not None:
            norm = NormLayer(config.norm, {"D": width}, rngs, dtype=compute.dtype)
        self.norm = norm

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        inner_BTD = activation(self.config.activation)(self.dense(x_BTD))
        if self.norm is None:
            return inner_BTD
        return self.norm(inner_BTD)


class OutputLayer(nnx.Module):
    """The stream to logits. A tied one asks the embedding for its table."""

    def __init__(self, config: Output, width: int, vocabulary: int, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        answers = config.classes or vocabulary
        hidden, table = None, None
        bias = None
        if config.hidden is not None:
            hidden = HiddenLayer(config.hidden, width, compute, rngs)
        if not config.tied:
            table = DenseLayer({"D": width}, {"V": answers}, width**-0.5, rngs, dtype=compute.dtype)
        if config.bias:
            bias = nnx.Param(jnp.zeros(answers, jnp.float32), letters="V")
        self.hidden = hidden
        self.table = table
        self.bias = bias

    def __call__(self, x_BTD: jax.Array, embedding: TokenEmbedding, may_end: bool = False) -> jax.Array:
        """Float32 logits `[B, T, V]`, through the product with the `embedding` where they are tied."""

        def logits(x: jax.Array) -> jax.Array:
            if self.hidden is not None:
                x = self.hidden(x)
            out = self.table(x) if self.table is not None else embedding.attend(x)
            # Whatever the model's dtype: a softmax and a loss are of float32.
            out = split_here(out.astype(jnp.float32), "BTV")
            if self.config.multiplier != 1:
                out = out * self.config.multiplier
            # After the product with its multiplier, and before the cap, which bounds what is handed out.
            if self.bias is not None:
                bias = self.bias.get_value().astype(jnp.float32)
                out = out + expand_rank(bias, out.ndim)
            if self.config.cap is not None:
                out = self.config.cap * jnp.tanh(out / self.config.cap)
            return out

        # All of it: the bias and the cap have gradients too, which a row past an encoding's end is not to reach.
        return rowwise(logits, x_BTD, may_end)

    def pooled(self, x_BTD: jax.Array, real_BT: jax.Array | None) -> jax.Array:
        """One token's stream for each row, `[B, 1, D]`: its first, its last, or the mean of those that are real."""
        B, T, _ = x_BTD.shape
        if not T:
            raise InputError("classes are of a row's tokens and there are none: give rows of one token or more")
        if real_BT is None:
            real_BT = jnp.ones((1, T), bool)
        real_BT = jnp.broadcast_to(real_BT, (B, T))
        if self.config.pool == "mean":
            counted_BT = real_BT.astype(jnp.float32)
            total_B1 = jnp.sum(counted_BT, axis=1, keepdims=True)
            shares = counted_BT / jnp.maximum(total_B1, 1)
            # By where, since what padding holds may be no number.
            held_BTD = jnp.where(real_BT[..., None], x_BTD, 0)
            mean_BD = jnp.einsum("BTD,BT->BD", held_BTD, shares.astype(x_BTD.dtype))
            return mean_BD[:, None]
        # The first of the largest: where truth begins.
        at_B = jnp.argmax(real_BT, axis=1)
        if self.config.pool == "last":
            from_the_end = jnp.argmax(real_BT[:, ::-1], axis=1)
            at_B = T - 1 - from_the_end
        return jnp.take_along_axis(x_BTD, at_B[:, None, None], axis=1)
