"""The sandwich of sinusoids: the oracle, and its slow fall."""

import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, Head, InputError, Sandwich
from tests import content_oracles as content


@pytest.mark.holds(Sandwich, to=content.sandwich)
@pytest.mark.parametrize(("heads", "size", "base"), [(3, 8, 10_000.0), (6, 16, 100.0), (8, 128, 10_000.0)])
def test_sandwich_matches_the_oracle(heads, size, base):
    encoding, at = Sandwich(size, base), np.array([0, 1, 2, 50, 999, 100_000])
    params = encoding.constants(Dims(heads=heads))
    expected = content.sandwich(heads, size, base, at, at)
    for offset in (0, 2**30):
        places = jnp.asarray(at + offset, jnp.int32)
        got = np.stack([encoding.bias(params, places, places, Head(h, heads)) for h in range(heads)])
        np.testing.assert_allclose(got, expected, atol=heads / 8 * size * 1e-6)


def test_sandwich_by_hand():
    one = Sandwich(2).bias({}, jnp.arange(3), jnp.arange(3), Head(0, 2))
    np.testing.assert_allclose(one[2], (np.cos([2.0, 1.0, 0.0]) - 1) / 4, atol=1e-6)
    two = Sandwich(2).bias({}, jnp.arange(3), jnp.arange(3), Head(1, 2))
    np.testing.assert_allclose(two, one / 2, atol=1e-6)


def test_sandwich_of_eight_heads_falls_off_by_a_whole_a_half_down_to_an_eighth():
    each = [float(Sandwich(2).bias({}, jnp.array([1]), jnp.array([0]), Head(h, 8))[0, 0]) for h in range(8)]
    np.testing.assert_allclose(each, (np.cos(1.0) - 1) / np.arange(1, 9), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: Sandwich(7), "size=7", "even number"),
        (lambda: Sandwich(0), "size=0", "2 or more"),
        (lambda: Sandwich(8, 1.0), "base=1.0", "above 1"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
