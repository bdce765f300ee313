"""The optimiser as a value: AdamW with warm-up, cosine decay and clipping, built by optax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from posjax.errors import InputError
from posjax.fields import check_fields


@dataclass(frozen=True)
class AdamW:
    """AdamW. Over the first `warmup` share of the steps, w of them, the learning rate rises linearly: from 1/w of its
    peak at the first step, which moves already, to the peak. Then it falls along a cosine, to `final` times the peak at
    the last step. Gradients are clipped to a global norm of `clip`; matrices alone decay by `weight_decay`.

    Errors: `InputError` for a learning rate that is not positive, shares outside [0, 1], moments' shares outside
    [0, 1), or a negative decay.
    Source: Loshchilov and Hutter 2017, arXiv:1711.05101.
    """

    learning_rate: float = 3e-3
    warmup: float = 0.05
    final: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.learning_rate > 0:
            raise InputError(
                f"AdamW got learning_rate={self.learning_rate}: needed is a positive number, about 3e-3 "
                "for a small model"
            )
        for name in ("warmup", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"AdamW got {name}={getattr(self, name)}: needed is a share in [0, 1]")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"AdamW got {name}={getattr(self, name)}: needed is a share in [0, 1), near 1")
        if self.weight_decay < 0:
            raise InputError(f"AdamW got weight_decay={self.weight_decay}: needed is 0 or more, about 0.1")
        if not self.clip > 0:
            raise InputError(f"AdamW got clip={self.clip}: needed is a positive norm; a large one switches it off")

    def schedule(self, steps: int) -> optax.Schedule:
        """The learning rate by step, the first being step 0."""
        warmup = max(1, round(self.warmup * steps))
        # optax refuses a decay of no steps, which is all that a run of one step has left.
        end = max(steps, warmup + 1)
        after = optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, warmup, end, self.final * self.learning_rate
        )
        # By how many steps have ended after it: optax's own count would waste the first step on a rate of 0.
        return lambda step: after(step + 1)

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optax transformation for a run of that many steps."""

        def matrices(params: Any) -> Any:
            return jax.tree_util.tree_map_with_path(_decays, params)

        adamw = optax.adamw(self.schedule(steps), b1=self.b1, b2=self.b2, weight_decay=self.weight_decay, mask=matrices)
        # Clipped before the moments see it: one wild gradient would stay in them for many steps.
        return optax.chain(_clip(self.clip), adamw)


def norm(gradients: Any) -> jax.Array:
    """The norm of all gradients together."""
    return optax.tree.norm(_as_matrices(gradients))


def _clip(largest: float) -> optax.GradientTransformation:
    """Gradients scaled down to a norm where theirs is larger."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        size = norm(updates)
        scaled = jax.tree.map(lambda x: jnp.where(size < largest, x, x / size * largest), updates)
        return scaled, state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _as_matrices(gradients: Any) -> Any:
    """Kernels of more than two axes as the matrices that they multiply by.

    A sum rounds by the axes that it runs over: so a norm, and a run that it clips, is the same whether a kernel keeps
    heads and their channels apart or not.
    """

    def matrix(path: Any, gradient: jax.Array) -> jax.Array:
        if gradient.ndim <= 2:
            return gradient
        # What leads back to the stream ends in its axis, and all others begin with it.
        if "out" in _names(path):
            return gradient.reshape(-1, gradient.shape[-1])
        return gradient.reshape(gradient.shape[0], -1)

    return jax.tree_util.tree_map_with_path(matrix, gradients)


def _decays(path: Any, parameter: jax.Array) -> bool:
    """Whether a parameter is pulled to zero: maps and tables are."""
    # Scales of norms and biases have a size of their own, also where they have one for each head and channel.
    return parameter.ndim >= 2 and not _names(path) & {"scale", "bias"}


def _names(path: Any) -> set[str]:
    """The names of the modules that hold a parameter, and its own."""
    return {str(getattr(key, "key", "")) for key in path}
