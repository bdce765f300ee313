"""What the laws share: the encodings and backends that they iterate over, and attention compiled once for each."""

import contextlib
import itertools

import jax
import pytest

import posjax
from posjax import Causal, Full
from posjax.attention import context_length
from posjax.encodings import Encoding
from tests.cases import (
    BACKEND_NAMES,
    CORE,
    DIMS,
    ENCODINGS,
    FEW,
    INTERPRETED,
    SINGLE,
    each_case,
    in_turn,
    short,
    wide,
)

_attend = jax.jit(posjax.attend, static_argnames=("encoding", "backend", "length"))


def attend(*arrays, backend="auto", **given):
    if given.get("q_positions") is not None:  # Known here, and traced inside.
        given["length"] = context_length(given["encoding"], None, given["q_positions"])
    with may_refuse(backend):
        return _attend(*arrays, backend=backend, **given)


@contextlib.contextmanager
def may_refuse(backend: str):
    """Some backends see only in the middle that an encoding is more than they can do, and say why."""
    try:
        yield
    except NotImplementedError as why:
        if backend not in INTERPRETED:
            raise
        pytest.skip(str(why))


each_encoding = pytest.mark.parametrize("encoding", wide(ENCODINGS, CORE), ids=short)
each_single = pytest.mark.parametrize("encoding", wide(SINGLE, CORE), ids=short)
every_second = pytest.mark.parametrize("encoding", wide(SINGLE, CORE[::2]), ids=short)
FAST = [name for name in BACKEND_NAMES if name != "reference"]
"""The definition, with which the others are compared, is held to the laws on its own under the mark "exhaustive"."""
each_backend = pytest.mark.parametrize("backend", wide([*BACKEND_NAMES, *INTERPRETED], FAST))


def each_encoding_at(*sizes: int) -> pytest.MarkDecorator:
    """Each encoding with each backend, at these sizes in turn: a few encodings at all of them."""
    cases = in_turn(itertools.product(ENCODINGS, [*BACKEND_NAMES, *INTERPRETED]), sizes, FEW)
    return each_case("encoding, backend, t", cases, lambda case: case[0] in CORE and case[1] in FAST)


def mask_of(encoding: Encoding) -> posjax.Mask:
    return Causal() if encoding.causal else Full()


def qkv(length: int, seed: int = 1, rows: int = 2, kv_heads: int = 3, dtype: str = "float32") -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(seed), 3)
    heads = (DIMS.heads, kv_heads, kv_heads)
    return [jax.random.normal(k, (rows, length, n, DIMS.head_size), dtype) for k, n in zip(keys, heads, strict=True)]
