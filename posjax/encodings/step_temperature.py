"""Queries that grow in steps with their position: the temperature of Llama 4 and Ministral 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings.arrays import exact
from posjax.encodings.base import Dims, Encoding, Params, Role, complete
from posjax.encodings.temperature import scaled
from posjax.fields import Above, AtLeast


@dataclass(frozen=True)
class StepTemperature(Encoding):
    """Llama 4's attention temperature: queries grow by steps, with the logarithm of the number of windows behind them.

        queries at position m times 1 + scale ln(1 + floor((m + shift) / window))

    `window`: the tokens of one step. `shift`: what is added to positions.

    Convention: queries alone are scaled, so the logits are; within the first window nothing changes. Llama 4 has a
    shift of 1 and scales the layers without RoPE (`attn_scale`, `floor_scale`); Ministral 3 has none, takes the trained
    length as the window, and scales rotated queries (`llama_4_scaling_beta`).

    Good at: keeping attention sharp in contexts of many windows, in models trained with it; short contexts stay as
    they were, to the bit.
    Bad at: telling positions apart, which it does not; and its steps are sudden: two queries on either side of one
    have different temperatures.

    Errors: `InputError` for a scale that is not positive, a window below 1, or a shift below 0.
    Source: the released code of Llama 4 and of Ministral 3, after Nakanishi 2025, arXiv:2501.19399.

    >>> import jax.numpy as jnp
    >>> at = jnp.array([3, 4])
    >>> StepTemperature(1.0, 4).rotate({}, jnp.ones((1, 2, 1, 1)), at, "query").ravel().tolist()  # 1 + ln 2
    [1.0, 1.6931471824645996]
    """

    scale: Annotated[float, Above(0, "; the released models' is 0.1")] = 0.1
    window: Annotated[int, AtLeast(1, "a window in tokens")] = 8192
    shift: Annotated[int, AtLeast(0, "an offset of positions")] = 0

    swept = ("scale", "window", "shift")

    @property
    def injective(self) -> bool:
        # Queries differ in size by their position, keys not at all.
        return False

    def constants(self, dims: Dims) -> Params:
        return {"scale": np.float32(self.scale), "window": np.uint32(self.window), "shift": np.uint32(self.shift)}

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        if role == "key":
            return x
        held = complete(self, params, Dims())
        # Unsigned, so that a shift of the last int32 position does not wrap; `scaled` marks what is negative.
        place = jnp.maximum(exact(positions), 0).astype(jnp.uint32)
        windows = (place + held["shift"]) // held["window"]
        grown = held["scale"] * jnp.log1p(windows.astype(jnp.float32))
        return scaled(x, 1 + grown[..., None, None], positions)
