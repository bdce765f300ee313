"""Composition: what a chain applies, in which order, and what it declares of its parts."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Alibi,
    AxialRope,
    Dims,
    Encoding,
    Head,
    InputError,
    Interpolation,
    Learned,
    NoPE,
    Rope,
    Shaw,
    Sinusoidal,
    T5Bias,
    XPos,
    chain,
    invariants,
)
from posjax.encodings import Chain, Schedule
from posjax.encodings.traits import moves_tokens, structure

DIMS = Dims(heads=3, head_size=4, model_size=12)


@dataclass(frozen=True)
class Steps(Encoding):
    """Places, embeds and turns in a way that does not commute."""

    factor: int
    offset: int

    def move(self, params, positions, key):
        return positions * self.factor + jax.random.randint(key, (), 0, 1000) * self.offset

    def embed(self, params, x, positions):
        return x * self.factor + self.offset

    def rotate(self, params, x, positions, role):
        return x * self.factor + (self.offset if role == "query" else -self.offset)

    def at_length(self, length):
        return Steps(self.factor, length)


class Pairwise(Encoding):
    def bias(self, params, q_positions, k_positions, head):
        return jnp.ones((q_positions.shape[-1], k_positions.shape[-1]))


def params_of(encoding: Encoding) -> object:
    return encoding.join(encoding.init(jax.random.key(0), DIMS), encoding.constants(DIMS))


@pytest.mark.holds(chain, to=None)
def test_parts_apply_in_order():
    both, x, at = chain(Steps(2, 3), Steps(5, 7)), jnp.ones((1, 2, 3, 4)), jnp.arange(2)
    assert both.embed(params_of(both), x[..., 0], at).tolist() == ((x[..., 0] * 2 + 3) * 5 + 7).tolist()
    assert both.rotate(params_of(both), x, at, "query").tolist() == ((x * 2 + 3) * 5 + 7).tolist()
    assert both.rotate(params_of(both), x, at, "key").tolist() == ((x * 2 - 3) * 5 - 7).tolist()


@pytest.mark.holds(chain, to=None)
def test_each_part_places_with_its_own_key():
    at = jnp.arange(3)
    assert chain(Steps(2, 0), Steps(5, 0)).move({"0": {}, "1": {}}, at, jax.random.key(0)).tolist() == [0, 10, 20]
    key = jax.random.key(0)
    moving, still = Steps(1, 1), Steps(1, 0)
    draws = [chain(*parts).move({"0": {}, "1": {}}, at, key)[0] for parts in ((moving, still), (still, moving))]
    assert draws[0] != draws[1]
    assert moves_tokens(chain(Steps(2, 1), Rope())) and not moves_tokens(chain(Alibi(), Rope()))


@pytest.mark.holds(chain, to=None)
def test_equal_parts_start_from_different_parameters():
    first, second = chain(Learned(5), Learned(5)).init(jax.random.key(0), DIMS).values()
    assert not np.array_equal(first["table"], second["table"])


@pytest.mark.holds(chain, to=None)
def test_biases_add_and_parts_without_one_are_passed_over():
    both, at = chain(Rope(), Alibi(), T5Bias(), Sinusoidal()), jnp.arange(5)
    params = params_of(both)
    for n in range(3):
        head = Head(n, 3)
        expected = Alibi().bias(params["1"], at, at, head) + T5Bias().bias(params["2"], at, at, head)
        np.testing.assert_array_equal(both.bias(params, at, at, head), expected)
        by_distance = Alibi().by_distance(params["1"], at, head) + T5Bias().by_distance(params["2"], at, head)
        np.testing.assert_array_equal(both.by_distance(params, at, head), by_distance)
    turning = chain(Rope(), Sinusoidal())
    assert not turning.bias(params_of(turning), at, at, Head(0, 3)).any()


@pytest.mark.holds(chain, to=None)
@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ((Rope(), Sinusoidal()), "none"),
        ((Rope(), Alibi()), "relative"),
        ((Alibi(), Pairwise()), "pairwise"),
        ((Rope(), Pairwise()), "pairwise"),
    ],
)
def test_the_kind_of_bias_is_that_of_the_most_general_part(parts, kind):
    assert chain(*parts).bias_kind == kind


class Growing(Schedule):
    def at_length(self, length):
        return Interpolation(float(length))


@pytest.mark.holds(chain, to=None)
def test_what_a_chain_declares():
    assert chain(Rope(), Alibi()).relative and not chain(Rope(), Sinusoidal()).relative
    assert chain(Rope(), Alibi()).causal and not chain(Rope(), Alibi("symmetric")).causal
    assert chain(Learned(9), Rope(), Learned(5)).max_length == 5 and chain(Rope(), Alibi()).max_length is None
    assert not chain(Rope(), Alibi()).length_dependent
    growing = chain(Rope(schedule=Growing()), Alibi())
    assert growing.length_dependent
    assert growing.at_length(3) == chain(Rope(schedule=Interpolation(3.0)), Alibi())
    assert chain(Steps(2, 1), Rope()).at_length(8) == chain(Steps(2, 8), Rope())


@pytest.mark.holds(chain, to=None)
def test_joining_takes_either_side_alone():
    both = chain(Alibi(), T5Bias())
    params, constants = both.init(jax.random.key(0), DIMS), both.constants(DIMS)
    slopes, edges = set(constants["0"]), set(constants["1"])
    assert "slopes" in slopes and edges == {"edges"}
    assert [set(p) for p in both.join(params, constants).values()] == [slopes, {"table"} | edges]
    assert [set(p) for p in both.join(params, None).values()] == [set(), {"table"}]
    assert [set(p) for p in both.join(None, constants).values()] == [slopes, edges]


@pytest.mark.holds(chain, to=None)
def test_nested_chains_are_flat_and_units_vanish():
    a, b, c = Rope(), Alibi(), Sinusoidal()
    assert chain(a, chain(b, NoPE(), c)).parts == (a, b, c)
    assert chain(NoPE()) == chain() == NoPE() and chain(NoPE(), a) == a
    assert not any(isinstance(part, Chain) for part in chain(chain(a, b), chain(b, c)).parts)


@pytest.mark.holds(chain, to=None)
def test_structures_are_those_of_the_parts():
    mixed = structure(chain(Rope(), Alibi()))
    assert structure(chain(Rope(base=9.0), Alibi())) == mixed != structure(chain(Alibi(), Rope()))


def test_errors_say_what_was_given_and_what_to_do():
    with pytest.raises(InputError, match=r"chain got 'rope': needed is an encoding, a value such as posjax.Rope\(\)"):
        chain("rope")
    with pytest.raises(InputError, match=r"<class.*Rope'>: needed is an encoding"):
        chain(Rope)
    with pytest.raises(InputError, match=r"2 encodings got parameters \['0'\]: needed is a dict for each"):
        chain(Rope(), Alibi()).rotate({"0": {}}, jnp.ones((1, 1, 3, 4)), jnp.arange(1), "query")


def test_a_rotation_by_coordinates_and_one_of_the_whole_head_do_not_claim_to_commute():
    # They do where the sections fill the head, whose size nobody knows yet.
    assert not chain(AxialRope((1, 1)), Rope()).relative
    assert chain(AxialRope((1, 1)), AxialRope((1, 1))).relative


@pytest.mark.parametrize(
    ("encoding", "relative"),
    [
        (chain(Rope(100.0), Rope(50.0)), True),
        (chain(Rope(100.0), Alibi(), XPos(100.0)), True),
        (chain(Rope(100.0), Rope(100.0, layout="interleaved")), False),
        (chain(Rope(100.0, fraction=0.5), Rope(100.0)), False),
        (chain(Rope(100.0), Shaw(3, deviation=1.0)), False),
        (chain(Alibi(), Shaw(3, deviation=1.0)), True),
        (chain(AxialRope((1, 1)), Rope(100.0, fraction=0.5)), False),
    ],
    ids=repr,
)
def test_what_does_not_commute_with_a_rotation_is_not_relative(encoding, relative):
    """What depends on where both are is not relative, and does not say so."""
    assert encoding.relative == relative
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 4, 3, 4))
    params = encoding.join(encoding.init(jax.random.key(1), DIMS), encoding.constants(DIMS))
    at = jnp.arange(4)
    here, there = (np.asarray(invariants.scores(encoding, params, q, k, x, x)) for x in (at, at + 100))
    assert np.allclose(here, there, atol=1e-4) == relative
