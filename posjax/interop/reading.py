"""A published model as a Transformer, its weights placed on devices one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Sharding
from jax.typing import DTypeLike

from posjax.encodings.base import Encoding
from posjax.errors import InputError
from posjax.interop.config import Config
from posjax.interop.describing import described, family_of
from posjax.interop.files import Folder, open_folder
from posjax.interop.hub import locate
from posjax.interop.llama2c import Llama2c, open_llama2c
from posjax.interop.placing import place
from posjax.interop.published import Published, abstract, leaves, matched
from posjax.interop.swapping import swapped
from posjax.models.compute import COMPUTE, Compute
from posjax.models.transformer import Transformer, build

Swap = Encoding | Callable[[Encoding], Encoding]
Placement = Sharding | Callable[[str, tuple[int, ...]], Sharding]


def read(
    source: str | Path,
    *,
    encoding: Swap | None = None,
    dtype: DTypeLike | None = None,
    sharding: Placement | None = None,
    compute: Compute = COMPUTE,
) -> Transformer:
    """A published model: from a folder of safetensors, a file of llama2.c's, or `hf:OWNER/NAME`.

    `encoding` takes the place of every encoding of the main stack that rotates, adds a bias or scores; as a function it
    is given each of them. `dtype`: of the parameters, as they are stored by default. `sharding`: how they lie on
    devices, one for all or by path and shape: each device reads its own part. `compute`: how the model is computed.

    Errors: `InputError` names what is missing, not understood, or of another shape, before weights are read; and an
    encoding whose parameters are not those that were trained.

    >>> import posjax
    >>> extended = posjax.Rope(schedule=posjax.Yarn(factor=4.0, original_length=2048))
    >>> model = read("models/pythia-160m", encoding=extended)  # doctest: +SKIP
    """
    path = locate(source)
    held = opened(path)
    config = Config(held.config(), str(path))
    description = described(config)
    architecture = description.required()
    if encoding is not None:
        architecture = swapped(architecture, encoding)
    # Shapes alone: initial weights would take the memory of a second model.
    model = nnx.eval_shape(lambda: build(architecture, description.vocabulary, 0, compute))
    shapes = {path: leaf.shape for path, leaf in leaves(model).items()}
    # From here on nothing can be missing but the numbers themselves.
    match = matched(family_of(config), config, shapes, held)
    arrays = {}
    for name, rule in match.rules.items():
        shape = shapes[name]
        wanted = abstract(shape, _dtype(dtype, held.tensors[rule.key].dtype), _where(sharding, name, shape))
        # One after another: a host that holds two at once needs the memory of the largest twice.
        arrays[name] = place(held, rule, wanted)
    graph, state = nnx.split(model)
    flat = []
    for at, variable in nnx.to_flat_state(state):
        flat.append((at, variable.replace(arrays[".".join(map(str, at))])))
    filled: Transformer = nnx.merge(graph, nnx.from_flat_state(flat))
    # Text, since whatever a module keeps that is no array has to be hashable.
    filled.published = Published(json.dumps(held.config()), match.spelling, match.kept)
    return filled


def opened(path: Path) -> Folder | Llama2c:
    """The tensors of a folder, or of a file of llama2.c's."""
    # A file of a folder is refused with its remedy by who reads folders.
    if path.is_file() and path.suffix not in (".safetensors", ".json"):
        return open_llama2c(path)
    return open_folder(path)


def _dtype(asked: DTypeLike | None, stored: np.dtype) -> np.dtype:
    if asked is None:
        return stored
    found = jnp.dtype(asked)
    if not jnp.issubdtype(found, jnp.floating):
        raise InputError(f"read got dtype={found}: needed is a floating one, such as 'float32' or 'bfloat16'")
    return found


def _where(sharding: Any, name: str, shape: tuple[int, ...]) -> jax.sharding.Sharding | None:
    if sharding is None or isinstance(sharding, Sharding):
        return sharding
    return sharding(name, shape)
