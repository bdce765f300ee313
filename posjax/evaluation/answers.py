"""What a model with other encodings makes of rows that say which targets count."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posjax.data import Documents, begun
from posjax.data.source import Row
from posjax.encodings import Encoding
from posjax.evaluation.batching import in_batches, joined
from posjax.evaluation.variants import TrainedModel
from posjax.models import Transformer, constants_of, cross_entropy


def as_trained(encoding: Encoding) -> Encoding:
    """The change of encodings that changes nothing."""
    return encoding


def answers(trained_model: TrainedModel, change: Callable[[Encoding], Encoding], rows: Row) -> np.ndarray:
    """Each row's mean loss in nats, and its share of right answers, over the targets that count: `[2, n]`.

    `rows` hold `inputs`, `targets` and `weights`, each `[n, length]`. `change` gives another encoding of the same
    structure for each of the model's: it is data of one compiled function, so a further one costs no compilation.
    """
    graph, state = nnx.split(trained_model.model)
    count, length = rows["inputs"].shape
    # What depends on the length of the context is told it: LongRoPE has another list past the trained length.
    constants = constants_of(trained_model.architecture, lambda encoding: change(encoding).at_length(length))
    found = []
    for chosen in in_batches(count, length):
        batch = {name: jnp.asarray(array[chosen]) for name, array in rows.items()}
        found.append(_answers(graph, state, constants, batch))
    return joined(found, count, axis=1)


@partial(jax.jit, static_argnums=(0,))
def _answers(graph: Any, state: Any, constants: Any, rows: Any) -> jax.Array:
    model: Transformer = nnx.merge(graph, state)
    logits = model(rows["inputs"], constants=constants)
    losses = cross_entropy(logits, rows["targets"])
    right = jnp.argmax(logits, -1) == rows["targets"]
    weights = rows["weights"]
    # Together, so that the model runs once for both.
    both = jnp.stack([losses, right.astype(jnp.float32)])
    return jnp.sum(both * weights[None], -1) / jnp.sum(weights, -1)[None]


def cut(documents: Documents, windows: np.ndarray, length: int, targets: int) -> Row:
    """Windows `[n, more than length]` as rows of their last `length` tokens, of which the last `targets` count."""
    ended = begun(documents, windows[:, -length - 1 :])
    weights = np.zeros((len(windows), length), np.float32)
    weights[:, -targets:] = 1.0
    return {"inputs": ended[:, :-1], "targets": ended[:, 1:], "weights": weights}
