"""What an encoding declares, over all of its example values: the small table at the head of its page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

from experiments.pages.subjects import PageSubject
from posjax.encodings import Dims, Encoding, Schedule

HOOKS = {"move": "positions", "embed": "embedding", "rotate": "queries and keys", "score": "scores"}
"""Where in the model each hook acts; a bias is told by its kind, since a composition may have none."""


def facts(subject: PageSubject) -> dict[str, str]:
    """What an encoding declares over its values: "yes", "" for no, or "some"."""
    values = subject.values
    if hasattr(values[0], "parts"):
        # The examples of a composition say nothing of the parts that a user gives it.
        others = ("relative", "learned", "causal", "by length")
        return {"acts on": "what its parts do", **dict.fromkeys(others, "by parts")}
    return {
        "acts on": _where(values),
        "relative": _share([value.relative for value in values]),
        "learned": _share([_learns(value) for value in values]),
        "causal": _share([value.causal for value in values]),
        "by length": _share([value.length_dependent for value in values]),
    }


def by_length(subject: PageSubject) -> str:
    """Whether a schedule changes with the length of the context."""
    return _share([subject.kind.at_length is not Schedule.at_length])


def _where(values: tuple[Any, ...]) -> str:
    # A dictionary keeps their order, which is that in which a model meets them.
    places: dict[str, None] = {}
    for value in values:
        places |= dict.fromkeys(_acts_on(value))
    return ", ".join(places) or "nothing"


def _acts_on(value: Encoding) -> Iterator[str]:
    for hook, place in HOOKS.items():
        # A hook acts where a class defines it: the base's is the identity.
        if getattr(type(value), hook) is not getattr(Encoding, hook):
            yield place
    if value.bias_kind != "none":
        yield "bias"


def _learns(value: Encoding) -> bool:
    dims = Dims(heads=12, head_size=64, model_size=768)
    # Shapes tell as much as numbers here, without the cost of drawing them.
    params = jax.eval_shape(lambda key: value.init(key, dims), jax.random.key(0))
    return bool(jax.tree.leaves(params))


def _share(told: list[bool]) -> str:
    if all(told):
        return "yes"
    if any(told):
        return "some"
    return ""
