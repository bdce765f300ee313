"""Adafactor, built by optax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import optax

from posjax.fields import Above, AtLeast
from posjax.training.optimizers.base import LearningRate, Optimizer
from posjax.training.optimizers.matrices import as_matrix, each, stacked


@dataclass(frozen=True)
class Adafactor(Optimizer):
    """Adafactor: of the mean of the squares of a matrix's gradients it keeps one number for each row and one for each
    column. A matrix with a side below `factor_from` keeps all of them.

    At step t a mean keeps a share of 1 - t^-`decay` of what it was. An update whose root mean square is above
    `threshold` is scaled down to it. The learning rate is a share of each parameter's own root mean square, or an
    absolute one where `relative` is off. There is no first moment and no weight decay.

    Errors: `InputError` for a number outside its range, or as `Optimizer`.
    Source: Shazeer and Stern 2018, arXiv:1804.04235, algorithms 4 and 5 and section 9. The paper's learning rate is at
    most 1e-2, which is the peak here, and falls as 1 / sqrt(t). That small matrices stay whole is T5X's and optax's.
    """

    learning_rate: LearningRate = 1e-2
    decay: Annotated[float, Above(0)] = 0.8
    threshold: Annotated[float, AtLeast(1)] = 1.0
    factor_from: Annotated[int, AtLeast(2)] = 128
    relative: bool = True

    def transform(self, rate: optax.Schedule) -> optax.GradientTransformation:
        adafactor = optax.adafactor(
            rate,
            min_dim_size_to_factor=self.factor_from,
            decay_rate=self.decay,
            multiply_by_parameter_scale=self.relative,
            clipping_threshold=self.threshold,
        )
        return _by_layer(self._of_matrices(adafactor))

    def _of_matrices(self, inner: optax.GradientTransformation) -> optax.GradientTransformation:
        """A transformation that sees kernels as the matrices that they multiply by.

        optax would factor a kernel `[D, N, H]` over its two largest axes, of which the channels of a head are one: too
        short mostly, and a table of its own for each head.
        """

        def init(params: Any) -> Any:
            return inner.init(self._factored(params))

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            # The parameters too: the learning rate is a share of their size.
            changed, state = inner.update(self._factored(updates), state, self._factored(params))
            return jax.tree.map(lambda new, old: new.reshape(old.shape), changed, updates), state

        return optax.GradientTransformation(init, update)

    def _factored(self, params: Any) -> Any:
        """The parameters, those kernels as matrices that are large enough to factor."""

        def seen(path: Any, parameter: jax.Array) -> jax.Array:
            matrix = as_matrix(path, parameter)
            # What keeps all of its squares keeps its shape too, and its state lies on a mesh where it does.
            if matrix.ndim < 2 or min(matrix.shape) < self.factor_from:
                return parameter
            return matrix

        return jax.tree_util.tree_map_with_path(seen, params)


def _by_layer(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """A transformation that sees layers which are held as one as the layers that they are.

    Its sizes are those of a parameter: over all layers together they would be other ones.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # By position, which is what is mapped over.
        return inner.update(updates, state, params)

    each_layer = optax.GradientTransformation(jax.vmap(inner.init), jax.vmap(update))
    both = optax.partition({"layers": each_layer, "one": inner}, _labels)

    def chosen(params: Any) -> optax.GradientTransformation:
        # Nothing can be mapped over where no layer is held with others.
        if stacked(params):
            return both
        return inner

    def init(params: Any) -> Any:
        return chosen(params).init(params)

    def change(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return chosen(updates).update(updates, state, params)

    return optax.GradientTransformation(init, change)


def _labels(params: Any) -> Any:
    return each(lambda path, parameter, layers: ("one", "layers")[layers], params)
