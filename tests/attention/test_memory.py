"""The tile law of backends: none but the reference ever makes an array with two axes as long as the sequence."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import pytest

import posjax
from posjax import Causal, Fire, Full, NoPE, Segments, Shaw, T5Bias, Window
from posjax.attention import BACKENDS, describe, job, splash
from posjax.attention.cudnn import call as through_cudnn
from posjax.encodings import Dims, Encoding
from tests.cases import BACKEND_NAMES, ENCODINGS, FEW, first_of, short, wide

N, K, H = 6, 3, 16
S = 1024


def jaxprs(value):
    """The jaxprs in an equation's parameters, however nested."""
    if hasattr(value, "eqns"):  # First, since a jaxpr of newer versions has itself as its `jaxpr`.
        yield value
    elif hasattr(value, "jaxpr"):
        yield from jaxprs(value.jaxpr)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from jaxprs(item)


def shapes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (v.aval.shape for v in equation.outvars if hasattr(v.aval, "shape"))
        for inner in jaxprs(tuple(equation.params.values())):
            yield from shapes(inner)


def trained(encoding: Encoding, attention, S: int, mask=None, explicit=False):
    """A pass forward and backward to all that is learned, and the shapes it takes."""
    mask = mask or (Causal() if encoding.causal else Full())
    dims = Dims(N, H, N * H)
    constants = encoding.constants(dims)

    def loss(params, q, k, v, at):
        joined = encoding.join(params, constants)
        places = (at, at) if explicit else (None, None)
        bias = describe(encoding, joined, N, *places, (S, S), 0)
        return attention(q, k, v, bias, mask, 0)[0].astype(jnp.float32).sum()

    like = [jax.ShapeDtypeStruct((1, S, n, H), jnp.float32) for n in (N, K, K)]
    params = jax.eval_shape(lambda: encoding.init(jax.random.key(0), dims))
    return jax.grad(loss, (0, 1, 2, 3)), (params, *like, jax.ShapeDtypeStruct((S,), jnp.int32))


def quadratic(*case) -> list[tuple[int, ...]]:
    """The intermediates with two axes as long as the sequence."""
    function, arguments = trained(*case)
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return [shape for shape in shapes(jaxpr) if sum(size >= S for size in shape) >= 2]


def sized(encoding: Encoding) -> bool:
    """Whether its own tables reach that far."""
    return encoding.max_length is None or encoding.max_length >= S


@pytest.mark.parametrize("encoding", wide(filter(sized, ENCODINGS), FEW), ids=short)
@pytest.mark.parametrize("backend", [name for name in BACKEND_NAMES if name != "reference"])
def test_no_intermediate_is_length_by_length(encoding, backend):
    like = jax.ShapeDtypeStruct((1, S, N, H), jnp.float32)
    for explicit in (False, True):
        at = jnp.arange(S) if explicit else None
        params = encoding.join(encoding.init(jax.random.key(0), Dims(N, H, N * H)), encoding.constants(Dims(N, H)))
        bias = describe(encoding, params, N, at, at, (S, S), 0)
        if BACKENDS[backend].refuse(job(like, like, bias, Causal(), 0)) is None:
            assert not quadratic(encoding, BACKENDS[backend].attention, S, None, explicit), explicit


def test_the_check_sees_what_it_looks_for():
    assert quadratic(T5Bias(), BACKENDS["reference"].attention, S)
    xla = partial(through_cudnn, implementation="xla")
    assert quadratic(NoPE(), lambda q, k, v, bias, mask, q_offset: (xla(q, k, v, bias, mask),), S)


@pytest.mark.parametrize("encoding", [NoPE(), posjax.Alibi(learned=True)], ids=short)
def test_splash_makes_none_either(encoding):
    def attention(q, k, v, bias, mask, q_offset):
        return (splash.call(q, k, v, bias, mask, q_offset, interpret=False),)

    assert not quadratic(encoding, attention, S, Causal() & Window(300))


SEGMENTS = Segments(jnp.ones((1, 16_384), jnp.int32))


@first_of(
    ("encoding", "mask", "explicit"),
    [
        (T5Bias(), Causal(), False),
        (T5Bias(bidirectional=True), Full(), True),
        (Fire(hidden=4), Causal(), False),
        (NoPE(), Causal() & Window(512), False),
        (NoPE(), Causal() & SEGMENTS, False),
        (Shaw(), Causal(), False),
    ],
    ids=lambda value: "segments" if "Segments" in repr(value) else str(value),
    keep=2,
)
def test_memory_of_chunked_grows_with_the_length(encoding, mask, explicit):
    def temporaries(S):
        function, arguments = trained(encoding, BACKENDS["chunked"].attention, S, mask, explicit)
        return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    assert math.log(temporaries(16_384) / temporaries(4096), 4) < 1.2
