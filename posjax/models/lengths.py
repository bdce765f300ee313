"""The constants of encodings that depend on the context's length, for every length that a generation goes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from posjax.attention import context_length
from posjax.encodings.base import Encoding, Params
from posjax.encodings.traits import told_by_fields
from posjax.errors import InputError
from posjax.models.architecture import Architecture
from posjax.models.memory import Memory
from posjax.models.plans import plan


@dataclass(frozen=True)
class Lengths:
    """The constants of the decoder for the prompt, and of the encodings that change, stacked for each later length."""

    first: dict[str, dict[str, Params]]
    later: dict[str, dict[str, Params]]

    def at(self, step: Any) -> dict[str, dict[str, Params]]:
        """Those of the context after `step + 1` tokens more than the prompt's."""
        found = {}
        # A copy: the same value serves every step.
        for name, owners in self.first.items():
            changing = self.later.get(name, {})
            found[name] = dict(owners)
            for owner, stacked in changing.items():
                found[name][owner] = jax.tree.map(lambda leaves: leaves[step], stacked)
        return found


jax.tree_util.register_dataclass(Lengths, data_fields=["first", "later"], meta_fields=[])


def lengths(architecture: Architecture, prompt: int, most: int, memory: Memory | None = None) -> Lengths:
    """For contexts from the prompt's length to the longest one.

    Cross attention sees the memory's tokens too, so its context is no shorter than they reach.

    Errors: `InputError` for an encoding that is told the length by fields, which no loop could set anew.
    """
    name = architecture.main
    first, later = {}, {}
    layers = plan(architecture.main_stack, architecture.width)
    for owner, (encoding, sizes) in layers.owners.items():
        least = 1
        if memory is not None and owner in layers.crossing:
            least = context_length(encoding, None, memory.k_positions)
        begun = max(prompt, least)
        first[owner] = encoding.at_length(begun).constants(sizes)
        if encoding.length_dependent and most > prompt:
            _expect_constants(encoding)
            contexts = [max(length, least) for length in range(prompt + 1, most + 1)]
            each = [encoding.at_length(length).constants(sizes) for length in contexts]
            # Stacked, so that the loop over tokens takes them as data and is compiled once.
            later[owner] = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    return Lengths({name: first}, {name: later})


def _expect_constants(encoding: Encoding) -> None:
    if told_by_fields(encoding):
        raise InputError(
            f"generate reads tokens in a loop, for which the length of the context is data, and at_length sets fields "
            f"of {encoding!r} beside its constants: let its hooks read constants alone, and name the fields in its "
            "swept"
        )
