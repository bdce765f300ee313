"""What this training is of: the next token, from those before it."""

from __future__ import annotations

from posjax.errors import InputError
from posjax.models import Architecture


def require_next_token(run: str, model: Architecture) -> None:
    """Errors: `InputError` for the model of a run that does not predict the next token from those before it.

    One that sees the tokens ahead would be trained on its own answers, and its loss would mean nothing.
    """
    why = ""
    if model.encoder is not None:
        why = "has an encoder"
    elif model.output.classes is not None:
        why = "predicts classes of a row"
    elif not all(attention.mask.causal for attention in model.main_stack.attentions()):
        why = "has a mask that lets tokens look ahead"
    if why:
        raise InputError(
            f"the run {run!r} trains and measures the prediction of the next token, and its model {why}: needed is a "
            "decoder alone whose masks are causal; build(...) makes the other models for a training of your own"
        )
