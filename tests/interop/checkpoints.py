"""Folders that transformers wrote, with the logits that it computes: some of them here, and others where they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from posjax.interop import read
from posjax.interop.published import leaves
from posjax.models import Architecture, Compute, Transformer, build
from tests import golden

HERE = golden.HERE / "published"
"""What the checkout holds."""
QUICK = ("llama", "gpt-neox", "bloom", "t5-v1-0")
"""One family for RoPE, partial RoPE, ALiBi and T5's bias: what every run of the tests reads."""
OUTSIDE = Path(os.environ.get("POSJAX_CHECKPOINTS", golden.HERE.parents[2] / "shared" / "checkpoints"))
"""The rest of them, and two trained models."""
REFUSED = "deepseek-v3-dense-yarn"


def _all() -> dict[str, Path]:
    found = {path.name: path for path in sorted(HERE.iterdir())}
    index = OUTSIDE / "tiny" / "index.json"
    if index.is_file():
        for entry in json.loads(index.read_text()):
            found.setdefault(entry["folder"], OUTSIDE / "tiny" / entry["folder"])
    return found


FOLDERS = _all()
READ = [name for name in FOLDERS if name != REFUSED]


def marks(name: str) -> tuple[Any, ...]:
    """None for the quick ones, and for the rest that they are exhaustive."""
    if name in QUICK:
        return ()
    return (pytest.mark.exhaustive,)


def wide(names: list[str]) -> list[Any]:
    """Each name with its marks."""
    return [pytest.param(name, marks=marks(name)) for name in names]


def need(name: str) -> Path:
    """A folder, or the test is passed over."""
    if name not in FOLDERS:
        pytest.skip(f"the folder {name} is not here: set POSJAX_CHECKPOINTS")
    return FOLDERS[name]


def expected(name: str) -> Mapping[str, np.ndarray]:
    return np.load(need(name) / "expected.npz")


def loaded(name: str, **more: Any) -> Transformer:
    return read(need(name), **more)


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a folder, by the package's own reader."""
    found: dict[str, np.ndarray] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


def logits(model: Transformer, name: str) -> np.ndarray:
    """Those of the tokens that transformers was given."""
    given = expected(name)
    tokens = jnp.asarray(given["tokens"])
    if "decoder_tokens" not in given:
        return np.asarray(_alone(model, tokens))
    return np.asarray(_both(model, tokens, jnp.asarray(given["decoder_tokens"])))


@nnx.jit
def _alone(model: Transformer, tokens: jax.Array) -> jax.Array:
    return model(tokens)


@nnx.jit
def _both(model: Transformer, source: jax.Array, tokens: jax.Array) -> jax.Array:
    return model(tokens, memory=model.encode(source))


def as_another(model: Transformer, architecture: Architecture) -> Transformer:
    """The weights in another architecture, which may have fewer of them."""
    held = leaves(model)
    other = nnx.eval_shape(lambda: build(architecture, model.vocabulary, 0, Compute(backend="reference")))
    graph, state = nnx.split(other)
    flat = []
    for path, variable in nnx.to_flat_state(state):
        found = held[".".join(map(str, path))]
        assert found.shape == variable.get_value().shape
        flat.append((path, variable.replace(found)))
    return nnx.merge(graph, nnx.from_flat_state(flat))
