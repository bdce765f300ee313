"""Small untrained models as subjects, and windows of random bytes to measure them on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posjax.data import Documents
from posjax.encodings import Encoding
from posjax.evaluation import Evaluation, TrainedModel
from posjax.identity import tree
from posjax.models import build
from posjax.report import by_variant
from posjax.results import Measurements
from tests.small import learned, small

L = 8
VOCABULARY = 257


def trained_model(encoding: Encoding, layers: int = 2, trained: int = L) -> TrainedModel:
    """A model with large weights, so that attention is far from even."""
    config = small(encoding, layers=layers, feed_forward=16, deviation=1.0)
    model = build(config, VOCABULARY, seed=1)
    nnx.update(model, jax.tree.map(lambda x: 2 * x, nnx.state(model)))
    return TrainedModel(model, trained)


def measured(evaluation: Evaluation, model: TrainedModel, data: Any, seed: int) -> dict[str, Any]:
    """What an evaluation finds, by variant and length, as reports read it."""
    found = Measurements.of(evaluation.run(model, data, seed))
    read = {"extrapolation": by_variant.language, "retrieval": by_variant.retrieval}[evaluation.name]
    return read(found, tree(evaluation))


def windows(count: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, length + 1)).astype(np.int32)


def documents(sizes=(400, 300, 300), seed: int = 0) -> Documents:
    random = np.random.default_rng(seed)
    files = tuple(random.integers(97, 107, size).astype(np.uint8).tobytes() for size in sizes)
    return Documents("toy", files[:-1], files[-1:], "f" * 16)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def loss_of(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """`[T, V]`, `[T]` -> `[T]`."""
    return -log_softmax(logits)[np.arange(len(targets)), targets]


def naive(trained_model: TrainedModel, window: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """One window alone: its losses `[T]`, and each layer's logits of attention `[N, T, T]`, biases dense."""
    model, encoding = trained_model.model, trained_model.architecture.encoding
    inputs = jnp.asarray(window[None, :-1])
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    model.hidden(
        inputs,
        model.prepare(inputs.shape[1]),
        probe=lambda q, k, prepared: seen.append((np.asarray(q[0], np.float64), np.asarray(k[0], np.float64))),
    )
    from posjax.encodings import Head

    at = jnp.arange(inputs.shape[1])
    params = encoding.join(learned(model).get_value(), encoding.constants(trained_model.architecture.dims))
    bias = np.stack([np.asarray(encoding.bias(params, at, at, Head(n, 2)), np.float64) for n in range(2)])
    logits = [np.einsum("tnh,snh->nts", q, k) / np.sqrt(q.shape[-1]) + bias for q, k in seen]
    return loss_of(np.asarray(model(inputs)[0]), window[1:]), logits
