"""Different encodings for different heads, and for different layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from posjax.encodings.base import Dims, Encoding, Head, Params, Role
from posjax.encodings.several import _Several
from posjax.errors import InputError


@dataclass(frozen=True)
class _BySide(_Several):
    """Parts of which each serves some heads or layers alone, so none may act on all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()

        def wrong(part: object) -> bool:
            return not isinstance(part, Encoding) or part.scores_content or part.moves_tokens or part.layers > 1

        if not self.parts or any(map(wrong, self.parts)):
            raise InputError(
                f"{type(self).__name__} got {self.parts!r}: needed is one encoding or more, none of which "
                "scores content, moves positions or varies over the layers; chain such a one beside it"
            )


@dataclass(frozen=True)
class ByHead(_BySide):
    """The heads in as many equal groups as there are parts, each with its own encoding; made by `by_head`."""

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        from posjax.encodings.alibi import Alibi
        from posjax.encodings.base import NoPE
        from posjax.encodings.rope import Rope

        return (cls((Rope(), NoPE(), Alibi())),)

    def _dims(self, dims: Dims) -> Dims:
        return Dims(self._group(dims.heads), dims.head_size, dims.model_size)

    def _group(self, heads: int) -> int:
        if heads % len(self.parts):
            raise InputError(
                f"by_head has {len(self.parts)} encodings and got {heads} heads: needed is a number of "
                "query and of key-value heads that divides among them"
            )
        return heads // len(self.parts)

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        self._group(x.shape[-2])
        groups = jnp.split(x, len(self.parts), axis=-2)
        return jnp.concatenate(
            [
                part.rotate(own, group, positions, role)
                for (part, own), group in zip(self._with(params), groups, strict=True)
            ],
            axis=-2,
        )

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        return self._chosen(lambda part, own, local: part.bias(own, q_positions, k_positions, local), params, head)

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        def one(part: Encoding, own: Params, local: Head) -> jax.Array:
            flat = jnp.zeros(distance.shape, jnp.float32)
            return flat if part.bias_kind == "none" else part.by_distance(own, distance, local)

        return self._chosen(one, params, head)

    def _chosen(self, one: object, params: Params, head: Head) -> jax.Array:
        """Every group's answer for this head, of which the head's own group's is taken: the index may be traced."""
        size = self._group(head.count)
        index = jnp.asarray(head.index)
        answers = [
            one(part, own, Head(jnp.clip(index - i * size, 0, size - 1), size))  # type: ignore[operator]
            for i, (part, own) in enumerate(self._with(params))
        ]
        return jax.lax.select_n(jnp.broadcast_to(index // size, answers[0].shape), *answers)

    @property
    def bias_kind(self) -> Literal["none", "relative", "pairwise"]:
        kinds = {part.bias_kind for part in self.parts}
        return "pairwise" if "pairwise" in kinds else "relative" if "relative" in kinds else "none"

    def __repr__(self) -> str:
        return f"by_head({', '.join(map(repr, self.parts))})"


def by_head(*encodings: Encoding) -> Encoding:
    """The heads in equal groups, one for each encoding, in order: `by_head(Rope(), NoPE())` turns the first half.

        head n takes encodings[n // (N / count)]

    With grouped queries the key-value heads are divided in the same way.

    Convention: heads are numbered from 0; a part sees its own group alone: ALiBi has the slopes of so many heads.

    Good at: heads of different kinds in one layer: some with positions and some without, some near and some far.
    Bad at: head counts that do not divide; and cost, since each head evaluates every part's bias and takes its own.

    Errors: `InputError` for no encoding, one that scores content, and, once known, heads that do not divide.
    Source: none; a combinator of this library.

    >>> from posjax.encodings.rope import Rope
    >>> from posjax.encodings.base import NoPE
    >>> by_head(Rope(), NoPE()).parts[1]
    NoPE()
    """
    return ByHead(tuple(encodings))


@dataclass(frozen=True)
class ByLayer(_BySide):
    """One encoding for each layer of a model, in turn; made by `by_layer`."""

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return ()  # No layer, no encoding: models resolve it by `of_layer`, and their tests hold it.

    def of_layer(self, layer: int, params: Params) -> tuple[Encoding, Params]:
        at = layer % len(self.parts)
        return self._with(params)[at]

    @property
    def layers(self) -> int:
        return len(self.parts)

    def _refuse(self) -> InputError:
        return InputError(
            f"{self!r} has an encoding for each layer and no layer was named: take one of its parts, or "
            "by_layer(...).of_layer(i, params)"
        )

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        raise self._refuse()

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        raise self._refuse()

    def __repr__(self) -> str:
        return f"by_layer({', '.join(map(repr, self.parts))})"


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
