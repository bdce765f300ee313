"""The compiled measurements: losses and attention mass of a batch of windows, everything that varies being data."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posjax import attention
from posjax.attention import Causal, Mask, Prepared, Window
from posjax.attention.reference import logits as attention_logits
from posjax.encodings import Dims, Encoding, Head
from posjax.evaluation.variants import TrainedModel, Variant, numbers
from posjax.models import Transformer, cross_entropy, dims

TOKENS = 16_384
"""Tokens in one call: enough to fill two cores, small enough for the caches of a laptop."""


def losses_and_mass(
    trained_model: TrainedModel, variant: Variant, multiple: int, windows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each token in nats, and each window's share of attention beyond the trained length.

    `windows [n, length + 1]`, whose length is `multiple` times the trained one -> losses `[n, length]`, shares `[n]`,
    the latter averaged over the layers, the heads and the last half of a trained length of queries.
    """
    graph, _ = nnx.split(trained_model.model)
    data = numbers(trained_model, variant, multiple)
    parts = [_measure(graph, trained_model.trained_length, jnp.asarray(part), data) for part in _batches(windows)]
    losses, shares = (np.concatenate([np.asarray(part[i]) for part in parts])[: len(windows)] for i in (0, 1))
    return losses, shares


def predictions(trained_model: TrainedModel, variant: Variant, multiple: int, inputs: np.ndarray) -> np.ndarray:
    """The likeliest next token everywhere: `inputs [n, length]` -> int32 `[n, length]`."""
    graph, _ = nnx.split(trained_model.model)
    data = numbers(trained_model, variant, multiple)
    parts = [np.asarray(_predict(graph, jnp.asarray(part), data)) for part in _batches(inputs)]
    return np.concatenate(parts)[: len(inputs)]


def rehearse(trained_model: TrainedModel, chosen: list[Variant], multiple: int, answers: bool) -> None:
    """Everything that a measurement at a multiple would do, in shapes alone. `trained_model` is a model of shapes.

    `answers`: predictions are asked for, and not losses. Errors: what the measurement would raise.
    """
    graph, _ = nnx.split(trained_model.model)
    rows = jax.ShapeDtypeStruct((1, multiple * trained_model.trained_length + (not answers)), jnp.int32)
    measured = partial(_predict, graph) if answers else partial(_measure, graph, trained_model.trained_length)
    for variant in chosen:
        if variant.kind in ("raw", "extension"):
            jax.eval_shape(measured, rows, numbers(trained_model, variant, multiple))
    if not answers:
        jax.eval_shape(
            lambda: _random_scores(trained_model.config.encoding, dims(trained_model.config), np.arange(2), 0, draws=1)
        )


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    """Equal batches, so that one compilation serves all: the last is filled up with the first rows."""
    size = max(1, min(len(rows), TOKENS // rows.shape[1]))
    count = math.ceil(len(rows) / size)
    whole = np.resize(rows, (count * size, rows.shape[1]))
    return np.split(whole, count)


def _mask(window: Any) -> Mask:
    return Causal() & Window(window)


@partial(jax.jit, static_argnums=(0, 1))
def _measure(graph: Any, trained: int, windows: jax.Array, data: Any) -> tuple[jax.Array, jax.Array]:
    state, constants, window = data
    model: Transformer = nnx.merge(graph, state)
    inputs, targets = windows[:, :-1], windows[:, 1:]
    prepared = model.prepare(inputs.shape[1], mask=_mask(window), constants=constants)
    probe = partial(mass_beyond, trained)
    hidden, _, shares = model.hidden(inputs, prepared, probe=probe)
    return cross_entropy(model.logits(hidden), targets), jnp.mean(jnp.stack(shares), axis=0)


@partial(jax.jit, static_argnums=(0,))
def _predict(graph: Any, inputs: jax.Array, data: Any) -> jax.Array:
    state, constants, window = data
    model: Transformer = nnx.merge(graph, state)
    return jnp.argmax(model(inputs, mask=_mask(window), constants=constants), -1).astype(jnp.int32)


def mass_beyond(trained: int, q: jax.Array, k: jax.Array, prepared: Prepared) -> jax.Array:
    """The share of attention on keys `trained` tokens back or more, `[B]`: mean over heads and the last queries.

    From two log-sum-exps, with and without those keys, so that no weights are ever built.
    """
    length, tail = k.shape[1], max(trained // 2, 1)
    start = length - tail
    if length <= trained:
        return jnp.zeros(q.shape[0])
    bias = prepared.last(tail).bias
    q, v = q[:, start:], k  # Only the log-sum-exps are read: the keys stand in for the values.

    def total(mask: Mask) -> jax.Array:
        return attention.attention(q, k, v, bias=bias, mask=mask, q_offset=start)[1]

    near = jnp.exp(total(prepared.mask & Window(trained)) - total(prepared.mask))
    return jnp.mean(1 - near, axis=(1, 2))


def trained_scores(trained_model: TrainedModel, windows: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The mean logit of the trained queries and keys at each distance, less that at distance 0: float `[distances]`.

    Taken in the model itself on real windows, over all layers and heads, and the last queries of each window.
    """
    graph, state = nnx.split(trained_model.model)
    tail = windows.shape[1] - 1 - int(distances.max())
    return np.asarray(_trained_scores(graph, tail, state, jnp.asarray(windows[:, :-1]), jnp.asarray(distances)))


@partial(jax.jit, static_argnums=(0, 1))
def _trained_scores(graph: Any, tail: int, state: Any, inputs: jax.Array, distances: jax.Array) -> jax.Array:
    model: Transformer = nnx.merge(graph, state)
    length = inputs.shape[1]
    start = length - tail

    def probe(q: jax.Array, k: jax.Array, prepared: Prepared) -> jax.Array:
        bias = prepared.last(tail).bias
        mean = jnp.mean(attention_logits(q[:, start:], k, bias, start), axis=(0, 1))
        rows = jnp.arange(tail)[:, None]
        return jnp.mean(mean[rows, start + rows - distances[None]], axis=0)

    _, _, scores = model.hidden(inputs, model.prepare(length), probe=probe)
    by_distance = jnp.mean(jnp.stack(scores), axis=0)
    return by_distance - by_distance[0]


def random_scores(encoding: Encoding, sizes: Dims, distances: np.ndarray, seed: int, draws: int = 256) -> np.ndarray:
    """The mean score of a random vector with itself at each distance, before training, less that at distance 0.

    The vector goes the way of a token: embedded at its position, cut into heads, rotated, and biased.
    """
    return np.asarray(_random_scores(encoding, sizes, distances, seed, draws))


def _random_scores(encoding: Encoding, sizes: Dims, distances: np.ndarray, seed: int, draws: int) -> jax.Array:
    key = jax.random.key(seed)
    params = encoding.join(encoding.init(key, sizes), encoding.constants(sizes))
    furthest = int(distances.max())
    at = jnp.concatenate([jnp.array([furthest]), furthest - jnp.asarray(distances)]).astype(jnp.int32)
    x = jax.random.normal(jax.random.fold_in(key, 1), (draws, 1, sizes.model_size))
    x = encoding.embed(params, jnp.broadcast_to(x, (draws, len(at), sizes.model_size)), at)
    # Heads together may be wider than the stream: then it is taken again from its beginning.
    wide = jnp.tile(x, (1, 1, -(-sizes.heads * sizes.head_size // sizes.model_size)))
    heads = wide[..., : sizes.heads * sizes.head_size].reshape(draws, len(at), sizes.heads, sizes.head_size)
    q = encoding.rotate(params, heads, at, "query")[:, :1]
    k = encoding.rotate(params, heads, at, "key")[:, 1:]
    scores = jnp.mean(jnp.sum(q * k, -1), axis=(0, 2)) / math.sqrt(sizes.head_size)
    bias = jnp.mean(
        jnp.stack([encoding.bias(params, at[:1], at[1:], Head(n, sizes.heads))[0] for n in range(sizes.heads)]), axis=0
    )
    return scores + bias - (scores + bias)[0]
