"""RoPE against golden vectors and 60-digit arithmetic, at every kind of position, schedule and layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from posjax import NTK, Dims, InputError, Interpolation, NTKByParts, Plain, Rope, Schedule, Yarn
from posjax.encodings import phases
from posjax.encodings.phases import rotate_pairs
from tests import golden, oracles

LARGEST = 2**31 - 1
SCHEDULES = (Plain(), Interpolation(3.0), NTK(2.0), NTKByParts(4.0, 256, 8.0), Yarn(4.0, 256, 8.0))

few = settings(deadline=None, derandomize=True, max_examples=8)
rotate = jax.jit(Rope.rotate, static_argnums=(0, 4))
cos_sin = jax.jit(phases.cos_sin)


def turned(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, layout: str) -> np.ndarray:
    """x `[B,T,N,r]` with each pair times cos + i sin, `[T, r/2]`, as complex numbers."""
    pairs = x.reshape(*x.shape[:-1], *((2, -1) if layout == "split" else (-1, 2)))
    a, b = np.moveaxis(pairs, -2 if layout == "split" else -1, 0)
    z = (a + 1j * b) * (cos + 1j * sin)[..., None, :]
    return np.stack([z.real, z.imag], -2 if layout == "split" else -1).reshape(x.shape)


@pytest.mark.holds(Rope, to="rope_far_positions.json")
@pytest.mark.parametrize("function", [phases.cos_sin, cos_sin], ids=["eager", "jitted"])
@pytest.mark.parametrize("case", golden.cases("rope_far_positions.json"))
def test_far_positions_match_golden(case, function):
    turns = Rope(base=float(case["theta"])).constants(Dims(head_size=case["head_dim"]))["turns"]
    got = np.stack(function(jnp.array(case["positions"], jnp.int32), turns), -1)
    assert np.abs(got - np.array(case["cos_sin"])).max() < 5e-7


@pytest.mark.holds(Rope, to="rope_rotation.json")
@pytest.mark.parametrize("function", [Rope.rotate, rotate], ids=["eager", "jitted"])
@pytest.mark.parametrize("layout", ["split", "interleaved"])
def test_rotation_matches_golden(layout, function):
    reference = golden.load("rope_rotation.json")
    expected = reference["split_halves" if layout == "split" else layout]
    x, at = jnp.array(reference["x"], jnp.float32), jnp.array(reference["positions"], jnp.int32)
    encoding = Rope(base=reference["theta"], layout=layout)
    np.testing.assert_allclose(function(encoding, {}, x, at, "query"), expected, rtol=0, atol=1e-6)


positions = st.lists(
    st.one_of(st.integers(0, LARGEST), st.sampled_from([0, 1, 2**16 - 1, 2**16, 2**24 + 1, LARGEST])),
    min_size=5,
    max_size=5,
)


@pytest.mark.holds(Rope, to=oracles.exact_cos_sin)
@few
@given(positions, st.sampled_from(SCHEDULES), st.sampled_from([100.0, 10_000.0, 1e6]), st.sampled_from([8, 32, 128]))
def test_angles_are_exact_at_every_position(at, schedule, base, size):
    numbers = Rope(base, schedule).constants(Dims(head_size=size))
    got = cos_sin(jnp.array(at, jnp.int32), numbers["turns"])
    exact = oracles.exact_cos_sin(at, schedule.frequencies(size, base)[0])
    assert max(np.abs(np.asarray(a) - b).max() for a, b in zip(got, exact, strict=True)) < 5e-7


@pytest.mark.parametrize("seed", range(4))
def test_angles_are_exact_over_many_positions_at_once(seed):
    at = np.random.default_rng(seed).integers(0, LARGEST, 150, endpoint=True)
    frequencies = Plain().frequencies(16, 10_000.0)[0] * (1 + seed)  # Past one turn per position too.
    got = cos_sin(jnp.array(at, jnp.int32), phases.fixed_point_turns(frequencies))
    exact = oracles.exact_cos_sin(at, frequencies)
    assert max(np.abs(np.asarray(a) - b).max() for a, b in zip(got, exact, strict=True)) < 5e-7


@pytest.mark.holds(Rope, to=oracles.exact_cos_sin)
@few
@given(
    st.data(), st.sampled_from(SCHEDULES), st.sampled_from(["split", "interleaved"]), st.sampled_from([0.25, 0.5, 1.0])
)
def test_rotations_match_the_oracle(data, schedule, layout, fraction):
    B, N, H = (data.draw(st.sampled_from(s)) for s in ((1, 2), (1, 3), (8, 16)))
    at = data.draw(positions)
    x = np.random.default_rng(B * N * H).normal(size=(B, 5, N, H)).astype(np.float32)
    encoding = Rope(500.0, schedule, layout, fraction)
    got = np.asarray(rotate(encoding, {}, jnp.asarray(x), jnp.array(at, jnp.int32), "key"))
    r = int(H * fraction)
    frequencies, factor = schedule.frequencies(r, 500.0)
    cos, sin = (wave * factor for wave in oracles.exact_cos_sin(at, frequencies))
    np.testing.assert_array_equal(got[..., r:], x[..., r:])
    np.testing.assert_allclose(got[..., :r], turned(x[..., :r].astype(np.float64), cos, sin, layout), atol=5e-6)


@pytest.mark.holds(Rope, to=oracles.rope)
@pytest.mark.parametrize("layout", ["split", "interleaved"])
def test_near_rotations_match_the_paper(layout):
    x = np.random.default_rng(0).normal(size=(2, 6, 3, 16)).astype(np.float32)
    at = np.stack([np.arange(6), 7 * np.arange(6)])  # A line of positions for each row.
    schedule = Yarn(4.0, 256, 8.0)
    theta, factor = oracles.yarn(8, 10_000.0, 4.0, 256, beta_fast=8.0)
    encoding = Rope(schedule=schedule, layout=layout, fraction=0.5)
    got = rotate(encoding, {}, jnp.asarray(x), jnp.asarray(at, jnp.int32), "key")
    np.testing.assert_allclose(got, oracles.rope(x, at, theta, factor, layout, rotary=8), atol=2e-6)


def test_the_golden_turn_is_counter_clockwise_for_both_roles():
    x = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)
    for role in ("query", "key"):
        got = rotate(Rope(), {}, x, jnp.array([1]), role).ravel()
        np.testing.assert_allclose(got, [np.cos(1), np.sin(1)], atol=1e-7)


def test_negative_positions_give_nan_and_others_in_the_row_stay():
    cos, sin = cos_sin(jnp.array([-1, 3, -(2**31)]), Rope().constants(Dims(head_size=8))["turns"])
    for wave in (cos, sin):
        assert np.isnan(wave[0]).all() and np.isnan(wave[2]).all() and np.isfinite(wave[1]).all()


def test_pairs_turn_as_a_plane_does():
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 4)).astype(np.float32)
    angle = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)
    for layout in ("split", "interleaved"):
        got = rotate_pairs(jnp.asarray(x), jnp.cos(angle), jnp.sin(angle), layout)
        np.testing.assert_allclose(got, turned(x, np.cos(angle), np.sin(angle), layout), atol=1e-6)


class Doubling(Schedule):
    def at_length(self, length):
        return Interpolation(float(length))


def test_it_depends_on_the_length_when_its_schedule_does():
    assert not Rope().length_dependent and Rope().at_length(9) == Rope()
    assert Rope(schedule=Doubling()).length_dependent
    assert Rope(schedule=Doubling()).at_length(9) == Rope(schedule=Interpolation(9.0))
    assert Rope().relative and Rope().max_length is None and Rope().bias_kind == "none"


@pytest.mark.parametrize(
    ("make", "value", "need", "remedy"),
    [
        (lambda: Rope(base=1.0), "base=1.0", "above 1", "10,000 or more"),
        (lambda: Rope(base=float("nan")), "base=nan", "a finite number", "such as 10000.0"),
        (lambda: Rope(layout="halves"), "layout='halves'", "needed is 'split'", "'interleaved' (GPT-J)"),
        (lambda: Rope(fraction=0.0), "fraction=0.0", "needed is a share", "(0, 1]"),
        (lambda: Rope(fraction=1.5), "fraction=1.5", "needed is a share", "(0, 1]"),
        (lambda: Rope().constants(Dims(head_size=7)), "head size of 7", "even number", "change the head size"),
        (lambda: Rope(fraction=0.1).rotary_size(8), "0 channels", "2 or more", "or the fraction"),
        (lambda: Rope(fraction=0.6).rotary_size(5), "3 channels", "even number", "or the fraction"),
    ],
)
def test_errors_name_the_value_the_need_and_the_remedy(make, value, need, remedy):
    with pytest.raises(InputError) as caught:
        make()
    assert all(part in str(caught.value) for part in (value, need, remedy)), str(caught.value)


def test_the_smallest_rotary_size_turns():
    assert Rope(fraction=0.25).rotary_size(8) == 2


def test_every_quotient_of_channels_turns_as_many_and_more_than_rounding_is_cut_off():
    for size in range(2, 258, 2):
        assert [Rope(fraction=r / size).rotary_size(size) for r in range(2, size + 1, 2)] == list(range(2, size + 1, 2))
    assert Rope(fraction=0.69).rotary_size(44) == 30, "30.36 channels"
    assert Rope(fraction=0.7).rotary_size(44) == 30, "30.8 channels"
