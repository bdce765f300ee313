"""Encodings by head: each group of heads gets its own and nothing of the others'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Alibi,
    Dims,
    DynamicNTK,
    InputError,
    Kerple,
    NoPE,
    Rope,
    Shaw,
    Sinusoidal,
    T5Bias,
    XPos,
    by_head,
    chain,
)
from tests.cases import first_of, wide
from tests.encodings.generating import expect_greedy_to_follow_the_full_pass
from tests.laws import attend

GROUPS = (
    (Rope(), NoPE()),
    (Rope(), NoPE(), Alibi()),
    (Alibi(), chain(Rope(), T5Bias()), Kerple()),
    (T5Bias(deviation=1.0), XPos()),
    (Rope(base=10.0), Rope(base=1e6)),
    (Rope(schedule=DynamicNTK(2.0, 5)), NoPE()),
)


@pytest.mark.holds(by_head, to=None)
@pytest.mark.parametrize("backend", wide(["reference", "chunked"], ["chunked"]))
@first_of("parts", GROUPS, ids=repr, keep=1)
def test_each_group_of_heads_is_computed_alone(parts, backend):
    """Six query heads and six or three key-value heads, cut where the groups are."""
    encoding, group = by_head(*parts), 6 // len(parts)
    params = encoding.init(jax.random.key(1), Dims(6, 8))
    for shared in (6,) if len(parts) == 2 else (6, 3):
        q = jax.random.normal(jax.random.key(0), (2, 9, 6, 8))
        k, v = jax.random.normal(jax.random.key(2), (2, 2, 9, shared, 8))
        size = shared // len(parts)
        alone = [
            attend(
                q[:, :, i * group : (i + 1) * group],
                k[:, :, i * size : (i + 1) * size],
                v[:, :, i * size : (i + 1) * size],
                encoding=part,
                params=params[str(i)],
                backend=backend,
            )
            for i, part in enumerate(parts)
        ]
        got = attend(q, k, v, encoding=encoding, params=params, backend=backend)
        np.testing.assert_allclose(got, jnp.concatenate(alone, 2), atol=2e-6)


@pytest.mark.holds(by_head, to=None)
def test_parameters_are_those_of_the_groups_own_heads():
    params = by_head(Kerple(), T5Bias(), NoPE()).init(jax.random.key(0), Dims(6, 8))
    assert params["0"]["r1"].shape == (2,) and jax.tree.leaves(params["1"])[0].shape[0] == 2 and params["2"] == {}


@pytest.mark.exhaustive
@pytest.mark.holds(by_head, to=None)
@pytest.mark.parametrize(
    "encoding",
    [
        by_head(Rope(), NoPE(), Alibi()),
    ],
    ids=repr,
)
def test_greedy_generation_follows_the_full_pass(encoding):
    expect_greedy_to_follow_the_full_pass(encoding)


x = jnp.ones((1, 3, 6, 8))


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: by_head(), "ByHead got ()", "one encoding or more"),
        (lambda: by_head(Rope(), Shaw()), "Shaw(", "scores content"),
        (lambda: by_head(Sinusoidal(), NoPE()), "Sinusoidal(", "none of which embeds"),
        (lambda: by_head(Rope(), 3), "3)", "each is a value of Encoding"),  # type: ignore[arg-type]
        (lambda: attend(x, x, x, encoding=by_head(*[Rope()] * 4)), "4 encodings and got 6 heads", "divides among them"),
        (
            lambda: attend(x, x[:, :, :3], x[:, :, :3], encoding=by_head(Rope(), NoPE())),
            "got 3 heads",
            "key-value heads",
        ),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
