"""How scores fall with the distance between query and key: what the encoding alone does, before any training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from posjax.encodings import phases
from posjax.encodings.traits import defines, embeds
from posjax.errors import InputError
from posjax.evaluation.base import Evaluation
from posjax.evaluation.in_model import EncodingInModel, encodings_in, require_one_coordinate
from posjax.evaluation.variants import TrainedModel
from posjax.fields import check_fields
from posjax.models import Architecture
from posjax.results import Measurement, interval

EQUAL = "equal"
INDEPENDENT = "independent"
POSITIONS = "positions"
OF = (EQUAL, INDEPENDENT, POSITIONS)
"""Which vectors: a query and keys that are one random vector, two without anything in common, and none at all."""
RISE = 1e-6
"""A step rises by more than this part of a curve's size: less is the rounding of its sums."""


@dataclass(frozen=True)
class Decay(Evaluation):
    """Scores by distance of random vectors, which go the way of tokens through the encoding and no other weight.

    A query stands at the largest of `distances`, with the same key at every distance before it. `draws` such pairs are
    taken of each kind: `of` "equal" has one vector as query and key, "independent" two with nothing in common,
    and "positions" no token at all, so that what is embedded meets itself.

        score             the mean over draws and heads, with its interval
        score_deviation   the standard deviation over draws, and score_size the mean of the absolute value
        bound             RoFormer's mean of |S_j| over the pairs, over that at distance 0, for rotary encodings
        bias              what is added, by head
        rising_share      of all steps from a distance to the next, up to the largest, those on which the mean rises
        rising_share_of_pairs   the same of each pair's own scores, averaged

    A monotone decay has a `rising_share` of 0. Parameters are the model's own, so a bias that is learned is what
    training left, and before training what was drawn. Distances that a table does not hold are left out.

    Errors: `InputError` unless the distances begin with 0 and rise, and for positions of several coordinates.
    Source: Su et al. 2021, arXiv:2104.09864, section 3.4.3 (the bound).
    """

    distances: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 320, 384, 448, 512)
    draws: int = 64

    name: ClassVar[str] = "decay"

    def __post_init__(self) -> None:
        check_fields(self, positive=("draws",))
        if self.distances[:1] != (0,) or sorted(set(self.distances)) != list(self.distances):
            raise InputError(
                f"Decay got distances={self.distances}: needed are rising distances that begin with 0, such as 0 1 2 4"
            )

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        require_one_coordinate(model, "Decay")

    def smaller(self) -> Decay:
        return replace(self, distances=self.distances[:2], draws=2)

    def run(self, trained_model: TrainedModel, data: Any, seed: int) -> Iterator[Measurement]:
        most = trained_model.architecture.max_length
        # The query stands as far on as its furthest key is back, and a table may have no such row.
        at = [distance for distance in self.distances if most is None or distance < most]
        distances = np.array(at)
        for one in encodings_in(trained_model, at[-1] + 1):
            for found in self._of_encoding(one, distances, seed):
                yield found.placed(**one.coordinates)

    def _of_encoding(self, one: EncodingInModel, distances: np.ndarray, seed: int) -> Iterator[Measurement]:
        kinds = [EQUAL, INDEPENDENT]
        # Without tokens a rotation turns nothing: only what is added to them remains.
        if embeds(one.encoding):
            kinds.append(POSITIONS)
        curves = _curves(one, int(distances[-1]))
        for kind in kinds:
            drawn = curves(seed, kind, self.draws)
            yield from _scores(drawn, kind, distances)
        if defines(one.encoding, "bias"):
            yield from _biases(one, distances)
        bound = roformer_bound(one, int(distances[-1]))
        if bound is not None:
            for distance in distances:
                yield Measurement("bound", float(bound[distance]), coordinates={"distance": int(distance)})
            yield _rising(bound, "bound")


def _curves(one: EncodingInModel, furthest: int) -> Any:
    """A function of (seed, kind, draws) to scores by distance from 0 on, float32 `[draws, N, furthest + 1]`."""
    at = jnp.arange(furthest + 1, dtype=jnp.int32)
    size = one.dims.model_size

    @jax.jit
    def by_distance(keys: jax.Array, kind: jax.Array) -> jax.Array:
        def of_draw(key: jax.Array) -> jax.Array:
            query, other = jax.random.normal(key, (2, size))
            # The kind is data, so that one program serves all of them.
            silent = kind == OF.index(POSITIONS)
            query = jnp.where(silent, 0.0, query)
            token = jnp.where(kind == OF.index(INDEPENDENT), other, query)
            tokens = jnp.broadcast_to(token, (furthest + 1, size))
            scores = one.scores(query[None], tokens, at[-1:], at)
            # The last key stands at the query itself.
            return scores[:, 0, ::-1]

        # One draw after another: together they would hold every key of every draw.
        return jax.lax.map(of_draw, keys)

    def drawn(seed: int, kind: str, draws: int) -> np.ndarray:
        # Without tokens there is nothing to draw, and every draw is the same.
        if kind == POSITIONS:
            draws = 1
        keys = jax.random.split(jax.random.key(seed), draws)
        return np.asarray(by_distance(keys, jnp.int32(OF.index(kind))), np.float64)

    return drawn


def _scores(drawn: np.ndarray, kind: str, distances: np.ndarray) -> Iterator[Measurement]:
    """What scores `[draws, N, furthest + 1]` of one kind come to."""
    draws = len(drawn)
    # Heads of one draw share its vector, so a draw is one sample.
    of_draws = drawn.mean(axis=1)
    for distance in distances:
        coordinates = {"of": kind, "distance": int(distance)}
        values = of_draws[:, distance]
        mean = float(values.mean())
        half = interval(values)
        yield Measurement("score", mean, mean - half, mean + half, draws, coordinates)
        if draws > 1:
            # Within each head: heads of other slopes are apart without any spread.
            variance = drawn[:, :, distance].var(axis=0, ddof=1)
            deviation = float(np.sqrt(variance.mean()))
            yield Measurement("score_deviation", deviation, count=draws, coordinates=coordinates)
            size = float(np.abs(drawn[:, :, distance]).mean())
            yield Measurement("score_size", size, count=draws, coordinates=coordinates)
    yield _rising(of_draws.mean(axis=0), kind)
    if draws > 1:
        shares = np.array([rising_share(curve) for curve in drawn.reshape(-1, drawn.shape[-1])])
        share = float(shares.mean())
        half = interval(shares)
        coordinates = {"of": kind}
        yield Measurement("rising_share_of_pairs", share, share - half, share + half, len(shares), coordinates)


def _biases(one: EncodingInModel, distances: np.ndarray) -> Iterator[Measurement]:
    """The bias of each head by distance, at the query that stands furthest on."""
    at = jnp.arange(int(distances[-1]) + 1, dtype=jnp.int32)
    made = one.bias(at[-1:], at)
    # Keys stand in order of position, the nearest one last.
    biases = np.asarray(made, np.float64)[:, 0, ::-1]
    for head, by_distance in enumerate(biases):
        for distance in distances:
            coordinates = {"head": head, "distance": int(distance)}
            yield Measurement("bias", float(by_distance[distance]), coordinates=coordinates)
    yield _rising(biases.mean(axis=0), "bias")


def roformer_bound(one: EncodingInModel, furthest: int) -> np.ndarray | None:
    """`mean_j |S_j|`, `S_j = sum_{i < j} exp(i d theta_i)`, by distance d over that at 0, float64 `[furthest + 1]`.

    The bound of a score is this times the largest difference of neighbouring products of pairs. `None` where it is not
    a rotary encoding alone that turns.
    """
    rotary = one.rotary()
    if rotary is None:
        return None
    _, constants = rotary
    # The frequencies in force, whatever schedule made them.
    at = jnp.arange(furthest + 1, dtype=jnp.int32)
    cos, sin = phases.cos_sin(at, jnp.asarray(constants["turns"]))
    turned = np.asarray(cos, np.float64) + 1j * np.asarray(sin, np.float64)
    sums = np.cumsum(turned, axis=1)
    bound = np.abs(sums).mean(axis=1)
    return bound / bound[0]


def rising_share(curve: np.ndarray) -> float:
    """The share of steps on which a curve rises.

    >>> rising_share(np.array([3.0, 2.0, 2.5, 1.0, 1.0]))
    0.25
    """
    steps = np.diff(curve)
    # One point has no step, and a mean of none would be no number.
    if not len(steps):
        return 0.0
    size = np.abs(curve).max()
    return float(np.mean(steps > RISE * size))


def _rising(curve: np.ndarray, of: str) -> Measurement:
    return Measurement("rising_share", rising_share(curve), count=len(curve) - 1, coordinates={"of": of})
