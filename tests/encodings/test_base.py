"""The contract: what a hook is when an encoding does not define it, and how parameters meet constants."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Alibi, Dims, Encoding, Forgetting, Head, InputError, NoPE, RelativeBias, Rope, attend
from posjax.encodings.base import complete
from posjax.encodings.traits import moves_tokens, structure


@pytest.mark.holds(NoPE, to=None)
@pytest.mark.parametrize("encoding", [Encoding(), NoPE()])
def test_undefined_hooks_are_the_identity(encoding):
    x, heads, at = jnp.ones((1, 3, 4)), jnp.ones((1, 3, 2, 2)), jnp.arange(3)
    assert encoding.init(jax.random.key(0), Dims(2, 2, 4)) == {} == encoding.constants(Dims(2, 2, 4))
    assert encoding.move({}, at, jax.random.key(0)) is at and not moves_tokens(encoding)
    assert encoding.embed({}, x, at) is x and encoding.rotate({}, heads, at, "query") is heads
    assert encoding.at_length(5) is encoding and not encoding.length_dependent
    bias = encoding.bias({}, at, jnp.arange(4), Head(0, 2))
    assert bias.shape == (3, 4) and bias.dtype == jnp.float32 and not bias.any()
    assert encoding.bias_kind == "none" and encoding.max_length is None and not encoding.causal


@pytest.mark.holds(NoPE, to=None)
def test_only_the_unit_claims_to_be_relative_for_nothing():
    assert NoPE().relative and not Encoding().relative


@pytest.mark.parametrize("count", [1, 3])
def test_a_head_reads_its_row_or_the_only_one(count):
    table = jnp.arange(6.0).reshape(3, 2)
    if count == 3:
        assert [Head(n, 3).of(table).tolist() for n in range(3)] == table.tolist()
    assert Head(2, 3).of(table[:1]).tolist() == [0.0, 1.0]


def test_a_head_refuses_a_table_of_another_count():
    with pytest.raises(InputError, match=r"shape \(3, 2\): its leading axis must be 1 or the number of heads, 4"):
        Head(0, 4).of(jnp.zeros((3, 2)))


def test_parameters_win_over_constants_and_constants_complete_them():
    assert Encoding().join({"a": 1}, {"a": 2, "b": 3}) == {"a": 1, "b": 3}
    assert Encoding().join(None, None) == {}
    completed = complete(Alibi(), {"own": 1}, Dims(heads=2))
    assert completed["own"] == 1 and completed["slopes"].shape == (2,)
    assert complete(Alibi(), {"slopes": "given"}, Dims(heads=2))["slopes"] == "given"


def test_constants_that_are_given_are_used():
    x, at = jnp.ones((1, 3, 1, 4)), jnp.arange(3)
    other = Rope(base=50.0)
    got = Rope().rotate(other.constants(Dims(head_size=4)), x, at, "query")
    np.testing.assert_array_equal(got, other.rotate({}, x, at, "query"))


@dataclass(frozen=True)
class Scaled(RelativeBias):
    def by_distance(self, params, distance, head):
        return (distance * (head.index + 1)).astype(jnp.float32)


def test_a_relative_bias_needs_one_method_and_gets_query_minus_key():
    got = Scaled().bias({}, jnp.array([5, 2**30]), jnp.array([3, 2**30 - 1]), Head(1, 2))
    np.testing.assert_array_equal(got, np.float32([[4, 2 * (6 - 2**30)], [2 * (2**30 - 3), 2]]))
    assert Scaled().relative and Scaled().bias_kind == "relative"


def test_an_encoding_without_a_bias_by_distance_says_where_to_turn():
    with pytest.raises(NotImplementedError, match="Rope has no bias by distance; derive from RelativeBias"):
        Rope().by_distance({}, jnp.arange(2), Head(0, 1))


def test_values_that_differ_in_swept_fields_share_a_structure():
    assert structure(Rope(base=7.0)) == structure(Rope()) != structure(Rope(layout="interleaved"))
    assert structure(Alibi()) != structure(Rope())


def test_the_contract_is_small_and_says_each_hook_where_it_stands():
    members = {name: member for name, member in vars(Encoding).items() if not name.startswith("_")}
    assert len(members) <= 20, sorted(members)
    assert [name for name, member in members.items() if name != "swept" and not member.__doc__] == []


def test_a_hook_defined_anew_beside_a_shorter_way_to_the_old_one_is_refused():
    """Backends read the shorter way, and would compute what the class derives from."""
    for base, hook, shorter in ((Forgetting, "score", "fading"), (Alibi, "by_distance", "slopes")):
        with pytest.raises(InputError, match=f"defines {hook} and inherits {shorter}"):
            type("Derived", (base,), {hook: lambda self, *given: None})
        assert type("Derived", (base,), {hook: lambda self: None, shorter: lambda self: None})
    with pytest.raises(InputError, match="defines bias and inherits by_distance"):
        type("Derived", (Alibi,), {"bias": lambda self, *given: None})


class EveryOther(RelativeBias):
    """ALiBi for every other head: which ones, a constant says."""

    def constants(self, dims):
        return {"on": np.arange(dims.heads) % 2 == 0}

    def by_distance(self, params, distance, head):
        on = complete(self, params, Dims(head.count))["on"]
        return jnp.where(head.of(jnp.asarray(on)), -distance.astype(jnp.float32), 0.0)


def test_a_constant_may_be_true_or_false():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 5, 2, 4))
    own = EveryOther()
    joined = own.join({}, own.constants(Dims(2, 4)))
    np.testing.assert_array_equal(attend(q, k, v, encoding=own, params=joined), attend(q, k, v, encoding=own))
