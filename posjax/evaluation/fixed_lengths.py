"""The loss at lengths in tokens, on the same bytes for models that were trained at different lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp

from posjax.data import Documents, Task, validation_windows
from posjax.errors import InputError
from posjax.evaluation.answers import answers, as_trained, cut
from posjax.evaluation.base import Evaluation
from posjax.evaluation.statistics import bootstrap_ratio
from posjax.evaluation.variants import TrainedModel
from posjax.fields import check_fields
from posjax.results import Measurement


@dataclass(frozen=True)
class FixedLengths(Evaluation):
    """Loss over the last `targets` tokens of `windows` of text, in contexts of `lengths` that end at the same bytes.

    Neither depends on the trained length, unlike the multiples of `Extrapolation`: a model that was fine-tuned at
    another length is compared with the one it came from on the same targets. `loss_ratio` is exp(loss - that of the
    first length), paired. Losses are in nats per token.

    Errors: `InputError` for lengths that do not rise, or hold fewer tokens than `targets`.
    """

    name: ClassVar[str] = "fixed-lengths"

    lengths: tuple[int, ...]
    targets: int
    windows: int = 64

    def __post_init__(self) -> None:
        check_fields(self, positive=("targets", "windows"))
        rising = sorted(set(self.lengths)) == list(self.lengths)
        # A context shorter than its targets would begin within them.
        if not rising or min(self.lengths, default=0) < self.targets:
            raise InputError(
                f"FixedLengths got lengths={self.lengths} and targets={self.targets}: needed are rising lengths that "
                "hold the targets, such as 64 128 256 with 32"
            )

    def longest(self, trained_length: int) -> int:
        return self.lengths[-1]

    def held(self, trained_length: int) -> int:
        return self.windows * self.lengths[-1]

    def smaller(self) -> FixedLengths:
        return replace(self, windows=2, lengths=self.lengths[:2])

    def require(self, data: Any) -> None:
        if isinstance(data, Task):
            raise InputError(f"{type(data).__name__} is a task, and FixedLengths reads text: give it a text")

    def room(self, data: Any, trained_length: int, seed: int) -> None:
        validation_windows(data, self.lengths[-1], 1, seed)

    def run(self, trained_model: TrainedModel, data: Documents, seed: int) -> Iterator[Measurement]:
        # As long as the longest: the same windows for every model, whatever length it was trained at.
        windows = validation_windows(data, self.lengths[-1], self.windows, seed)
        trained_model.model.check_tokens(jnp.asarray(windows))
        base = None
        for length in self.lengths:
            losses, _ = answers(trained_model, as_trained, cut(data, windows, length, self.targets))
            if base is None:
                # The shortest context, beside which the others are told.
                base = losses
            at: dict[str, Any] = {"variant": "raw", "kind": "raw", "length": length}
            yield Measurement("loss", float(losses.mean()), count=self.windows, coordinates=at)
            ratio, low, high = bootstrap_ratio(losses, base, seed)
            yield Measurement("loss_ratio", ratio, low, high, self.windows, at)
