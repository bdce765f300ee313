"""What hooks of one's own return is held to what they were asked for, and what a mask hides reaches no parameter."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Alibi, Causal, InputError, Segments, attend, chain
from posjax.encodings import Encoding, RelativeBias
from posjax.models import build, decoder
from tests.cases import first_of

Q, K, V = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, 4))
ONE = {"a": jnp.ones(1)}


def own(base: type = Encoding, **hooks: Any) -> Encoding:
    """An encoding of a class that has these hooks, each called without itself."""
    methods = {name: staticmethod(hook) for name, hook in hooks.items()}
    return dataclass(frozen=True)(type("Mine", (base,), methods))()


def far(q, k):
    return jnp.abs(q[:, None] - k[None, :]).astype(jnp.float32)


SHAPES = {
    "turned": (own(bias=lambda params, q, k, head: far(q, k).T), r"bias of Mine\(\) gave float32 .*\(6, 2\).*\[2, 6\]"),
    "one line": (
        own(bias=lambda params, q, k, head: k.astype(jnp.float32)),
        r"bias of Mine\(\) gave float32 .*\(6,\).*\[2, 6\]",
    ),
    "a number": (own(RelativeBias, by_distance=lambda params, far, head: 1.0), r"by_distance of Mine\(\) gave float"),
    "in a chain": (
        chain(Alibi(), own(RelativeBias, by_distance=lambda params, far, head: jnp.ones(()))),
        r"by_distance of Mine\(\) gave float32 of shape \(\)",
    ),
    "wider": (
        own(rotate=lambda params, x, at, role: jnp.concatenate([x, x], -1)),
        r"rotate of Mine\(\) gave float32 .*8\).*4\]",
    ),
    "a score": (
        own(score=lambda params, q, k, pairs: jnp.einsum("TNH,SNH->NST", q, k)),
        r"score of Mine\(\) gave float32 .*\(2, 6, 2\).*\[2, 2, 6\]",
    ),
}


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("name", SHAPES)
def test_an_answer_of_another_shape_is_refused(name, backend):
    encoding, said = SHAPES[name]
    with pytest.raises(InputError, match=said):
        attend(Q[:, -2:], K, V, encoding=encoding, backend=backend)


def test_what_is_turned_keeps_its_type():
    encoding = own(rotate=lambda params, x, at, role: x.astype(jnp.float32))
    narrow = [x.astype(jnp.bfloat16) for x in (Q, K, V)]
    with pytest.raises(InputError, match=r"rotate of Mine\(\) gave float32 .*needed is bfloat16"):
        attend(*narrow, encoding=encoding)


def test_what_is_embedded_keeps_its_shape():
    encoding = own(embed=lambda params, x, at: jnp.concatenate([x, x], -1))
    model = build(decoder(encoding, layers=1, width=8, heads=2), 11, 0)
    with pytest.raises(InputError, match=r"embed of Mine\(\) gave float32 .*16\).*8\]"):
        model(jnp.zeros((1, 3), jnp.int32))


@dataclass(frozen=True)
class Log(RelativeBias):
    """-a log(1 + distance), which is no number at a distance below 0."""

    @property
    def causal(self) -> bool:
        return True

    def init(self, key, dims):
        return ONE

    def by_distance(self, params, distance, head):
        return -head.of(params["a"]) * jnp.log1p(distance.astype(jnp.float32))


@dataclass(frozen=True)
class Clamped(Log):
    def by_distance(self, params, distance, head):
        return super().by_distance(params, jnp.maximum(distance, 0), head)


@dataclass(frozen=True)
class LogOfEach(Encoding):
    """-a |log(1 + p) - log(1 + p')|, which is no number at position -1."""

    def init(self, key, dims):
        return ONE

    def bias(self, params, q_positions, k_positions, head):
        q, k = (jnp.log1p(at.astype(jnp.float32)) for at in (q_positions, k_positions))
        return -head.of(params["a"]) * jnp.abs(q[:, None] - k[None, :])


@first_of("backend", ["chunked", "reference"], keep=1)
@pytest.mark.parametrize("at", [None, jnp.arange(6)], ids=["contiguous", "by position"])
def test_a_causal_bias_is_asked_about_no_later_key(at, backend):
    def loss(params, encoding):
        told = {"q_positions": at, "k_positions": at, "backend": backend}
        return jnp.sum(attend(Q, K, V, encoding=encoding, params=params, **told) ** 2)

    got, want = (jax.grad(loss)(ONE, encoding)["a"] for encoding in (Log(), Clamped()))
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got, want)


@first_of("backend", ["chunked", "reference"], keep=1)
def test_a_bias_is_asked_about_no_padding(backend):
    at = jnp.array([[-1, -1, 0, 1, 2, 3]])
    hidden = Causal() & Segments((at >= 0).astype(jnp.int32))

    def loss(params, first, at, mask):
        told = {"q_positions": at, "k_positions": at, "mask": mask, "backend": backend}
        q, k, v = (x[:, first:] for x in (Q, K, V))
        out = attend(q, k, v, encoding=LogOfEach(), params=params, **told)
        return jnp.sum(out[:, -4:] ** 2)

    padded = jax.grad(loss)(ONE, 0, at, hidden)["a"]
    alone = jax.grad(loss)(ONE, 2, at[:, 2:], Causal())["a"]
    np.testing.assert_allclose(padded, alone, rtol=1e-5)
    # Whoever looks at it says so.
    seen = attend(Q, K, V, encoding=LogOfEach(), params=ONE, q_positions=at, k_positions=at, backend=backend)
    assert np.isnan(seen).all()


@dataclass(frozen=True)
class Tabled(Encoding):
    """With a field that no encoding may have."""

    table: Any = (1.0, 2.0)


@pytest.mark.parametrize("array", [np.ones(2), jnp.ones(2)], ids=["numpy", "jax"])
def test_a_field_is_no_array(array):
    assert Tabled().table == (1.0, 2.0)
    with pytest.raises(InputError, match="Tabled got an array as table: needed is a value that compares"):
        Tabled(array)
