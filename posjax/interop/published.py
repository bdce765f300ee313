"""A published model's tensors and ours, matched: each leaf of ours once, each tensor of theirs read or ignored."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from posjax.errors import InputError
from posjax.interop.config import Config
from posjax.interop.family import ModelFamily, Rules, Spelling, spelled
from posjax.interop.placing import PIECE
from posjax.interop.rules import Weight, require_covered
from posjax.interop.sources import Index, Source, everything

LAYER = re.compile(r"^(blocks\.\w+|encodings\.\w+)\.(\d+)\.")
"""Where in a path of ours the number of a layer stands."""


@dataclass(frozen=True)
class Published:
    """What a model that was read keeps, to be written again: its configuration as JSON, and how its names are spelled.

    `kept`: tensors that were there besides the weights, with their types.
    """

    config: str
    spelling: Spelling = ()
    kept: tuple[tuple[str, str], ...] = ()


def rule_of(rules: Rules, path: str, spelling: Spelling = ()) -> Weight:
    """The rule of a parameter of ours. Errors: `InputError` where a family forgot one."""
    rule = rules.get(path)
    # What only some layers have is named whole; all else once, for every layer.
    if rule is None:
        layer = LAYER.match(path)
        if layer is not None:
            before, number = layer.groups()
            template = rules.get(f"{before}.{{}}.{path[layer.end() :]}")
            if template is not None:
                rule = replace(template, key=template.key.replace("{}", number))
    if rule is None:
        raise InputError(f"no tensor of this family makes {path}: the architecture is not one that it publishes")
    return replace(rule, key=spelled(rule.key, spelling))


def leaves(model: nnx.Module) -> dict[str, Any]:
    """The parameters of a model by their paths: `blocks.decoder.0.attention.query.kernel`."""
    flat = nnx.to_flat_state(nnx.state(model))
    return {".".join(map(str, path)): variable.get_value() for path, variable in flat}


def spelling_of(family: ModelFamily, paths: Mapping[str, Any], rules: Rules, source: Source) -> Spelling:
    """Which of its spellings a family's names have here: the one under which most are found."""

    def found(spelling: Spelling) -> int:
        keys = {rule_of(rules, path, spelling).key for path in paths}
        return len(keys.intersection(source.tensors))

    # Messages then speak of the names that the files have, and not of another spelling's.
    # The first of several that find as many.
    return max(((), *family.spellings), key=found)


def matched(family: ModelFamily, config: Config, shapes: Mapping[str, tuple[int, ...]], source: Source) -> Match:
    """Which tensor makes each of our parameters, all of them checked before a number is read.

    Errors: `InputError` names what is missing, left over or of another shape.
    """
    rules = family.weights(config)
    spelling = spelling_of(family, shapes, rules, source)
    found = {path: rule_of(rules, path, spelling) for path in shapes}
    # Everything is looked at before anything is read: a model may take minutes to read.
    for path, rule in found.items():
        rule.check(source.tensors, shapes[path])
    read = {rule.key for rule in found.values()}
    extra = dict(_twins(family, spelling, read, source))
    fixed = {}
    if family.fixed is not None:
        fixed = {spelled(name, spelling): array for name, array in family.fixed(config).items()}
    # What is there again, or follows from the configuration, is held to it, and then read no more.
    beside = [name for name in (*extra, *fixed) if name in source.tensors]
    require_covered(source.tensors, list(found.values()), (*_patterns(family, spelling), *beside))
    for name, other in extra.items():
        _require_equal(name, source, source.tensors[other].shape, partial(source.part, other))
    for name, array in fixed.items():
        if name in source.tensors:
            _require_equal(name, source, array.shape, array.__getitem__)
    # Their types are kept, since nothing else will say in which they were.
    kept = tuple((name, str(source.tensors[name].dtype)) for name in beside)
    return Match(found, spelling, kept)


@dataclass(frozen=True)
class Match:
    """The rule of each parameter, and what else `Published` keeps."""

    rules: Mapping[str, Weight]
    spelling: Spelling
    kept: tuple[tuple[str, str], ...]


def _patterns(family: ModelFamily, spelling: Spelling) -> list[str]:
    return [spelled(pattern, spelling) for pattern in family.ignored]


def _twins(family: ModelFamily, spelling: Spelling, read: set[str], source: Source) -> list[tuple[str, str]]:
    """The tensors that are another one again, and which."""
    pairs = []
    for copy, original in family.twins:
        name, other = spelled(copy, spelling), spelled(original, spelling)
        # A model that is not tied reads the table as its own.
        if name in source.tensors and name not in read and other in source.tensors:
            pairs.append((name, other))
    return pairs


def _require_equal(name: str, source: Source, shape: tuple[int, ...], part: Callable[[Index], np.ndarray]) -> None:
    """Errors: `InputError` for a tensor that is not what it should be, piece by piece."""
    same = source.tensors[name].shape == shape
    if same:
        # By rows: a whole table twice would be the most that reading a model takes.
        rest = everything(shape)[1:]
        step = max(1, PIECE // (4 * math.prod(shape[1:])))
        for start in range(0, shape[0], step):
            index = (slice(start, min(start + step, shape[0])), *rest)
            found = source.part(name, index)
            same = same and np.array_equal(found, part(index).astype(found.dtype))
    if not same:
        raise InputError(
            f"the tensor {name!r} is not what config.json says that it is, a copy of another or of a formula: weights "
            "and config.json are of two models, or of a form that is not read"
        )


def abstract(shape: tuple[int, ...], dtype: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    """A parameter to be placed."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
