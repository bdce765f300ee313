"""What encodings by head and by layer share: parts of which each serves some of a model alone."""

from __future__ import annotations

from dataclasses import dataclass

from posjax.encodings.base import Encoding
from posjax.encodings.several import Several
from posjax.encodings.traits import layers, moves_tokens, scores_content
from posjax.errors import InputError


@dataclass(frozen=True)
class BySide(Several):
    """Parts of which each serves some heads or layers alone, so none may act on all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # A part that acts on all heads or layers would act for the others too.
        if not self.parts or any(_acts_on_all(part) for part in self.parts):
            raise InputError(
                f"{type(self).__name__} got {self.parts!r}: needed is one encoding or more, none of which "
                "scores content, moves positions or varies over the layers; chain such a one beside it"
            )


def _acts_on_all(part: Encoding) -> bool:
    return scores_content(part) or moves_tokens(part) or layers(part) > 1
