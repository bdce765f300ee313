"""A Transformer as a published model: the same names, the same bytes, and a configuration that describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from posjax.errors import InputError
from posjax.interop.config import Config
from posjax.interop.describing import described, family_of
from posjax.interop.families.values import unfactored
from posjax.interop.family import ModelFamily, spelled
from posjax.interop.published import Published, leaves, rule_of
from posjax.interop.rerotating import rerotated, spelled as spelled_for
from posjax.interop.writing import LIMIT, Outgoing, outgoing, write_folder
from posjax.models.architecture import Architecture
from posjax.models.transformer import Transformer

TYPES = ("dtype", "torch_dtype")
"""The keys that say in what the weights are stored."""


def write(
    model: Transformer,
    folder: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    limit: int = LIMIT,
    overwrite: bool = False,
) -> None:
    """Writes a model as its family is published: safetensors of at most `limit` bytes each, and config.json.

    A model that was read gives back the tensors that it was read from, bit for bit, under their names. Its
    configuration is its own, with the rotation that the model has now. `config` is for a model that was not read, and
    has to describe its architecture. `overwrite` replaces a model that the folder holds.

    Errors: `InputError` for a model without a configuration, or one that its configuration does not describe.
    """
    published = _published(model, config)
    values = _typed(_describing(model, json.loads(published.config)), model)
    read = Config(values)
    family = family_of(read)
    rules = family.weights(read)
    tensors = outgoing((rule_of(rules, path, published.spelling), leaf) for path, leaf in leaves(model).items())
    beside = _beside(family, read, published, tensors)
    write_folder(Path(folder), values, {**tensors, **beside}, limit, overwrite)


def _published(model: Transformer, config: Mapping[str, Any] | None) -> Published:
    # A configuration that is given speaks of the usual names, whatever those were that the model was read from.
    if config is not None:
        return Published(json.dumps(dict(config)))
    if not isinstance(model.published, Published):
        raise InputError(
            "the model was not read from a published one: give write a config that describes its architecture, such "
            "as {'model_type': 'llama', ...}"
        )
    return model.published


def _describing(model: Transformer, values: dict[str, Any]) -> dict[str, Any]:
    """A configuration that describes the model, its rotation put in where that is what differs.

    Errors: `InputError` where more does.
    """
    description = described(Config(values))
    if description.vocabulary != model.vocabulary:
        raise InputError(
            f"the model has a vocabulary of {model.vocabulary} and its configuration one of {description.vocabulary}: "
            "give write a config that describes the model"
        )
    # Equal to the letter: also keys that change nothing stay as they were published.
    if description.architecture == model.architecture:
        return values
    # What is written is read once more in here, so that no configuration describes another model than its weights.
    wanted = spelled_for(model.architecture, description.family)
    changed = rerotated(values, description.required(), wanted)
    again = described(Config(changed)).required()
    if again != wanted:
        _require_no_factor(wanted, again, description.family)
        raise InputError(
            f"the configuration (model_type={description.family!r}) describes another architecture than the model's, "
            "and a rotation is all that can be put into it: give write a config that describes the model"
        )
    return changed


def _require_no_factor(now: Architecture, said: Architecture, family: str) -> None:
    """Errors: `InputError` where a schedule has a factor for queries and keys that the family's code undoes."""
    pairs = zip(now.main_stack.encodings(now.width), said.main_stack.encodings(said.width), strict=False)
    for (ours, _), (theirs, _) in pairs:
        if ours != theirs and unfactored(ours) == theirs:
            raise InputError(
                f"the code of model_type={family!r} norms queries and keys once they are turned, which undoes the "
                f"attention factor of {ours!r}: give its schedule attention_factor=1.0"
            )


def _typed(values: dict[str, Any], model: Transformer) -> dict[str, Any]:
    """The configuration with the type of the weights, where it says one."""
    stored = {str(leaf.dtype) for leaf in leaves(model).values()}
    # Of several types the configuration says the one that it was published with.
    if len(stored) > 1:
        return values
    said = dict.fromkeys((key for key in TYPES if values.get(key) is not None), stored.pop())
    return {**values, **said}


def _beside(
    family: ModelFamily, config: Config, published: Published, tensors: Mapping[str, Outgoing]
) -> dict[str, Outgoing]:
    """The tensors that were there besides the weights, and are another of them or a formula."""
    fixed: dict[str, np.ndarray] = {}
    if family.fixed is not None:
        fixed = {spelled(name, published.spelling): array for name, array in family.fixed(config).items()}
    twins = {spelled(copy, published.spelling): spelled(one, published.spelling) for copy, one in family.twins}
    found = {}
    for name, dtype in published.kept:
        # Its original is on its way already.
        if name in twins:
            found[name] = tensors[twins[name]]
            continue
        array = fixed[name].astype(jnp.dtype(dtype))
        found[name] = Outgoing(array.shape, array.dtype, lambda array=array: array)
    return found
