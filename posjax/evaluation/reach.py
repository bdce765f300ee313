"""How far each head reaches by its bias alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp
import numpy as np

from posjax.encodings import Head
from posjax.errors import InputError
from posjax.evaluation.base import Evaluation
from posjax.evaluation.variants import TrainedModel
from posjax.fields import AtLeast, check_fields
from posjax.models import Architecture
from posjax.models.plans import plan
from posjax.results import Measurement


@dataclass(frozen=True)
class Reach(Evaluation):
    """At which distance the weight of a head's bias is down to a share, where content says nothing.

        reach = the distance past which exp(bias(distance) - largest bias) <= left

    With ALiBi's slopes it is -ln(left) / slope: 1,768 tokens to a thousandth for the widest head of any power of two of
    them. Between whole distances the bias counts as linear. Metric `reach`, by `layer`, `head` and `left`; a head whose
    bias is above that share at the `furthest` distance has no measurement, since it never lets go.

    What is learned of a bias is as it was trained; what else an encoding does, such as a rotation, has no part in it.

    Errors: `InputError` for a model without a bias by distance, whose mean score by distance is the `score` of
    `Extrapolation`; for shares that are not between 0 and 1.
    """

    name: ClassVar[str] = "reach"

    left: tuple[float, ...] = (0.5, 0.001)
    furthest: Annotated[int, AtLeast(1, "a distance in tokens")] = 2**16

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.left or not all(0 < share < 1 for share in self.left):
            raise InputError(f"Reach got left={self.left}: needed are shares of the largest weight between 0 and 1")

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        kinds = {encoding.bias_kind for encoding, _ in model.main_stack.encodings(model.width)}
        if "relative" not in kinds:
            raise InputError(
                f"Reach measures a bias by distance, and {model.encoding!r} has none: leave it out, and read the mean "
                "score by distance that Extrapolation gives"
            )

    def run(self, trained_model: TrainedModel, data: Any, seed: int) -> Iterator[Measurement]:
        architecture = trained_model.architecture
        self.rehearse(architecture, trained_model.model.vocabulary, trained_model.trained_length)
        for layer, owner in enumerate(_owners(architecture)):
            # In a pattern some layers may have none.
            if owner is None:
                continue
            bias_ND = self._bias(trained_model, owner)
            for head, bias_D in enumerate(bias_ND):
                for left in self.left:
                    reach = distance_left(bias_D, left)
                    if math.isfinite(reach):
                        yield Measurement("reach", reach, coordinates={"layer": layer, "head": head, "left": left})

    def _bias(self, trained_model: TrainedModel, owner: str) -> np.ndarray:
        """The bias of each head at the distances from 0 on, float64 `[N, furthest + 1]`."""
        model, architecture = trained_model.model, trained_model.architecture
        stack = architecture.main_stack
        encoding, dims = plan(stack, architecture.width).owners[owner]
        learned = model.encodings[architecture.main][owner].get_value()
        params = encoding.join(learned, encoding.constants(dims))
        # Whole distances up to far beyond any window here: the widest heads reach many times the trained length.
        distances = jnp.arange(self.furthest + 1, dtype=jnp.int32)
        heads = [encoding.by_distance(params, distances, Head(n, dims.heads)) for n in range(dims.heads)]
        return np.array(heads, np.float64)


def _owners(architecture: Architecture) -> list[str | None]:
    """For each attention in the order of layers, under which name its encoding learns, where it has a relative bias."""
    layers = plan(architecture.main_stack, architecture.width)
    kinds = dict(layers.kinds)
    found: list[str | None] = []
    for names in layers.layers:
        for name in names:
            # A feed-forward looks at no tokens.
            if name is None:
                continue
            owner = None
            if kinds[name].encoding.bias_kind == "relative":
                owner = kinds[name].owner
            found.append(owner)
    return found


def distance_left(bias: np.ndarray, left: float) -> float:
    """The distance past which the weight of a bias by distance stays at a share `left` of the largest, or infinity.

    >>> round(distance_left(-0.25 * np.arange(100), 0.001), 2)
    27.63
    >>> distance_left(np.zeros(100), 0.5)
    inf
    """
    threshold = bias.max() + math.log(left)
    # The last one above counts, and not the first below: a learned bias may fall and rise again.
    (above,) = np.nonzero(bias > threshold)
    last = int(above[-1])
    if last + 1 == len(bias):
        return math.inf
    # Linear between the last distance above and the next one, at which it is below.
    fallen = (bias[last] - threshold) / (bias[last] - bias[last + 1])
    return last + float(fallen)
