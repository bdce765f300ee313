"""The loss of one stretch of text, read in windows of several lengths and strides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np

from posjax.data import Documents, begun, validation_windows
from posjax.encodings.learned import Fill
from posjax.errors import InputError
from posjax.evaluation import measure
from posjax.evaluation.base import Evaluation
from posjax.evaluation.statistics import bootstrap_mean, bootstrap_ratio
from posjax.evaluation.texts import Excerpts, require_text
from posjax.evaluation.variants import ExtensionLike, TrainedModel, Variant, chosen_variants
from posjax.fields import check_fields
from posjax.models import Architecture
from posjax.results import Measurement

Stride = int | Literal["window"]


@dataclass(frozen=True)
class SlidingWindow(Evaluation):
    """Press et al.'s analysis: what of a lower loss in longer windows is more context, and what fewer early tokens.

    A stretch of text, as long as the longest window, is read in windows of each of the `multiples` of the trained
    length, which move on by a stride; each foretells the tokens that the one before it has not. With the stride
    "window" none overlap, so the first tokens of each have little before them, and the fewer windows there are, the
    fewer such tokens: the loss falls though no token is foretold better. With a stride of 1 each token has a whole
    window before it, at the price of a window a token. All windows of all strides foretell the same tokens.

    Metrics by variant, `length` and `stride` (in tokens): `sliding_loss` in nats per byte, and `sliding_ratio`, exp of
    the loss less that of the first stride at the trained length, both with a bootstrap interval over `stretches`.
    `extensions`, `fills` and `control` as in `Extrapolation`.

    Errors: `InputError` unless the multiples begin with 1, rise and divide the last, and for strides below 1. A stride
    longer than the trained length is refused before training.
    Source: Press et al. 2021, arXiv:2108.12409, appendix B.

    """

    name: ClassVar[str] = "sliding"

    multiples: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[Stride, ...] = ("window", 16)
    stretches: int = 16
    extensions: tuple[ExtensionLike, ...] = ()
    fills: tuple[Fill, ...] = ()
    control: bool = True

    def __post_init__(self) -> None:
        check_fields(self, positive=("stretches",))
        rising = sorted(set(self.multiples)) == list(self.multiples)
        if self.multiples[:1] != (1,) or not rising or any(self.multiples[-1] % each for each in self.multiples):
            raise InputError(
                f"SlidingWindow got multiples={self.multiples}: needed are rising divisors of the last that begin with "
                "1, such as 1 2 4 8, so that windows of each length fill the stretch"
            )
        whole = [stride for stride in self.strides if stride != "window"]
        if not self.strides or any(stride < 1 for stride in whole):
            raise InputError(f'SlidingWindow got strides={self.strides}: needed are tokens, 1 or more, or "window"')

    def require(self, data: Any) -> None:
        require_text(type(self).__name__, data)

    def longest(self, trained_length: int) -> int:
        return self.multiples[-1] * trained_length

    def held(self, trained_length: int) -> int:
        return self.stretches * 2 * self.longest(trained_length)

    def smaller(self) -> SlidingWindow:
        return replace(self, stretches=1, multiples=self.multiples[:2])

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        for stride in self.strides:
            if stride != "window" and stride > trained_length:
                raise InputError(
                    f"SlidingWindow got a stride of {stride} and the model is trained at length {trained_length}: "
                    "needed is one no longer, or windows would leave tokens out"
                )
        measure.rehearse(self, model, vocabulary, trained_length, answers=False)

    def room(self, data: Documents, trained_length: int, seed: int) -> None:
        validation_windows(data, 2 * self.longest(trained_length), 1, seed)

    def run(self, trained_model: TrainedModel, data: Documents, seed: int) -> Iterator[Measurement]:
        last = trained_model.last_multiple(self.multiples)
        stretch = self.longest(trained_model.trained_length)
        # The longest window reaches back as far again from the first token that is foretold.
        excerpts = Excerpts.draw(data, 2 * stretch, self.stretches, seed)
        trained_model.model.check_tokens(jnp.asarray(excerpts.tokens))
        for variant in chosen_variants(trained_model, self):
            # Of each variant its own, so that a ratio tells the length and the stride and not the variant.
            first = None
            for multiple in self.multiples:
                if multiple > last:
                    break
                for stride in self.strides:
                    losses = self._losses(trained_model, variant, multiple, stride, data, excerpts)
                    if first is None:
                        first = losses
                    length = multiple * trained_model.trained_length
                    at = {**variant.at(multiple, trained_model.trained_length), "stride": _tokens(stride, length)}
                    yield Measurement("sliding_loss", *bootstrap_mean(losses, seed), len(losses), at)
                    yield Measurement("sliding_ratio", *bootstrap_ratio(losses, first, seed), len(losses), at)

    def _losses(
        self,
        trained_model: TrainedModel,
        variant: Variant,
        multiple: int,
        stride: Stride,
        documents: Documents,
        excerpts: Excerpts,
    ) -> np.ndarray:
        """The mean loss of each stretch in nats per byte, `[stretches]`."""
        length = multiple * trained_model.trained_length
        stretch = self.longest(trained_model.trained_length)
        step = _tokens(stride, length)
        rows = windows_of(excerpts.tokens, length, step, stretch)
        of_rows = begun(documents, rows.reshape(-1, length + 1))
        losses, _ = measure.losses_and_mass(trained_model, variant, multiple, of_rows)
        # Of each window what the one before it has not foretold; the first one may reach back before the stretch.
        of_windows = losses[:, -step:].reshape(len(excerpts.tokens), -1)
        of_stretches = of_windows[:, -stretch:]
        return of_stretches.mean(axis=1, dtype=np.float64) / excerpts.bytes_each(slice(-stretch, None))


def _tokens(stride: Stride, length: int) -> int:
    if stride == "window":
        return length
    return stride


def windows_of(text: np.ndarray, length: int, stride: int, stretch: int) -> np.ndarray:
    """The windows whose last `stride` targets hold, together, the last `stretch` tokens of each row of text.

    `text [n, size]` -> `[n, stretch / stride, length + 1]`, that number rounded up: if the stride does not divide the
    stretch, the first window foretells tokens before it too.

    >>> windows_of(np.arange(9)[None], length=4, stride=2, stretch=4).tolist()
    [[[2, 3, 4, 5, 6], [4, 5, 6, 7, 8]]]
    """
    _, size = text.shape
    # Behind the last target of each window, the last of which ends with the text.
    ends = np.arange(size, size - stretch, -stride)[::-1]
    return np.stack([text[:, end - length - 1 : end] for end in ends], axis=1)
