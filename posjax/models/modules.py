"""The smallest modules: maps and norms whose parameters keep their axes, and what is done to each token alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from posjax.axes import expand_rank
from posjax.mesh import split_here
from posjax.models.parts import Activation, Norm


class DenseLayer(nnx.Module):
    """A linear map over named axes, given by letter: a kernel `[D, N, H]` takes `[..., D]` to `[..., N, H]`.

    Kept whole, an axis is known by its letter to whoever splits parameters over devices, or reads those of others; one
    without a letter is `_`.
    """

    def __init__(
        self,
        into: Mapping[str, int],
        out: Mapping[str, int],
        deviation: float,
        rngs: nnx.Rngs,
        *,
        dtype: DTypeLike,
        bias: bool = False,
    ):
        self.axes = tuple(into.values()), tuple(out.values())
        self.letters = "".join(into), "".join(out)
        self.dtype = jnp.dtype(dtype)
        shape = (*into.values(), *out.values())
        drawn = nnx.initializers.normal(deviation)(rngs.params(), shape, jnp.float32)
        self.kernel = nnx.Param(drawn, letters="".join(self.letters))
        zeros = None
        if bias:
            zeros = nnx.Param(jnp.zeros(self.axes[1], jnp.float32), letters=self.letters[1])
        # Assigned once: Flax decides at the first assignment whether an attribute is data.
        self.bias = zeros

    def __call__(self, x: jax.Array) -> jax.Array:
        into, out = self.axes
        before = x.shape[: x.ndim - len(into)]
        # One product of matrices, whatever the axes: compilers make the most of that.
        size = math.prod(into)
        rows = x.reshape(*before, size).astype(self.dtype)
        # Narrowed first, so that half as much is gathered from other devices.
        narrow = self.kernel.get_value().astype(self.dtype)
        kernel = split_here(narrow, "".join(self.letters)).reshape(size, math.prod(out))
        contracted = ((rows.ndim - 1,), (0,))
        y = lax.dot_general(rows, kernel, (contracted, ((), ())))
        y = y.reshape(*before, *out)
        if self.bias is None:
            return y
        bias = self.bias.get_value().astype(self.dtype)
        return y + expand_rank(bias, y.ndim)


class TokenEmbedding(nnx.Embed):
    """The table `[V, D]` of tokens, whose rows are gathered from the devices that hold parts of them."""

    def __init__(self, vocabulary: int, width: int, deviation: float, rngs: nnx.Rngs, *, dtype: DTypeLike):
        super().__init__(
            vocabulary,
            width,
            dtype=jnp.dtype(dtype),
            param_dtype=jnp.float32,
            embedding_init=nnx.initializers.normal(deviation),
            rngs=rngs,
            embedding_metadata={"letters": "VD"},
        )

    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        """The rows of tokens, `[B, T, D]`; NaN for one that the vocabulary does not have."""
        return jnp.take(self._table(), tokens_BT, axis=0)

    def attend(self, x_BTD: jax.Array) -> jax.Array:
        """The product of a stream with each row, `[B, T, V]`."""
        return jnp.dot(x_BTD.astype(self.dtype), self._table().T)

    def _table(self) -> jax.Array:
        # Narrowed first, so that half as much is gathered.
        return split_here(self.embedding.get_value().astype(self.dtype), "VD")


class NormLayer(nnx.Module):
    """A `Norm` over the last `over` axes, with a scale of the axes in `sizes`, by letter, which may be more."""

    def __init__(self, config: Norm, sizes: Mapping[str, int], rngs: nnx.Rngs, *, dtype: DTypeLike, over: int = 1):
        shape, letters = tuple(sizes.values()), "".join(sizes)
        self.config = config
        self.over = over
        self.dtype = jnp.dtype(dtype)
        scale, bias = None, None
        if config.scaled:
            rngs.params()  # Every scale has a turn in the order of draws, though all begin alike.
            # Together with the offset it begins at 1.
            scale = nnx.Param(jnp.full(shape, 1 - config.offset, jnp.float32), letters=letters)
        if config.bias:
            bias = nnx.Param(jnp.zeros(shape, jnp.float32), letters=letters)
        self.scale = scale
        self.bias = bias

    def __call__(self, x: jax.Array) -> jax.Array:
        # A bfloat16 holds three digits, and a sum of squares needs more.
        wide = x.astype(jnp.float32)
        axes = tuple(range(-self.over, 0))
        if self.config.kind == "layer":
            wide = wide - jnp.mean(wide, axes, keepdims=True)
        square = jnp.mean(jnp.square(wide), axes, keepdims=True)
        factor = lax.rsqrt(square + self.config.epsilon)
        if self.scale is not None:
            # Checkpoints may hold it as anything narrower.
            scale = self.scale.get_value().astype(jnp.float32)
            if self.config.offset:
                scale = self.config.offset + scale
            factor = factor * expand_rank(scale, wide.ndim)
        y = wide * factor
        if self.bias is not None:
            bias = self.bias.get_value().astype(jnp.float32)
            y = y + expand_rank(bias, wide.ndim)
        return y.astype(self.dtype)


def _relu_squared(x: jax.Array) -> jax.Array:
    positive = jax.nn.relu(x)
    return jnp.square(positive)


def activation(name: Activation) -> Callable[[jax.Array], jax.Array]:
    """The function of a name: "gelu" is the exact one, "gelu_tanh" its approximation by a tanh."""
    functions: dict[str, Callable[[jax.Array], jax.Array]] = {
        "silu": jax.nn.silu,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
        "relu": jax.nn.relu,
        "relu_squared": _relu_squared,
    }
    return functions[name]


def dropped(x: jax.Array, share: float, key: jax.Array | None) -> jax.Array:
    """An array with that share of its numbers at 0, the others enlarged to keep the mean; as it is without a key."""
    if key is None or share == 0:
        return x
    kept = jax.random.bernoulli(key, 1 - share, x.shape)
    enlarged = x / (1 - share)
    # A product, so that what is no number stays none.
    nothing = 0 * x
    return jnp.where(kept, enlarged, nothing).astype(x.dtype)


def marked(x: jax.Array, void: jax.Array) -> jax.Array:
    """An array with NaN where something is void, in its own dtype."""
    with_marks = jnp.where(void, jnp.nan, x)
    return with_marks.astype(x.dtype)


def rowwise(function: Callable[[jax.Array], jax.Array], x_BTD: jax.Array, may_end: bool) -> jax.Array:
    """A function of each token alone; where an encoding may end, tokens past it stay NaN and reach no gradient.

    A NaN in the stream would otherwise be multiplied by a cotangent of 0, and make the gradient of every weight NaN.
    """
    if not may_end:
        return function(x_BTD)
    finite = jnp.isfinite(x_BTD)
    axes = tuple(range(2, x_BTD.ndim))
    void_BT = ~jnp.all(finite, axis=axes)
    inside = void_BT.reshape(*void_BT.shape, *(1,) * len(axes))
    # Zeros go in, so that what comes back through the function to its weights is a number.
    only_numbers = jnp.where(inside, 0, x_BTD)
    out = function(only_numbers)
    outside = void_BT.reshape(*void_BT.shape, *(1,) * (out.ndim - 2))
    return marked(out, outside)
