"""What a configuration describes: an architecture, read whole or refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from posjax.encodings.base import Dims, Encoding
from posjax.errors import InputError
from posjax.files import read_json
from posjax.interop.config import Config
from posjax.interop.families import BEYOND, NAMED
from posjax.interop.family import ModelFamily
from posjax.interop.files import AGAIN, CONFIG, require_config
from posjax.interop.hub import locate
from posjax.interop.llama2c import open_llama2c
from posjax.models.architecture import Architecture
from posjax.models.plans import plan


@dataclass(frozen=True)
class Description:
    """What a published model is: its `family`, as its publisher calls it, its architecture, its vocabulary.

    `beyond`: why a model of a family that is known by name alone is not read, "" for all others; it then has no
    architecture.
    """

    family: str
    vocabulary: int
    architecture: Architecture | None
    beyond: str = ""

    @property
    def parameters(self) -> int:
        """How many there are, with what encodings learn. Errors: `InputError` for a model without an architecture."""
        architecture = self.required()
        count = architecture.size(self.vocabulary)
        # Tables of positions and of distances are published as weights like others.
        for stack in architecture.stacks.values():
            for encoding, sizes in plan(stack, architecture.width).owners.values():
                count += _learned(encoding, sizes)
        return count

    def required(self) -> Architecture:
        """The architecture. Errors: `InputError` with the reason, where there is none."""
        if self.architecture is None:
            raise InputError(f"a model of model_type={self.family!r} is not read: {self.beyond}")
        return self.architecture


def describe(source: str | Path | Mapping[str, Any]) -> Description:
    """What a configuration describes, given as a mapping, a config.json, or what `read` takes; no weights are read.

    Errors: `InputError` for a family that is unknown, and names each key that may change the computation and is not
    understood.

    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    >>> found = describe({"model_type": "llama", "vocab_size": 11, "rope_theta": 5e5, **sizes})
    >>> found.architecture.encoding
    Rope(base=500000.0, schedule=Plain(), layout='split', fraction=1.0)
    >>> found.parameters
    6320
    """
    values = configuration(source)
    origin = "the config"
    if not isinstance(source, Mapping):
        origin = str(source)
    return described(Config(values, origin))


def configuration(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of what `describe` takes, as it stands there. Errors: `InputError`."""
    if isinstance(source, Mapping):
        return dict(source)
    path = locate(source)
    if path.is_dir():
        require_config(path)
        path = path / CONFIG
    # A path that is not there is told by the reader of JSON, by its name.
    if path.suffix == ".json" or not path.exists():
        return read_json(path, AGAIN)
    return open_llama2c(path).config()


def described(config: Config) -> Description:
    """The description of a configuration all of whose keys are understood. Errors: as `describe`."""
    name = config.family
    vocabulary = config.whole("vocab_size")
    if name in BEYOND:
        return Description(name, vocabulary, None, BEYOND[name])
    # The family reads what it knows; what then is left may change the computation.
    architecture = family_of(config).architecture(config)
    config.require_read()
    return Description(name, vocabulary, architecture)


def _learned(encoding: Encoding, sizes: Dims) -> int:
    # Shapes alone: a table may be large.
    made = jax.eval_shape(lambda key: encoding.init(key, sizes), jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(made))


def family_of(config: Config) -> ModelFamily:
    """The family of a configuration. Errors: `InputError` for one that is not read."""
    name = config.family
    if name not in NAMED:
        known = ", ".join(sorted(NAMED))
        raise InputError(f"{config.origin} has model_type={name!r}, which is not read: known are {known}")
    return NAMED[name]
