"""Masks that derive from the library's: none is taken for the one that it derives from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Causal, Chunked, Dims, First, Forgetting, Global, Mask, Segments, Window, attend, linear_attend
from posjax.attention import explain
from posjax.attention.masks import counts_tokens
from tests.cases import first_of

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@dataclasses.dataclass(frozen=True)
class Even(Causal):
    """A rule that derives from one of the library's, and is another."""

    def allowed(self, q_index, k_index):
        return super().allowed(q_index, k_index) & (k_index % 2 == 0)[None, None, :]


jax.tree_util.register_dataclass(Even, data_fields=[], meta_fields=[])


def test_a_rule_that_derives_from_another_is_not_taken_for_it():
    q, k, v = normal(1, 6, 2, 4), normal(1, 6, 2, 4), normal(1, 6, 2, 4)
    params = Forgetting().init(jax.random.key(0), Dims(2, 4))
    got, wanted = (
        attend(q, k, v, encoding=Forgetting(), params=params, mask=Even(), backend=backend)
        for backend in ("chunked", "reference")
    )
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    with pytest.raises(NotImplementedError, match="cannot follow"):
        linear_attend(q, k, v, mask=Even())


def derived(kind):
    """A rule that derives from one of the library's: it hides odd keys, and shows the first two."""

    @dataclasses.dataclass(frozen=True)
    class Own(kind):
        def allowed(self, q_index, k_index):
            even = (k_index % 2 == 0)[None, None, :]
            return (super().allowed(q_index, k_index) & even) | (k_index < 2)[None, None, :]

    fields = [field.name for field in dataclasses.fields(kind)]
    return jax.tree_util.register_dataclass(Own, data_fields=fields, meta_fields=[])


RULES = {
    Segments: jnp.array([[1] * 5 + [2] * 5, [1] * 10]),
    Global: jnp.arange(20).reshape(2, 10) % 3 == 0,
    First: jnp.array([4, 9]),
    Window: 3,
    Chunked: 3,
}


@first_of("backend", ["chunked", "reference"], keep=1)
@first_of("kind", RULES, ids=lambda kind: kind.__name__, keep=2)
def test_a_rule_that_derives_from_one_with_arrays_or_sizes_keeps_its_own(monkeypatch, kind, backend):
    monkeypatch.setattr("posjax.attention.blocks.BLOCK", 4)
    x = normal(2, 10, 2, 4)
    at = np.arange(10)
    plain = np.broadcast_to(kind(RULES[kind]).allowed(jnp.arange(10), jnp.arange(10)), (2, 10, 10))
    shown = (plain & (at % 2 == 0)) | (at < 2)
    got = attend(x, x, x, mask=derived(kind)(RULES[kind]), backend=backend)
    np.testing.assert_allclose(got, attend(x, x, x, mask=shown, backend="reference"), atol=1e-5)


def test_a_rule_of_another_is_not_known_by_the_name_of_ours():
    x = jnp.ones((1, 4, 2, 4))
    named = dataclasses.dataclass(frozen=True)(type("Causal", (Mask,), {"allowed": lambda self, q, k: None}))
    mask = jax.tree_util.register_dataclass(named, data_fields=[], meta_fields=[])()
    assert not explain(x, mask=mask).job.knows_mask and explain(x, mask=Causal() & Window(2)).job.knows_mask


def test_a_rule_that_derives_from_causal_is_not_known_to_count_no_tokens():
    assert counts_tokens(Even()) and counts_tokens(Causal() & Even())
    assert not counts_tokens(Causal() & Window(3))
