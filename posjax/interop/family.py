"""A family of published models as a value: what its configuration says, and where its weights are ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from posjax.interop.config import Config
from posjax.interop.rules import Weight
from posjax.models.architecture import Architecture

Rules = dict[str, Weight]
"""By our parameter's path; `{}` in path and key is the number of a layer. Those of parameters that a model does not
have are passed over: whether there is a bias is said once, by the architecture."""

Spelling = tuple[tuple[str, str], ...]
"""What of the names to replace by what, in turn."""


@dataclass(frozen=True)
class ModelFamily:
    """How the models of some model types are read and written.

    `spellings`: the other ways in which its names are written. `ignored`: patterns of tensors that hold no weights of
    the model. `twins`: tensors that some files hold besides another that they are equal to. `fixed`: tensors that are
    a function of the configuration; they are written again.
    """

    names: tuple[str, ...]
    architecture: Callable[[Config], Architecture]
    weights: Callable[[Config], Rules]
    spellings: tuple[Spelling, ...] = ()
    ignored: tuple[str, ...] = ()
    twins: tuple[tuple[str, str], ...] = ()
    fixed: Callable[[Config], Mapping[str, np.ndarray]] | None = None


def spelled(name: str, spelling: Spelling) -> str:
    """A tensor's name in another spelling.

    >>> spelled("transformer.h.0.ln_1.weight", (("transformer.", ""),))
    'h.0.ln_1.weight'
    """
    # One after another, so that a spelling may both rename and shorten.
    for ours, theirs in spelling:
        name = name.replace(ours, theirs)
    return name
