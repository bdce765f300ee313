"""Attention with linear biases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings.base import Dims, Head, Params, RelativeBias, complete
from posjax.encodings.ranges import Factor
from posjax.errors import InputError


def slopes(heads: int) -> np.ndarray:
    """The published slopes, float64 `[N]`, head 0 the steepest of a power of two.

    `2^(-8h/N)` for h = 1 .. N where N is a power of two; otherwise those of the power of two below, then every other
    slope of twice that.

    >>> slopes(6).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]
    """
    power = 2 ** int(math.log2(heads))
    regular = [2.0 ** (-8 * h / power) for h in range(1, power + 1)]
    # Every other slope of twice as many heads falls between two of these: no head repeats another's.
    between = [2.0 ** (-4 * h / power) for h in range(1, 2 * power + 1, 2)]
    return np.array(regular + between[: heads - power])


BLIND = -1e9
"""The bias of a side that a head does not see: finite, so that a row of such keys alone stays a number."""


@dataclass(frozen=True)
class Alibi(RelativeBias):
    """A penalty that grows linearly with the distance, with a slope for each head.

        bias = -slope_h * d / factor,   d = q_position - k_position

    `direction`: "causal" is for keys at or before the query. "symmetric" takes |d|, and so cannot tell left from
    right. The two ways out: "asymmetric" gives each direction its own slopes, every second of 2N looking back and the
    others ahead; "halves" lets the even heads look back and the odd ones ahead, each blind to the other side;
    a query that sees no key on that side, nor itself, gets the mean of all.
    `learned`: slopes are trained, from the published ones. `factor`: interpolation, the extended length divided by
    the trained one, so that the largest distance is penalised no more than in training. `given_slopes`: positive ones
    of your own in place of the published, one for each head or one for all; two a head, back and ahead, for
    "asymmetric".

    Convention: added after 1/sqrt(H); distances are subtracted as integers. In the causal direction keys ahead of the
    query get no penalty, and `attend` asks for a causal mask. Trained slopes are stored as logarithms, so they stay
    positive: `log_slopes` `[N]`, or `[N, 2]` for "asymmetric".

    Good at: loss that stays flat many times past the trained length, without training longer (Press et al.).
    Bad at: far context: much of that flatness is a soft window, and retrieval from afar fails where the loss is
    flat. With 2^n heads the flattest puts a key 1,768 tokens away at a thousandth.

    Errors: `InputError` for another direction, a factor below 1, and given slopes that are not positive or of another
    number.
    Source: Press et al. 2021, arXiv:2108.12409, section 3; for both directions its authors' remark in their
    repository, that half of the heads may look each way.

    >>> import jax.numpy as jnp
    >>> Alibi().bias({}, jnp.arange(3), jnp.arange(3), Head(0, 8))[2].tolist()
    [-1.0, -0.5, -0.0]
    >>> Alibi(given_slopes=(0.25,)).bias({}, jnp.arange(3), jnp.arange(3), Head(0, 8))[2].tolist()
    [-0.5, -0.25, -0.0]
    """

    direction: Literal["causal", "symmetric", "asymmetric", "halves"] = "causal"
    learned: bool = False
    factor: Factor = 1.0
    given_slopes: tuple[float, ...] | None = None

    swept = ("factor",)

    def __post_init__(self) -> None:
        super().__post_init__()
        # A slope of zero has no logarithm to train, and a head without a bias is that of another encoding.
        if self.given_slopes is not None and min(self.given_slopes, default=1.0) <= 0:
            raise InputError(
                f"Alibi got given_slopes={self.given_slopes}: needed are positive numbers, one for each head or one "
                "for all"
            )

    @property
    def causal(self) -> bool:
        return self.direction == "causal"

    def init(self, key: jax.Array, dims: Dims) -> Params:
        if not self.learned:
            return {}
        published = self._slopes(dims.heads)
        # As logarithms, since a slope that training took below zero would reward distance.
        wide = jnp.asarray(published, jnp.float32)
        return {"log_slopes": jnp.log(wide)}

    def constants(self, dims: Dims) -> Params:
        made: dict[str, Any] = {"rate": np.float32(1 / self.factor)}
        if not self.learned:
            published = self._slopes(dims.heads)
            made["slopes"] = published.astype(np.float32)
        return made

    def _slopes(self, heads: int) -> np.ndarray:
        """`[N]`, or `[N, 2]` with the slopes back and ahead."""
        if self.given_slopes is not None:
            return self._given(self.given_slopes, heads)
        if self.direction == "asymmetric":
            rising = np.sort(slopes(2 * heads))
            falling = rising[::-1]
            return falling.reshape(heads, 2)
        if self.direction == "halves":
            # Pairs of heads share a slope, one for each side, so that neither side lacks the steep or the flat ones.
            pairs = (heads + 1) // 2
            twice = np.repeat(slopes(pairs), 2)
            return twice[:heads]
        return slopes(heads)

    def _given(self, given: tuple[float, ...], heads: int) -> np.ndarray:
        shape: tuple[int, ...] = (heads,)
        if self.direction == "asymmetric":
            shape = (heads, 2)
        needed = math.prod(shape)
        # One for all in both directions would be "symmetric" under another name.
        one_for_all = len(given) == 1 and self.direction != "asymmetric"
        if len(given) != needed and not one_for_all:
            raise InputError(
                f"Alibi got {len(given)} given_slopes for {heads} heads of direction {self.direction!r}: needed are "
                f"{needed}, and one serves all but asymmetric ones"
            )
        # Written out for all heads, so that whoever splits them finds each one's.
        return np.resize(np.array(given, np.float64), shape)

    def _rates(self, params: Params, heads: int) -> jax.Array:
        """The slopes in force: published or trained, interpolated."""
        held = complete(self, params, Dims(heads=heads))
        if self.learned:
            logarithms = held["log_slopes"].astype(jnp.float32)
            in_force = jnp.exp(logarithms)
        else:
            in_force = jnp.asarray(held["slopes"])
        return in_force * held["rate"]

    def slopes(self, params: Params, heads: int) -> jax.Array | None:
        # The two others have another slope, or none, on the other side: no line in the distance says that.
        if self.direction not in ("causal", "symmetric"):
            return None
        return self._rates(params, heads)

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        rates = self._rates(params, head.count)
        slope = head.of(rates)
        if self.direction == "causal":
            # Clipped, so that a bias is bounded also where no mask hides what is ahead.
            back = jnp.maximum(distance, 0)
            return -slope * back.astype(jnp.float32)
        far = jnp.abs(distance.astype(jnp.float32))
        if self.direction == "asymmetric":
            of_side = jnp.where(distance > 0, slope[0], slope[1])
            return -of_side * far
        if self.direction == "symmetric":
            return -slope * far
        looks_back = jnp.asarray(head.index) % 2 == 0
        # A token sees itself whichever way its head looks, so that no row is blind.
        on_its_side = (distance > 0) == looks_back
        sees = (distance == 0) | on_its_side
        return jnp.where(sees, -slope * far, BLIND)
