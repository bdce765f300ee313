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
from posjax.attention import Mask, Prepared, Window
from posjax.attention.reference import logits as attention_logits
from posjax.encodings import Dims, Encoding, Head
from posjax.evaluation.batching import in_batches, joined
from posjax.evaluation.variants import OfVariants, TrainedModel, Variant, abstract, chosen_variants, seen
from posjax.models import Architecture, Transformer, cross_entropy


def losses_and_mass(
    trained_model: TrainedModel, variant: Variant, multiple: int, windows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each token in nats, and each window's share of attention beyond the trained length.

    `windows [n, length + 1]`, whose length is `multiple` times the trained one -> losses `[n, length]`, shares `[n]`,
    the latter averaged over the layers, the heads and the last half of a trained length of queries.
    """
    graph, data = seen(trained_model, variant, multiple)
    losses, shares = [], []
    trained = trained_model.trained_length
    count, held = windows.shape
    for batch in in_batches(count, held):
        rows = jnp.asarray(windows[batch])
        loss, share = _measure(graph, trained, rows, data)
        losses.append(loss)
        shares.append(share)
    return joined(losses, count), joined(shares, count)


def predictions(trained_model: TrainedModel, variant: Variant, multiple: int, inputs: np.ndarray) -> np.ndarray:
    """The likeliest next token everywhere: `inputs [n, length]` -> int32 `[n, length]`."""
    graph, data = seen(trained_model, variant, multiple)
    count, length = inputs.shape
    answers = [_predict(graph, jnp.asarray(inputs[batch]), data) for batch in in_batches(count, length)]
    return joined(answers, count)


def rehearse(evaluation: OfVariants, model: Architecture, vocabulary: int, trained_length: int, answers: bool) -> None:
    """Everything that an evaluation would do at its longest, in shapes alone, for a model of this configuration.

    `answers`: predictions are asked for, and not losses. Errors: what the measurement would raise.
    """
    trained_model = abstract(model, vocabulary, trained_length)
    multiple = trained_model.last_multiple(evaluation.multiples)
    length = multiple * trained_length
    if not answers:
        # A window holds its last target too.
        length += 1
    rows = jax.ShapeDtypeStruct((1, length), jnp.int32)
    for variant in chosen_variants(trained_model, evaluation):
        # A window only narrows what the raw model sees, and filling a table needs real rows.
        if variant.kind in ("raw", "extension"):
            graph, data = seen(trained_model, variant, multiple)
            measured = partial(_measure, graph, trained_length)
            if answers:
                measured = partial(_predict, graph)
            jax.eval_shape(measured, rows, data)
    if not answers:
        encoding = model.encoding
        sizes = model.dims
        jax.eval_shape(lambda: _random_scores(encoding, sizes, np.arange(2), 0, draws=1))


@partial(jax.jit, static_argnums=(0, 1))
def _measure(graph: Any, trained: int, windows: jax.Array, data: Any) -> tuple[jax.Array, jax.Array]:
    state, constants, window = data
    model: Transformer = nnx.merge(graph, state)
    # Each token is asked for the next one.
    inputs = windows[:, :-1]
    targets = windows[:, 1:]
    _, length = inputs.shape
    mask = Window(window)
    prepared = model.prepare(length, mask=mask, constants=constants)
    probe = partial(mass_beyond, trained)
    hidden, _, shares = model.hidden(inputs, prepared, probe=probe)
    logits = model.logits(hidden)
    losses = cross_entropy(logits, targets)
    of_layers = jnp.stack(shares)
    share = jnp.mean(of_layers, axis=0)
    return losses, share


@partial(jax.jit, static_argnums=(0,))
def _predict(graph: Any, inputs: jax.Array, data: Any) -> jax.Array:
    state, constants, window = data
    model: Transformer = nnx.merge(graph, state)
    logits = model(inputs, mask=Window(window), constants=constants)
    likeliest = jnp.argmax(logits, -1)
    return likeliest.astype(jnp.int32)


def mass_beyond(trained: int, q: jax.Array, k: jax.Array, prepared: Prepared) -> jax.Array:
    """The share of attention on keys `trained` tokens back or more, `[B]`: mean over heads and the last queries.

    From two log-sum-exps, with and without those keys, so that no weights are ever built.
    """
    length = k.shape[1]
    # The last queries alone, as the loss is of the last targets: the first ones have nothing that far back.
    tail = max(trained // 2, 1)
    start = length - tail
    if length <= trained:
        return jnp.zeros(q.shape[0])
    bias = prepared.last(tail).bias
    q = q[:, start:]
    v = k  # Only the log-sum-exps are read: the keys stand in for the values.

    def log_total(mask: Mask) -> jax.Array:
        _, lse = attention.attention(q, k, v, bias=bias, mask=mask, q_offset=start)
        return lse

    # A difference of logarithms, since the totals themselves may be too large for float32.
    within = prepared.mask & Window(trained)
    log_near = log_total(within)
    log_all = log_total(prepared.mask)
    near = jnp.exp(log_near - log_all)
    return jnp.mean(1 - near, axis=(1, 2))


def trained_scores(trained_model: TrainedModel, windows: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The mean logit of the trained queries and keys at each distance, less that at distance 0: float `[distances]`.

    Taken in the model itself on real windows, over all layers and heads, and the last queries of each window.
    """
    graph, state = nnx.split(trained_model.model)
    inputs = jnp.asarray(windows[:, :-1])
    _, length = inputs.shape
    # As many queries as have a key at the largest distance.
    tail = length - int(distances.max())
    scores = _trained_scores(graph, tail, state, inputs, jnp.asarray(distances))
    return np.asarray(scores)


@partial(jax.jit, static_argnums=(0, 1))
def _trained_scores(graph: Any, tail: int, state: Any, inputs: jax.Array, distances: jax.Array) -> jax.Array:
    model: Transformer = nnx.merge(graph, state)
    length = inputs.shape[1]
    start = length - tail

    def probe(q: jax.Array, k: jax.Array, prepared: Prepared) -> jax.Array:
        bias = prepared.last(tail).bias
        # Averaged over windows and heads first: what is left is one row a query.
        last = q[:, start:]
        logits = attention_logits(last, k, bias, start)
        mean = jnp.mean(logits, axis=(0, 1))
        queries = jnp.arange(tail)[:, None]
        at = start + queries
        keys = at - distances[None]
        by_query = mean[queries, keys]
        return jnp.mean(by_query, axis=0)

    prepared = model.prepare(length)
    _, _, scores = model.hidden(inputs, prepared, probe=probe)
    of_layers = jnp.stack(scores)
    by_distance = jnp.mean(of_layers, axis=0)
    # A constant that all keys of a query share does not reach its softmax, so none is shown.
    return by_distance - by_distance[0]


def random_scores(encoding: Encoding, sizes: Dims, distances: np.ndarray, seed: int, draws: int = 256) -> np.ndarray:
    """The mean score of a random vector with itself at each distance, before training, less that at distance 0.

    The vector goes the way of a token: embedded at its position, cut into heads, rotated, and biased.
    """
    scores = _random_scores(encoding, sizes, distances, seed, draws)
    return np.asarray(scores)


def _random_scores(encoding: Encoding, sizes: Dims, distances: np.ndarray, seed: int, draws: int) -> jax.Array:
    key = jax.random.key(seed)
    learned = encoding.init(key, sizes)
    constants = encoding.constants(sizes)
    params = encoding.join(learned, constants)
    furthest = int(distances.max())
    # The query stands first and furthest on, and behind it a key at each distance.
    query_at = jnp.array([furthest])
    keys_at = furthest - jnp.asarray(distances)
    together_at = jnp.concatenate([query_at, keys_at])
    at = together_at.astype(jnp.int32)
    count = len(at)
    # Another key than the parameters', so that a vector is none of them.
    vectors_key = jax.random.fold_in(key, 1)
    vectors = jax.random.normal(vectors_key, (draws, 1, sizes.model_size))
    everywhere = jnp.broadcast_to(vectors, (draws, count, sizes.model_size))
    x = encoding.embed(params, everywhere, at)
    # Heads together may be wider than the stream: then it is taken again from its beginning.
    width = sizes.heads * sizes.head_size
    times = math.ceil(width / sizes.model_size)
    wide = jnp.tile(x, (1, 1, times))
    fitting = wide[..., :width]
    heads = fitting.reshape(draws, count, sizes.heads, sizes.head_size)
    queries = encoding.rotate(params, heads, at, "query")
    keys = encoding.rotate(params, heads, at, "key")
    q = queries[:, :1]
    k = keys[:, 1:]
    products = jnp.sum(q * k, -1)
    mean = jnp.mean(products, axis=(0, 2))
    scores = mean / math.sqrt(sizes.head_size)
    biases = []
    for n in range(sizes.heads):
        head = Head(n, sizes.heads)
        bias = encoding.bias(params, at[:1], at[1:], head)
        biases.append(bias[0])
    of_heads = jnp.stack(biases)
    mean_bias = jnp.mean(of_heads, axis=0)
    together = scores + mean_bias
    return together - together[0]
