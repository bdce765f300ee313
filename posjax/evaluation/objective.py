"""What a model was trained to foretell, measured on rows it has not seen, and longer than it was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posjax.attention import Full, Segments
from posjax.data import Batches, Documents, Labelled, Loaded, Task, TextPairs, begun, masked, validation_windows
from posjax.errors import InputError
from posjax.evaluation.base import Evaluation
from posjax.evaluation.batching import in_batches, joined
from posjax.evaluation.variants import TrainedModel, abstract
from posjax.fields import check_fields
from posjax.models import Architecture, Transformer, cross_entropy
from posjax.results import Measurement

Rows = dict[str, Any]
"""Arrays `[n, ...]` by the keys of a batch: what the model reads, and what it is asked."""


@dataclass(frozen=True)
class ObjectiveLoss(Evaluation):
    """Loss and accuracy of what a model was trained on, by length, whatever that is.

    The model and the data say what is asked: of an encoder that reads a text, tokens that are hidden, a `share` of
    them as `MaskedLM` hides them; of a decoder that reads a text, the last L/2 tokens of a window, L being the trained
    length, the same ones at every length; of a model with an output of classes, the class of each row; on a task, its
    answers. A target is foretold token by token, each given those before it (teacher forcing).

    `multiples` of L; `windows` rows at each. The metrics are `loss`, in nats for each answer, `accuracy`, the share of
    answers that are likeliest, and on tasks `exact`, the share of rows that are answered wholly right; the intervals
    are over rows, whose answers stand or fall together. Unlike `Extrapolation` it asks for no attention weights, so
    that linear attention is measured too.

    Errors: `InputError` unless the multiples begin with 1 and rise and the share lies in (0, 1); for multiples on a
    file of examples, which are as long as they are.
    """

    name: ClassVar[str] = "objective"
    next_token: ClassVar[bool] = False

    multiples: tuple[int, ...] = (1, 2, 4)
    windows: int = 64
    share: float = 0.15

    def __post_init__(self) -> None:
        check_fields(self, positive=("windows",))
        if self.multiples[:1] != (1,) or sorted(set(self.multiples)) != list(self.multiples):
            raise InputError(
                f"ObjectiveLoss got multiples={self.multiples}: needed are rising multiples of the trained length that "
                "begin with 1, such as 1 2 4"
            )
        if not 0 < self.share < 1:
            raise InputError(f"ObjectiveLoss got share={self.share}: needed is a share in (0, 1), about 0.15")

    def require(self, data: Any) -> None:
        # A longer row would hold the same text and more padding, and its numbers would say nothing of length.
        if isinstance(data, TextPairs | Labelled) and len(self.multiples) > 1:
            raise InputError(
                f"{type(data).__name__} has texts of their own lengths, and ObjectiveLoss got "
                f"multiples={self.multiples}: give multiples=(1,)"
            )

    def longest(self, trained_length: int) -> int:
        return self.multiples[-1] * trained_length

    def held(self, trained_length: int) -> int:
        return self.windows * self.longest(trained_length)

    def smaller(self) -> ObjectiveLoss:
        return replace(self, windows=2, multiples=self.multiples[:2])

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        trained_model = abstract(model, vocabulary, trained_length)
        length = trained_length * trained_model.last_multiple(self.multiples)
        whole = jax.ShapeDtypeStruct((1, length), jnp.int32)
        rows = {"inputs": whole, "targets": whole}
        if model.encoder is not None and model.decoder is not None:
            rows["source"] = whole
        if model.output.classes is not None:
            rows["classes"] = jax.ShapeDtypeStruct((1,), jnp.int32)
        graph, state = nnx.split(trained_model.model)
        jax.eval_shape(partial(_answers, graph), state, rows)

    def room(self, data: Any, trained_length: int, seed: int) -> None:
        # One row tells whether there is room for all of them.
        length = self.longest(trained_length)
        if isinstance(data, Documents):
            validation_windows(data, length, 1, seed)
        elif isinstance(data, Task):
            data.questions(length, 1, seed)
        else:
            data.validation_rows(length, 1, seed)

    def run(self, trained_model: TrainedModel, data: Loaded | Task, seed: int) -> Iterator[Measurement]:
        trained = trained_model.trained_length
        graph, state = nnx.split(trained_model.model)
        if isinstance(data, Task):
            yield Measurement("chance", data.chance)
        for multiple in self.multiples:
            if multiple > trained_model.last_multiple(self.multiples):
                break
            length = multiple * trained
            rows = self._rows(trained_model, data, length, seed)
            # An answer is a token that counts, or a row's class.
            weights = rows.pop("weights", np.ones((self.windows, 1), np.float32))
            losses, right = _measured(graph, state, rows, self.windows, length)
            at = {"multiple": multiple, "length": length}
            answers = int(weights.sum())
            yield _mean("loss", _by_row(losses, weights), self.windows).placed(**at)
            yield _mean("accuracy", _by_row(right, weights), answers).placed(**at)
            if isinstance(data, Task):
                wholly = ((right > 0) | (weights == 0)).all(axis=1)
                yield _mean("exact", wholly.astype(np.float32), self.windows).placed(**at)

    def _rows(self, trained_model: TrainedModel, data: Loaded | Task, length: int, seed: int) -> Rows:
        if isinstance(data, Task):
            return dict(data.questions(length, self.windows, seed))
        if not isinstance(data, Documents):
            return dict(data.validation_rows(length, self.windows, seed))
        # As long as the longest, and cut at the beginning: all lengths end at the same byte.
        longest = self.longest(trained_model.trained_length)
        windows = validation_windows(data, longest, self.windows, seed)
        cut = begun(data, windows[:, -length - 1 :])
        inputs = cut[:, :-1]
        if any(attention.mask.causal for attention in trained_model.architecture.main_stack.attentions()):
            tail = max(trained_model.trained_length // 2, 1)
            weights = np.zeros(inputs.shape, np.float32)
            weights[:, -tail:] = 1
            return {"inputs": inputs, "targets": cut[:, 1:], "weights": weights}
        tokens = data.tokens.vocabulary
        rows = grain.MapDataset.source([{"inputs": row} for row in inputs])
        # As in training, the token behind those of the text hides others.
        hidden = masked(rows, self.share, tokens, tokens, seed)
        # As many as there are rows: one batch of them all.
        return dict(Batches(hidden, self.windows).batch(0))


def _measured(graph: Any, state: Any, rows: Rows, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each answer, and whether it is right: both `[n, T]`, or `[n, 1]` of classes."""
    losses, right = [], []
    for batch in in_batches(count, length):
        part = {name: jnp.asarray(array[batch]) for name, array in rows.items()}
        of_part, right_of_part = _answers(graph, state, part)
        losses.append(of_part)
        right.append(right_of_part)
    return joined(losses, count), joined(right, count)


@partial(jax.jit, static_argnums=(0,))
def _answers(graph: Any, state: Any, rows: Rows) -> tuple[jax.Array, jax.Array]:
    model: Transformer = nnx.merge(graph, state)
    memory = None
    if "source" in rows:
        source = rows["source"]
        memory = model.encode(source, real=rows.get("real"), length=source.shape[1])
    mask = Full()
    if "segments" in rows:
        mask = Segments(rows["segments"])
    logits = model(rows["inputs"], rows.get("positions"), mask=mask, memory=memory)
    if "classes" in rows:
        logits = logits[:, None]
        targets = rows["classes"][:, None]
    else:
        targets = rows["targets"]
    likeliest = jnp.argmax(logits, axis=-1)
    return cross_entropy(logits, targets), (likeliest == targets).astype(jnp.float32)


def _by_row(of_answers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # The logits of padding may be no numbers, which a product with 0 would keep.
    counted = np.where(weights > 0, of_answers, 0) * weights
    of_row = weights.sum(axis=1)
    asked = of_row > 0  # A row that is asked nothing has no mean.
    return counted.sum(axis=1)[asked] / of_row[asked]


def _mean(metric: str, of_rows: np.ndarray, count: int) -> Measurement:
    """The mean over rows and its 95 % interval; `count` is how many answers there were."""
    mean = float(of_rows.mean())
    half = 1.96 * float(of_rows.std()) / np.sqrt(len(of_rows))
    return Measurement(metric, mean, float(mean - half), float(mean + half), count)
