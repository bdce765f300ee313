"""What a training is of: the next token, masked tokens, a target for a source, a class for a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import grain
import jax
import jax.numpy as jnp

from posjax.attention import Full, Mask, Segments
from posjax.data import Form, Task, TrainingData, form_of, masked
from posjax.errors import InputError
from posjax.fields import check_fields
from posjax.models import Architecture, Transformer, cross_entropy

READ: dict[Form, str] = {"tokens": "rows of tokens", "pairs": "sources and targets", "classes": "rows with a class"}
KINDS: dict[Form, str] = {
    "tokens": "a text, or a task such as Needles",
    "pairs": "Reversal or TextPairs",
    "classes": "Labelled or Origins",
}
"""What people call rows of each form, and what has them."""

Batch = dict[str, jax.Array]
"""`inputs` and `targets` int32 `[B, T]`, `weights` float32 `[B, T]`; for packed rows `positions` and `segments` int32
`[B, T]`; for an encoder `source` int32 `[B, S]` and `real` bool `[B, S]`; `classes` int32 `[B]`."""


@dataclass(frozen=True)
class TokenLoss:
    """How the loss of a token is counted.

    `z_loss` adds that much of the square of the logits' log-sum-exp, which keeps it near 0. `label_smoothing` gives
    that share of the target's probability to all tokens alike.

    Errors: `InputError` for a negative number, or a share of 1 or more.
    Source: Chowdhery et al. 2022, arXiv:2204.02311, section 5; Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """

    form: ClassVar[Form] = "tokens"

    z_loss: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        name = type(self).__name__
        if self.z_loss < 0:
            raise InputError(f"{name} got z_loss={self.z_loss}: needed is 0 or more, about 1e-4")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"{name} got label_smoothing={self.label_smoothing}: needed is a share in [0, 1)")

    def require_data(self, data: TrainingData) -> None:
        """Errors: `InputError` for data whose rows lack what it reads."""
        given = form_of(data)
        if given != self.form:
            raise InputError(
                f"{type(self).__name__} reads {READ[self.form]}, and {type(data).__name__} has {READ[given]}: give it "
                f"{KINDS[self.form]}"
            )

    def vocabulary(self, of_data: int) -> int:
        """How many tokens a model of data with that many knows."""
        return of_data

    def rows(self, rows: grain.MapDataset, vocabulary: int, seed: int) -> grain.MapDataset:
        """The rows of data of that vocabulary, as it is trained on them."""
        return rows

    def of_tokens(self, logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
        """The loss of each token, `[B, T]`, in nats."""
        losses_BT = cross_entropy(logits_BTV, targets_BT)
        if not self.z_loss and not self.label_smoothing:
            return losses_BT
        lse_BT = jax.nn.logsumexp(logits_BTV.astype(jnp.float32), axis=-1)
        if self.label_smoothing:
            mean_BT = lse_BT - jnp.mean(logits_BTV.astype(jnp.float32), axis=-1)
            losses_BT = (1 - self.label_smoothing) * losses_BT + self.label_smoothing * mean_BT
        return losses_BT + self.z_loss * jnp.square(lse_BT)

    def weight(self, batch: Batch) -> jax.Array:
        """What the mean of a batch is over: most tokens of a retrieval task are not asked for."""
        return jnp.sum(batch["weights"])

    def total(self, model: Transformer, batch: Batch, key: jax.Array) -> jax.Array:
        """The sum of the losses of a batch."""
        logits_BTV = model(batch["inputs"], batch.get("positions"), mask=_documents(batch), key=key)
        return self._total(logits_BTV, batch)

    def _total(self, logits_BTV: jax.Array, batch: Batch) -> jax.Array:
        losses_BT = self.of_tokens(logits_BTV, batch["targets"])
        weights_BT = batch["weights"]
        # The logits of what does not count may mean nothing, and a product with 0 would keep that.
        losses_BT = jnp.where(weights_BT > 0, losses_BT, 0)
        return jnp.sum(losses_BT * weights_BT)


@dataclass(frozen=True)
class CausalLM(TokenLoss):
    """The next token, from those before it: the loss is the mean of `-log p(target)` over the targets that count."""

    def require(self, model: Architecture) -> None:
        """Errors: `InputError` for a model that does not predict the next token from those before it.

        One that sees the tokens ahead would be trained on its own answers, and its loss would mean nothing.
        """
        _without_encoder(self, model)
        _of_tokens(self, model)
        if not all(attention.mask.causal for attention in model.main_stack.attentions()):
            raise InputError(_unfit(self, "has a mask that lets tokens look ahead", "a decoder with causal masks"))


@dataclass(frozen=True)
class MaskedLM(TokenLoss):
    """Tokens that were hidden, from all others: of each row a `share` is to be predicted.

    `rows` hides them, behind a token of its own: the model's vocabulary has one more than the text's.

    Errors: `InputError` for a share outside (0, 1).
    Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1.

    >>> from posjax.data import Reversal
    >>> row = MaskedLM(share=0.5).rows(Reversal().rows(9, 0), vocabulary=32, seed=0)[0]
    >>> bool((row["inputs"] == 32).any()), float(row["weights"].sum())
    (True, 4.0)
    """

    share: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1:
            raise InputError(f"MaskedLM got share={self.share}: needed is a share in (0, 1), about 0.15")

    def require_data(self, data: TrainingData) -> None:
        """Errors: `InputError` for data that is no text: a task says itself what is to be foretold."""
        super().require_data(data)
        if isinstance(data, Task):
            raise InputError(f"MaskedLM hides tokens of a text, and {type(data).__name__} is a task: give it a text")

    def vocabulary(self, of_data: int) -> int:
        """One more, the token that hides others."""
        return of_data + 1

    def rows(self, rows: grain.MapDataset, vocabulary: int, seed: int) -> grain.MapDataset:
        """Rows of a text of that vocabulary, a share of whose tokens is hidden, as `posjax.data.masked` has it."""
        return masked(rows, self.share, vocabulary, vocabulary, seed)

    def require(self, model: Architecture) -> None:
        """Errors: `InputError` for a model that does not see all tokens."""
        _of_tokens(self, model)
        if any(attention.mask.causal for attention in model.main_stack.attentions()):
            raise InputError(_unfit(self, "has a causal mask", "an encoder, as encoder() makes one"))


@dataclass(frozen=True)
class SeqToSeq(TokenLoss):
    """The next token of a target, from those before it and the whole source."""

    form: ClassVar[Form] = "pairs"

    def require(self, model: Architecture) -> None:
        """Errors: `InputError` for a model without an encoder and a decoder."""
        _of_tokens(self, model)
        if model.encoder is None or model.decoder is None:
            needed = "an encoder and a decoder, as encoder_decoder() makes them"
            raise InputError(_unfit(self, "lacks one of its two stacks", needed))

    def total(self, model: Transformer, batch: Batch, key: jax.Array) -> jax.Array:
        """The sum of the losses of a batch."""
        source = batch["source"]
        # All rows are padded to one length, which is that of their context.
        memory = model.encode(source, real=batch.get("real"), key=key, length=source.shape[1])
        logits_BTV = model(batch["inputs"], batch.get("positions"), memory=memory, key=key)
        return self._total(logits_BTV, batch)


@dataclass(frozen=True)
class Classification(TokenLoss):
    """A class for each row."""

    form: ClassVar[Form] = "classes"

    def require(self, model: Architecture) -> None:
        """Errors: `InputError` for a model that does not predict classes."""
        if model.output.classes is None:
            raise InputError(_unfit(self, "predicts tokens", "Output(classes=n)"))

    def weight(self, batch: Batch) -> jax.Array:
        """The number of rows."""
        return jnp.asarray(batch["classes"].shape[0], jnp.float32)

    def total(self, model: Transformer, batch: Batch, key: jax.Array) -> jax.Array:
        """The sum of the losses of a batch."""
        logits_BC = model(batch["inputs"], batch.get("positions"), mask=_documents(batch), key=key)
        return jnp.sum(self.of_tokens(logits_BC, batch["classes"]))


Objective = CausalLM | MaskedLM | SeqToSeq | Classification


def _documents(batch: Batch) -> Mask:
    """Tokens see those of their own document where rows are packed."""
    if "segments" in batch:
        return Segments(batch["segments"])
    return Full()


def _without_encoder(objective: Any, model: Architecture) -> None:
    if model.encoder is not None:
        raise InputError(_unfit(objective, "has an encoder", "a decoder alone"))


def _of_tokens(objective: Any, model: Architecture) -> None:
    if model.output.classes is not None:
        raise InputError(_unfit(objective, "predicts classes of a row", "an output of tokens"))


def _unfit(objective: Any, has: str, needed: str) -> str:
    return f"{type(objective).__name__} does not go with a model that {has}: needed is {needed}"
