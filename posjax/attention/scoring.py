"""What makes weights of the products of queries and keys: a factor, a soft cap, learned sinks, and dropout."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from posjax.attention.biases import BiasKind
from posjax.attention.dropout import Dropping
from posjax.axes import Shaped
from posjax.errors import InputError
from posjax.positions import Index


@dataclass(frozen=True)
class Scoring:
    """How products become logits: `cap * tanh(scale * q k / cap) + bias`, and without a cap `scale * q k + bias`.

    `scale`: 1/sqrt(H) where it is `None`. Numbers of Python, since kernels are compiled for them. `dropping`: what
    drops weights after the softmax.
    """

    scale: float | None = None
    softcap: float | None = None
    dropping: Dropping | None = None

    @property
    def plain(self) -> bool:
        """Whether products are divided by sqrt(H), and nothing else."""
        return self.scale is None and self.softcap is None

    def part(self, row: Index, head: Index) -> Scoring:
        """The same for the part of a call from a row of the batch and a query head on."""
        if self.dropping is None:
            return self
        return replace(self, dropping=self.dropping.part(row, head))

    def factor(self, head_size: int) -> float:
        """What products of `head_size` channels are multiplied by."""
        if self.scale is None:
            return 1 / math.sqrt(head_size)
        return self.scale

    def capped(self, scaled: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Scaled products under the cap, and the derivative of that, `None` where there is no cap."""
        if self.softcap is None:
            return scaled, None
        share = jnp.tanh(scaled / self.softcap)
        square = share * share
        return self.softcap * share, 1 - square


jax.tree_util.register_dataclass(Scoring, data_fields=["dropping"], meta_fields=["scale", "softcap"])

_HELD = (1e-30, 1e30)
"""How small and how large a scale or a cap may be, for products with it to be numbers of float32."""

PLAIN = Scoring()
"""Products divided by sqrt(H)."""


def given_scoring(
    scale: float | None, softcap: float | None, kind: BiasKind, dropping: Dropping | None = None
) -> Scoring:
    """The scoring of a call, checked; `kind` is that of its bias.

    Errors: `InputError` for numbers that are not finite, a cap that is not positive, and both where an encoding scores
    content, since there is no product then.
    """
    if scale is not None:
        scale = _finite(scale, "scale")
    if softcap is not None:
        softcap = _finite(softcap, "softcap")
        if softcap <= 0:
            raise InputError(f"softcap is {softcap}: needed is a positive number, or None for no cap")
    scoring = Scoring(scale, softcap, dropping)
    if kind == "content" and not scoring.plain:
        raise InputError(
            f"scale={scale} and softcap={softcap} are of the product of queries and keys, and this encoding puts a "
            "score of its own in its place: leave them out, or take an encoding that rotates or adds a bias"
        )
    return scoring


def _finite(given: float, name: str) -> float:
    if isinstance(given, core.Tracer):
        raise InputError(
            f"{name} is traced: needed is a number that is known before the function runs; "
            "to learn a factor, multiply the queries by it"
        )
    known = given
    if isinstance(given, np.generic | np.ndarray | jax.Array) and given.shape == ():
        known = np.asarray(given)[()].item()
    is_number = isinstance(known, int | float) and not isinstance(known, bool)
    if not is_number or not math.isfinite(known):
        raise InputError(f"{name} is {given!r}: needed is a finite number, or None")
    # Past these, products and quotients leave what float32 holds.
    least, most = _HELD
    if known != 0 and not least <= abs(known) <= most:
        raise InputError(f"{name} is {given!r}: needed is a number from {least:g} to {most:g}, or None")
    return float(known)


# Sinks ----------------------------------------------------------------------------------------------------------------
def check_sinks(sinks: Shaped | None, heads: int) -> None:
    """Errors: `InputError` for sinks that are not one float for each query head."""
    if sinks is None:
        return
    is_floats = hasattr(sinks, "dtype") and jnp.issubdtype(sinks.dtype, jnp.floating)
    if not is_floats or tuple(sinks.shape) != (heads,):
        what = type(sinks).__name__
        if hasattr(sinks, "dtype"):
            what = f"{sinks.dtype} of shape {tuple(sinks.shape)}"
        raise InputError(f"sinks are {what}: needed are floats [{heads}], a logit for each query head, or None")


def with_sinks(out_BTNU: jax.Array, lse_BNT: Any, sinks_N: jax.Array | None) -> tuple[jax.Array, Any]:
    """The output and the log-sum-exp with one more logit in the denominator, whose value is 0.

    Without sinks both as they are. With the log-sum-exp that a backend returns this is a factor, `sigmoid(lse - sink)`.
    A row that saw nothing stays 0, and one without a meaning NaN.
    """
    if sinks_N is None:
        return out_BTNU, lse_BNT
    void = jnp.isnan(lse_BNT)
    # NaN marks a row, and may not reach the gradient of the sinks, which all rows share.
    lse = jnp.where(void, 0.0, lse_BNT)
    sinks = sinks_N.astype(jnp.float32)[None, :, None]
    share_BNT = jax.nn.sigmoid(lse - sinks)
    joined_BNT = jnp.logaddexp(lse, sinks)
    void_BTN = void.swapaxes(1, 2)
    share_BTN = share_BNT.swapaxes(1, 2)
    real = jnp.where(void_BTN[..., None], 0.0, out_BTNU.astype(jnp.float32))
    out = real * share_BTN[..., None]
    out = jnp.where(void_BTN[..., None], jnp.nan, out)
    joined_BNT = jnp.where(void, jnp.nan, joined_BNT)
    return out.astype(out_BTNU.dtype), joined_BNT
