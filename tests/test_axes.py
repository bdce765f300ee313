"""The alphabet holds arrays to the letters of their names."""

import jax.numpy as jnp
import numpy as np
import pytest

from posjax import InputError, axes


def test_letters_get_their_sizes_and_none_is_passed_over():
    got = axes.check(q_BTNH=jnp.zeros((2, 5, 4, 8)), bias_NTS=None, k_BSKH=np.zeros((2, 7, 2, 8)))
    assert got == {"B": 2, "T": 5, "N": 4, "H": 8, "S": 7, "K": 2}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"q_BTNH": np.zeros((2, 5, 4))}, "q has shape (2, 5, 4): needed are 4 axes, [B, T, N, H]"),
        ({"some_x_BD": np.zeros(3)}, "some_x has shape (3,): needed are 2 axes, [B, D]"),
        (
            {"x_BT": np.zeros((2, 5)), "y_BT": np.zeros((2, 6))},
            "y [B, T] has shape (2, 6): axis T is 6 here and 5 in the arrays before it; make them equal",
        ),
        ({"x_TT": np.zeros((2, 3))}, "axis T is 3 here and 2"),
    ],
)
def test_errors_name_the_array_its_shape_and_the_size_before(arrays, message):
    with pytest.raises(InputError) as caught:
        axes.check(**arrays)
    assert message in str(caught.value)


def test_lead_adds_axes_in_front():
    table = np.arange(6).reshape(2, 3)
    assert axes.expand_rank(jnp.asarray(table), 4).shape == (1, 1, 2, 3)
    np.testing.assert_array_equal(axes.expand_rank(jnp.asarray(table), 2), table)
