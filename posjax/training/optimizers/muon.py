"""Muon for the maps between hidden layers and AdamW for the rest, both built by optax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from posjax.fields import Above, AtLeast
from posjax.training.optimizers.base import Optimizer
from posjax.training.optimizers.matrices import decaying, each, is_hidden, matrix_axes


@dataclass(frozen=True)
class Muon(Optimizer):
    """Muon: a kernel between hidden layers, as the matrix that it multiplies by, moves by the mean of its gradients
    with all singular values drawn near 1, in `iterations` of Newton and Schulz. Embeddings, heads, norms and what an
    encoding learns go by AdamW, at `adam_learning_rate` and the same schedule; `None`: at the same peak too.

    A matrix of m rows and n columns moves by `rms` * sqrt(max(m, n)) times that, which makes a step as long as AdamW's
    usually is, so that one learning rate and one decay serve both. `rms=None` takes sqrt(max(1, n / m)) instead, as the
    optimiser was first published: there the learning rate was 0.02, AdamW's 3e-4 and the decay 0.

    Errors: `InputError` for moments' shares outside [0, 1), numbers outside their ranges, or as `Optimizer`.
    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; `rms` and the decay are those of Liu et al.
    2025, arXiv:2502.16982, section 2.2.
    """

    beta: float = 0.95
    iterations: Annotated[int, AtLeast(1)] = 5
    rms: Annotated[float | None, Above(0)] = 0.2
    weight_decay: Annotated[float, AtLeast(0, hint=", about 0.1")] = 0.1
    adam_learning_rate: Annotated[float | None, Above(0)] = None
    b1: float = 0.9
    b2: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_moments("beta", "b1", "b2")

    def transform(self, rate: optax.Schedule) -> optax.GradientTransformation:
        hidden = muon(
            rate,
            ns_steps=self.iterations,
            beta=self.beta,
            weight_decay=self.weight_decay,
            muon_weight_dimension_numbers=_dimensions,
            consistent_rms=self.rms,
        )
        # Not muon's own AdamW, which would let norms and biases decay.
        rest = optax.adamw(self._adam_rate(rate), b1=self.b1, b2=self.b2, weight_decay=self.weight_decay, mask=decaying)
        return optax.partition({"hidden": hidden, "rest": rest}, _labels)

    def _adam_rate(self, rate: optax.Schedule) -> optax.Schedule:
        if self.adam_learning_rate is None:
            return rate
        # One shape over the steps for both: only the peaks differ.
        share = self.adam_learning_rate / self.learning_rate
        return lambda step: share * rate(step)


def _labels(params: Any) -> Any:
    """By which of the two each parameter goes."""

    def label(path: Any, parameter: jax.Array) -> str:
        if is_hidden(path):
            return "hidden"
        return "rest"

    return jax.tree_util.tree_map_with_path(label, params)


def _dimensions(kernels: Any) -> Any:
    """Of each kernel, the axes that its matrix sums over and those that it makes."""

    def dimensions(path: Any, kernel: jax.Array, layers: int) -> MuonDimensionNumbers:
        # Told and not reshaped, so that the moment keeps the kernel's own shape and place.
        rows, columns = matrix_axes(path, kernel, layers)
        return MuonDimensionNumbers(rows, columns)

    return each(dimensions, kernels)
