"""What attention looks at: maps by layer and head, how spread out it is, and how much lies past the trained length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posjax.attention import Prepared, Window
from posjax.attention.masks import indices_to
from posjax.attention.reference import MASKED, logits as attention_logits
from posjax.data import Documents, begun, validation_windows
from posjax.encodings.learned import Fill
from posjax.errors import InputError
from posjax.evaluation.base import Evaluation
from posjax.evaluation.statistics import bootstrap_mean
from posjax.evaluation.texts import Excerpts, require_text
from posjax.evaluation.variants import RAW, ExtensionLike, TrainedModel, Variant, abstract, chosen_variants, seen
from posjax.fields import check_fields
from posjax.models import Architecture, Attention, FeedForward
from posjax.results import Measurement

MOST_BINS = 32
"""Each way: a map of a head then has up to 1,024 numbers, which is what a picture shows."""
PLAIN = Attention(1).scores


@dataclass(frozen=True)
class AttentionMaps(Evaluation):
    """Where each head of each layer looks, as means over a few windows of text.

    At each of the `multiples` of the trained length L, by `layer` and `head`, and their `mean_entropy` over all heads:

        attention_entropy   - sum p ln p in nats, over the last L/2 queries; of even attention to n keys it is ln n
        mass_beyond         the share on keys L tokens back or more, over the same queries
        attention           by `query` and `key`, the first tokens of two bins: the share of attention that queries of
                            the one give to keys of the other, so that the bins of a query sum to 1

    Maps are of the raw model alone, `bins` each way; bins of keys behind all queries are left out, being 0. The others
    have a bootstrap interval over windows, and are of each variant: `extensions`, `fills` and `control` are those of
    `Extrapolation`.

    Errors: `InputError` for more than 32 bins; for attention with a sink, a cap or a scale of its own, which maps would
    get wrong.
    """

    name: ClassVar[str] = "maps"

    multiples: tuple[int, ...] = (1, 4)
    windows: int = 8
    bins: int = 16
    extensions: tuple[ExtensionLike, ...] = ()
    fills: tuple[Fill, ...] = ()
    control: bool = True

    def __post_init__(self) -> None:
        check_fields(self, positive=("windows", "bins"))
        if not self.multiples or min(self.multiples) < 1 or self.bins > MOST_BINS:
            raise InputError(
                f"AttentionMaps got multiples={self.multiples} and bins={self.bins}: needed are multiples of 1 or more "
                f"and up to {MOST_BINS} bins"
            )

    def require(self, data: Any) -> None:
        require_text(type(self).__name__, data)

    def longest(self, trained_length: int) -> int:
        return max(self.multiples) * trained_length

    def held(self, trained_length: int) -> int:
        return self.windows * self.longest(trained_length)

    def smaller(self) -> AttentionMaps:
        return replace(self, windows=1, multiples=self.multiples[:2])

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        _require_plain(model)
        abstract(model, vocabulary, trained_length).last_multiple(self.multiples)

    def room(self, data: Documents, trained_length: int, seed: int) -> None:
        validation_windows(data, self.longest(trained_length), 1, seed)

    def run(self, trained_model: TrainedModel, data: Documents, seed: int) -> Iterator[Measurement]:
        _require_plain(trained_model.architecture)
        last = trained_model.last_multiple(self.multiples)
        longest = self.longest(trained_model.trained_length)
        excerpts = Excerpts.draw(data, longest, self.windows, seed)
        for multiple in self.multiples:
            if multiple > last:
                continue
            length = multiple * trained_model.trained_length
            rows = begun(data, excerpts.tokens[:, -length - 1 :])[:, :-1]
            for variant in chosen_variants(trained_model, self):
                looked = looks(trained_model, variant, multiple, rows, self.bins)
                at = variant.at(multiple, trained_model.trained_length)
                yield from _by_head("attention_entropy", looked.entropy, at, seed)
                yield from _by_head("mass_beyond", looked.beyond, at, seed)
                of_windows = looked.entropy.mean(axis=(1, 2))
                yield Measurement("mean_entropy", *bootstrap_mean(of_windows, seed), len(of_windows), at)
                # A map has hundreds of numbers a head, where the two others have one.
                if variant == RAW:
                    yield from _map(looked.maps, length, at)


def _require_plain(model: Architecture) -> None:
    """Errors: `InputError` for a model whose attention is another function of q, k and the bias, or that has none."""
    parts = [part for layer in model.main_stack.pattern for part in layer.sublayers]
    # A probe is not shown linear attention, so layers would be counted wrong.
    if not all(isinstance(part, Attention | FeedForward) for part in parts):
        raise InputError("AttentionMaps draws softmax attention, and the model has another kind: leave one of them out")
    for part in parts:
        scores = getattr(part, "scores", PLAIN)
        if (scores.scale, scores.cap, scores.sink) != (PLAIN.scale, PLAIN.cap, PLAIN.sink):
            raise InputError(
                f"AttentionMaps cannot draw {scores!r}: its maps are of softmax(q k / sqrt(H) + bias), so leave scale, "
                "cap and sink out, or this evaluation"
            )


@dataclass(frozen=True)
class Looks:
    """Of each window, layer and head: `entropy [n, layers, N]`, `beyond` alike, `maps [n, layers, N, bins, bins]`."""

    entropy: np.ndarray
    beyond: np.ndarray
    maps: np.ndarray


def looks(trained_model: TrainedModel, variant: Variant, multiple: int, inputs: np.ndarray, bins: int) -> Looks:
    """Where a model looks as it reads `inputs [n, length]`, whose length is `multiple` times the trained one."""
    bins = min(bins, inputs.shape[1])
    graph, data = seen(trained_model, variant, multiple)
    trained = trained_model.trained_length
    found = []
    # One window at a time, since all pairs of tokens are held at once.
    for row in inputs:
        of_window = _look(graph, trained, bins, jnp.asarray(row[None]), data)
        found.append([np.asarray(each, np.float64) for each in of_window])
    return Looks(*[np.stack(each) for each in zip(*found, strict=True)])


@partial(jax.jit, static_argnums=(0, 1, 2))
def _look(graph: Any, trained: int, bins: int, inputs: jax.Array, data: Any) -> tuple[jax.Array, ...]:
    state, constants, window = data
    model = nnx.merge(graph, state)
    prepared = model.prepare(inputs.shape[1], mask=Window(window), constants=constants)
    _, _, seen_by_layer = model.hidden(inputs, prepared, probe=partial(_probe, trained, bins))
    return tuple(jnp.stack(each) for each in zip(*seen_by_layer, strict=True))


def _probe(trained: int, bins: int, q: jax.Array, k: jax.Array, prepared: Prepared) -> tuple[jax.Array, ...]:
    """The entropy `[N]`, the mass beyond `[N]` and the map `[N, bins, bins]` of one layer, of one row."""
    # Dense on purpose: a map needs every pair, and no backend gives more than their sum.
    weights_NTS = _weights(q, k, prepared)
    _, length, _ = weights_NTS.shape
    tail = max(trained // 2, 1)
    last_NTS = weights_NTS[:, -tail:]
    # 0 ln 0 is 0, and no NaN.
    logarithms = jnp.log(jnp.where(last_NTS > 0, last_NTS, 1.0))
    entropy_NT = -jnp.sum(last_NTS * logarithms, axis=-1)
    queries = jnp.arange(length - tail, length)[:, None]
    beyond_TS = queries - jnp.arange(length)[None] >= trained
    beyond_NT = jnp.sum(jnp.where(beyond_TS, last_NTS, 0.0), axis=-1)
    # Rows of a bin are averaged, and columns summed: as one product with what belongs to which bin.
    member = _members(length, bins)
    share = member / member.sum(axis=1, keepdims=True)
    map_NQK = jnp.einsum("QT,NTS,KS->NQK", share, weights_NTS, member)
    return entropy_NT.mean(axis=-1), beyond_NT.mean(axis=-1), map_NQK


def _weights(q: jax.Array, k: jax.Array, prepared: Prepared) -> jax.Array:
    """The attention of one row, `[N, T, S]`: each query's sums to 1."""
    at = indices_to(q.shape[1])
    allowed = prepared.mask.allowed(at, at)
    # As the reference computes them, whatever backend the model was trained with.
    logits_BNTS = attention_logits(q, k, prepared.bias, seen=allowed)
    if allowed is not None:
        logits_BNTS = jnp.where(allowed[:, None], logits_BNTS, MASKED)
    return jax.nn.softmax(logits_BNTS, axis=-1)[0]


def _members(length: int, bins: int) -> jax.Array:
    """Which of the tokens belong to which bin, 1 or 0: float32 `[bins, length]`."""
    # Bins of as near to equal sizes as whole tokens allow.
    place = jnp.arange(length) * bins // length
    return (place[None] == jnp.arange(bins)[:, None]).astype(jnp.float32)


def _by_head(metric: str, values: np.ndarray, at: dict[str, Any], seed: int) -> Iterator[Measurement]:
    """Of `[n, layers, N]` the mean over windows, with its interval, for each layer and head."""
    count, layers, heads = values.shape
    for layer in range(layers):
        for head in range(heads):
            mean, low, high = bootstrap_mean(values[:, layer, head], seed)
            yield Measurement(metric, mean, low, high, count, {**at, "layer": layer, "head": head})


def _map(maps: np.ndarray, length: int, at: dict[str, Any]) -> Iterator[Measurement]:
    count, *_ = maps.shape
    mean = maps.mean(axis=0)
    bins = mean.shape[-1]
    # The first token of each bin: the smallest index that falls into it.
    firsts = [-(-place * length // bins) for place in range(bins)]
    for layer, head, query, key in np.ndindex(*mean.shape):
        # No query of a bin sees a key of a later one.
        if key <= query:
            where = {"layer": layer, "head": head, "query": firsts[query], "key": firsts[key]}
            yield Measurement(
                "attention", float(mean[layer, head, query, key]), count=count, coordinates={**at, **where}
            )
