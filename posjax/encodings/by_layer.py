"""Different encodings for different layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax

from posjax.encodings.base import Encoding, Head, Params, Role
from posjax.encodings.by_side import BySide
from posjax.errors import InputError


@dataclass(frozen=True)
class ByLayer(BySide):
    """One encoding for each layer of a model, in turn; made by `by_layer`."""

    @property
    def layers(self) -> int:
        return len(self.parts)

    def of_layer(self, layer: int, params: Params) -> tuple[Encoding, Params]:
        # In turn, from the first again where the layers are more than the parts.
        at = layer % len(self.parts)
        return self.with_params(params)[at]

    @property
    def bias_kind(self) -> Literal["none", "relative", "pairwise"]:
        # Whatever its parts are: so `bias` is asked, and can say what is missing.
        return "pairwise"

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        raise no_layer(self)

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        raise no_layer(self)

    def __repr__(self) -> str:
        return f"by_layer({', '.join(map(repr, self.parts))})"


def no_layer(encoding: Encoding) -> InputError:
    """What is said where an encoding that differs by layer is used as if it were one."""
    return InputError(
        f"{encoding!r} has an encoding for each layer and no layer was named: take one of its parts, or "
        "by_layer(...).of_layer(i, params)"
    )


def by_layer(*encodings: Encoding) -> Encoding:
    """The layers of a model take these encodings in turn: `by_layer(Rope(), Rope(), Rope(), NoPE())` leaves every
    fourth without positions; `by_layer(Rope(base=1e4), Rope(base=1e6))` alternates local and global bases.

        layer l takes encodings[l mod count]

    What embeds does so once, before the first layer.

    Convention: layers are numbered from 0, the one after the embedding.

    Good at: models that mix kinds of layers, as those with NoPE between RoPE layers (Yang et al.) or with local and
    global bases (Gemma 3).
    Bad at: use outside a model: without a layer it has no meaning, and says so; parts may not score content or move
    positions.

    Errors: `InputError` for no encoding or one that scores content.
    Source: Yang et al. 2025, arXiv:2501.18795 (RoPE and NoPE in turn); Gemma Team 2025, arXiv:2503.19786 (local and
    global bases).

    >>> from posjax.encodings.rope import Rope
    >>> from posjax.encodings.base import NoPE
    >>> by_layer(Rope(), NoPE()).of_layer(3, {"0": {}, "1": {}})[0]
    NoPE()
    """
    return ByLayer(tuple(encodings))
