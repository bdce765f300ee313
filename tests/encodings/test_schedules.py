"""Frequency schedules against golden vectors, the papers' formulas in float64, and what each promises in words."""

import math
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import posjax
from posjax import (
    NTK,
    DynamicNTK,
    InputError,
    Interpolation,
    Llama3,
    LongRope,
    NTKByParts,
    Plain,
    Proportional,
    Rope,
    Schedule,
    Yarn,
)
from posjax.encodings import Dims, phases
from tests import golden, oracles

few = settings(deadline=None, derandomize=True, max_examples=40)

MATCHED = {"linear": Interpolation, "yarn": Yarn, "llama3": Llama3, "longrope": LongRope}


def schedule_of(case: dict) -> tuple[Schedule, float, float]:
    """A golden case as a schedule, the base, and the share of the head that turns."""
    given = dict(case["rope_parameters"])
    kind, base, share = given.pop("rope_type"), given.pop("rope_theta"), given.pop("partial_rotary_factor", 1.0)
    if "original_max_position_embeddings" in given:
        given["original_length"] = given.pop("original_max_position_embeddings")
    if kind == "default":
        return Plain(), base, share
    if kind == "dynamic":
        return DynamicNTK(given["factor"], case["max_position_embeddings"]).at_length(case["seq_len"]), base, share
    schedule = MATCHED[kind](**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})
    return schedule.at_length(case["seq_len"]), base, share


def in_radians(turns: np.ndarray) -> np.ndarray:
    """The two words of each phase step, as a float64 angle."""
    return (turns[0].astype(np.float64) * 2**32 + turns[1]) * 2.0**-64 * 2 * np.pi


@pytest.mark.holds(Plain, Interpolation, DynamicNTK, Llama3, LongRope, Yarn, to="rope_frequencies.json")
@pytest.mark.parametrize("case", golden.cases("rope_frequencies.json"))
def test_frequencies_match_golden(case):
    schedule, base, share = schedule_of(case)
    frequencies, factor = schedule.frequencies(Rope(fraction=share).rotary_size(case["head_dim"]), base)
    assert frequencies.dtype == np.float64
    np.testing.assert_allclose(frequencies, case["inv_freq"], rtol=1e-6, atol=0)
    np.testing.assert_allclose(factor, case["attention_factor"], rtol=1e-6)


@pytest.mark.holds(Plain, Interpolation, DynamicNTK, Llama3, LongRope, Yarn, to="rope_frequencies.json")
@pytest.mark.parametrize("case", golden.cases("rope_frequencies.json"))
def test_what_enters_a_trace_matches_golden(case):
    schedule, base, share = schedule_of(case)
    constants = Rope(base, schedule, fraction=share).constants(Dims(head_size=case["head_dim"]))
    np.testing.assert_allclose(in_radians(constants["turns"]), case["inv_freq"], rtol=1e-6, atol=0)
    np.testing.assert_allclose(constants["factor"], case["attention_factor"], rtol=1e-6)


sizes = st.integers(2, 64).map(lambda half: 2 * half)
bases = st.sampled_from([100.0, 10_000.0, 500_000.0, 1e6])
factors = st.floats(1.0, 64.0)


@pytest.mark.holds(Plain, to=oracles.plain)
@pytest.mark.holds(Interpolation, to=oracles.interpolation)
@pytest.mark.holds(NTK, to=oracles.ntk)
@few
@given(sizes, bases, factors)
def test_unlimited_schedules_match_the_oracle(size, base, factor):
    for schedule, expected in (
        (Plain(), oracles.plain(size, base)),
        (Interpolation(factor), oracles.interpolation(size, base, factor)),
        (NTK(factor), oracles.ntk(size, base, factor)),
    ):
        frequencies, attention = schedule.frequencies(size, base)
        np.testing.assert_allclose(frequencies, expected[0], rtol=1e-13, atol=0)
        assert attention == expected[1] == 1.0


@pytest.mark.holds(NTKByParts, to=oracles.ntk_by_parts)
@pytest.mark.holds(Yarn, to=oracles.yarn)
@few
@given(sizes, bases, factors, st.integers(64, 16384), st.booleans(), st.sampled_from([(32.0, 1.0), (8.0, 0.5)]))
def test_schedules_by_parts_match_the_oracle(size, base, factor, length, truncate, betas):
    given = dict(factor=factor, original_length=length, beta_fast=betas[0], beta_slow=betas[1], truncate=truncate)
    for schedule, expected in (
        (NTKByParts(**given), oracles.ntk_by_parts(size, base, **given)),
        (Yarn(**given), oracles.yarn(size, base, **given)),
    ):
        frequencies, attention = schedule.frequencies(size, base)
        np.testing.assert_allclose(frequencies, expected[0], rtol=1e-12, atol=0)
        assert attention == pytest.approx(expected[1], rel=1e-12)


@pytest.mark.holds(Llama3, to=oracles.llama3)
@few
@given(sizes, bases, factors, st.integers(64, 16384), st.sampled_from([(1.0, 4.0), (0.5, 9.0)]))
def test_llama3_matches_the_oracle(size, base, factor, length, bounds):
    frequencies, attention = Llama3(factor, length, *bounds).frequencies(size, base)
    np.testing.assert_allclose(frequencies, oracles.llama3(size, base, factor, length, *bounds)[0], rtol=1e-12, atol=0)
    assert attention == 1.0


@pytest.mark.holds(DynamicNTK, to=oracles.dynamic_ntk)
@pytest.mark.holds(LongRope, to=oracles.long_rope)
@few
@given(sizes, bases, factors, st.integers(64, 16384), st.sampled_from([-63, -1, 0, 1, 5000]))
def test_schedules_by_length_match_the_oracle(size, base, factor, trained, beyond):
    length = trained + beyond
    short, long = tuple(1 + np.arange(size // 2) / size), tuple(2 + np.arange(size // 2) / 3)
    for schedule, expected in (
        (DynamicNTK(factor, trained), oracles.dynamic_ntk(size, base, factor, trained, length)),
        (LongRope(factor, trained, short, long), oracles.long_rope(size, base, factor, trained, length, short, long)),
    ):
        for got in (schedule.at_length(length).frequencies(size, base), schedule.frequencies(size, base, length)):
            np.testing.assert_allclose(got[0], expected[0], rtol=1e-11, atol=0)
            assert got[1] == pytest.approx(expected[1], rel=1e-12)


@pytest.mark.holds(Proportional, to=oracles.proportional)
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75, 1.0])
def test_proportional_matches_the_oracle(fraction):
    for size in (8, 16, 64):
        frequencies, attention = Proportional(fraction).frequencies(size, 10_000.0)
        np.testing.assert_allclose(frequencies, oracles.proportional(size, 10_000.0, fraction)[0], rtol=1e-13, atol=0)
        assert attention == 1.0


@pytest.mark.holds(DynamicNTK, to=oracles.doubling_ntk)
@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 128, 129, 255, 256, 257, 5000, 2**20])
def test_doublings_match_the_oracle(length):
    schedule = DynamicNTK(2.0, 64, doubling=True)
    for got in (schedule.at_length(length).frequencies(32, 1e4), schedule.frequencies(32, 1e4, length)):
        np.testing.assert_allclose(got[0], oracles.doubling_ntk(32, 1e4, 64, length)[0], rtol=1e-11, atol=0)
        assert got[1] == 1.0


def test_a_second_attention_factor_holds_past_the_trained_length():
    for short, long, expected in ((1.25, 1.5, (1.25, 1.5)), (1.25, None, (1.25, 1.25)), (None, 1.5, (None, 1.5))):
        schedule = LongRope(4.0, 64, (1.0, 1.0), (2.0, 2.0), short, long_attention_factor=long)
        factors = [schedule.at_length(length).frequencies(4, 100.0)[1] for length in (64, 65)]
        assert factors == [expected[0] or pytest.approx((1 + np.log(4) / np.log(64)) ** 0.5), expected[1]]


@pytest.mark.parametrize(
    ("factor", "mscale", "expected"), [(40, 0.707, 1.5896), (40, 1.0, 1.8739), (64, 1.0, 2.0048), (40, None, 1.0)]
)
def test_the_softmax_scale_of_published_models(factor, mscale, expected):
    """DeepSeek V2 Lite, V3 and Kimi K2.5; and a model without the key."""
    assert Yarn(factor, 4096, mscale=mscale, mscale_all_dim=mscale).score_factor == pytest.approx(expected, abs=1e-4)


def test_without_a_length_they_are_within_the_trained_one():
    np.testing.assert_array_equal(DynamicNTK(4.0, 64).frequencies(8, 100.0)[0], Plain().frequencies(8, 100.0)[0])
    given = LongRope(4.0, 64, (1.0, 1.0), (2.0, 2.0), attention_factor=1.5)
    np.testing.assert_array_equal(given.frequencies(4, 100.0)[0], Plain().frequencies(4, 100.0)[0])
    assert given.frequencies(4, 100.0)[1] == 1.5


@pytest.mark.holds(NTKByParts, to=oracles.ntk_by_parts)
def test_a_ramp_of_no_width_is_a_step():
    given = dict(factor=4.0, original_length=7)  # Both bounds fall on pair 0.
    frequencies, _ = NTKByParts(**given).frequencies(8, 1e6)
    np.testing.assert_allclose(frequencies, oracles.ntk_by_parts(8, 1e6, **given)[0], rtol=1e-13)
    np.testing.assert_allclose(Plain().frequencies(8, 1e6)[0] / frequencies, [1.0, 4.0, 4.0, 4.0], rtol=1e-13)


@pytest.mark.parametrize("schedule", [Yarn(4.0, 6, truncate=False), Yarn(4.0, 6), Yarn(4.0, 4), Yarn(4.0, 2**31 - 1)])
@pytest.mark.parametrize("base", [10.0, 100.0, 1e4])
def test_by_parts_obeys_its_bounds_where_all_pairs_are_on_one_side(schedule, base):
    kept = Plain().frequencies(64, base)[0]
    turns = schedule.original_length * kept / (2 * np.pi)
    frequencies, _ = schedule.frequencies(64, base)
    if turns[0] < schedule.beta_slow:
        # Rounding outwards may keep the first pair.
        np.testing.assert_allclose(frequencies[1:], kept[1:] / 4)
    if turns[-1] > schedule.beta_fast:
        np.testing.assert_allclose(frequencies, kept)


def test_equal_bounds_are_a_step():
    kept = Plain().frequencies(64, 1e4)[0]
    turns = 4096 * kept / (2 * np.pi)
    frequencies, _ = Llama3(8.0, 4096, 2.0, 2.0).frequencies(64, 1e4)
    np.testing.assert_allclose(frequencies, np.where(turns > 2, kept, kept / 8))
    frequencies, _ = NTKByParts(8.0, 4096, 2.0, 2.0, truncate=False).frequencies(64, 1e4)
    np.testing.assert_allclose(frequencies, np.where(turns > 2, kept, kept / 8))


@dataclass(frozen=True)
class Given(Schedule):
    answer: Any = None

    def frequencies(self, rotary_size, base, length=None):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ((np.ones(3), 1.0), "needed are 2 finite"),
        ((np.array([1.0, np.inf]), 1.0), "needed are 2 finite"),
        ((np.ones(2), 1e39), "attention factor 1e\\+39"),
        ((np.ones(2), 0.0), "attention factor 0.0"),
        ((np.ones(2), float("nan")), "attention factor nan"),
    ],
)
def test_what_a_schedule_answers_is_held_to_the_pairs(answer, named):
    with pytest.raises(InputError, match=named):
        Rope(schedule=Given(answer)).constants(Dims(head_size=4))


def test_a_base_that_grows_past_what_a_float_holds_is_refused():
    for schedule in (NTK(1e30), DynamicNTK(1e30, 1, 2**31 - 1)):
        with pytest.raises(InputError, match="lower the factor"):
            schedule.frequencies(4, 1e300)
        with pytest.raises(InputError, match="a rotary size of 2"):
            schedule.frequencies(2, 1e4)


def test_by_parts_keeps_what_turns_often_and_divides_what_turns_rarely():
    kept = Plain().frequencies(64, 10_000.0)[0]
    shrunk = kept / NTKByParts(factor=4.0, original_length=512).frequencies(64, 10_000.0)[0]
    turns = 512 * kept / (2 * np.pi)
    np.testing.assert_array_equal(shrunk[turns > 32], 1.0)
    np.testing.assert_allclose(shrunk[turns < 1], 4.0, rtol=1e-12)
    assert np.all(np.diff(shrunk) >= 0)


def test_ntk_divides_the_slowest_pair_by_exactly_the_factor():
    for size in (4, 64, 128):
        plain, scaled = (s.frequencies(size, 10_000.0)[0] for s in (Plain(), NTK(3.0)))
        assert scaled[0] == 1.0
        np.testing.assert_allclose(plain[-1] / scaled[-1], 3.0, rtol=1e-12)


@pytest.mark.holds(Yarn, to=oracles.yarn)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"attention_factor": 1.5},
        {"mscale": 1.0, "mscale_all_dim": 0.5},
        {"attention_factor": 0.7, "mscale": 1.0, "mscale_all_dim": 0.5},
        {"mscale": 0.0, "mscale_all_dim": 0.0},
        {"mscale": 0.707, "mscale_all_dim": 0.707},
    ],
)
def test_the_temperature_follows_its_precedence(given):
    got = Yarn(factor=4.0, original_length=512, **given).frequencies(64, 10_000.0)[1]
    assert got == pytest.approx(oracles.yarn(64, 10_000.0, 4.0, 512, **given)[1], rel=1e-12)
    if "attention_factor" in given:
        assert got == given["attention_factor"]


def test_yarns_temperature_by_hand():
    assert Yarn(factor=math.e, original_length=9).frequencies(64, 100.0)[1] == pytest.approx(1.1)
    given = dict(mscale=2.0, mscale_all_dim=1.0)
    assert Yarn(factor=math.e, original_length=9, **given).frequencies(64, 100.0)[1] == pytest.approx(1.2 / 1.1)


@few
@given(st.floats(0.0, 100.0, allow_subnormal=False))
def test_fixed_point_words_are_the_nearest_fraction_of_a_turn(frequency):
    with mpmath.workdps(60):
        exact = mpmath.mpf(frequency) / (2 * mpmath.pi)
        nearest = int(mpmath.nint(exact * 2**64)) % 2**64
    high, low = phases.fixed_point_turns(np.array([frequency]))[:, 0]
    assert int(high) * 2**32 + int(low) == nearest


@pytest.mark.parametrize("schedule", [Plain(), Interpolation(2.0), NTK(2.0), Yarn(factor=2.0, original_length=64)])
def test_schedules_do_not_depend_on_the_length(schedule):
    assert schedule.at_length(10_000) is schedule
    np.testing.assert_array_equal(schedule.frequencies(8, 100.0)[0], schedule.frequencies(8, 100.0, length=4096)[0])


def test_a_schedule_that_defines_nothing_says_so():
    with pytest.raises(NotImplementedError, match="Schedule defines no frequencies"):
        posjax.Schedule().frequencies(8, 10_000.0)


nan = float("nan")


@pytest.mark.parametrize(
    ("make", "value", "need", "remedy"),
    [
        (
            lambda: Interpolation(0.5),
            "Interpolation got factor=0.5",
            "1 or more",
            "extended length divided by the trained",
        ),
        (lambda: Interpolation(nan), "factor=nan", "needed is", "a finite number"),
        (lambda: NTK(0.99), "NTK got factor=0.99", "1 or more", "extended length"),
        (lambda: NTKByParts(0.5, 512), "NTKByParts got factor=0.5", "1 or more", "extended length"),
        (lambda: Yarn(-2.0, 512), "Yarn got factor=-2.0", "1 or more", "extended length"),
        (lambda: Yarn(2.0, 0), "Yarn got original_length=0", "1 or more", "trained length in tokens"),
        (lambda: NTKByParts(2.0, 512, 1.0, 1.5), "beta_fast=1.0 and beta_slow=1.5", "beta_fast >= beta", "32 and 1"),
        (lambda: Yarn(2.0, 512, 32.0, 0.0), "beta_slow=0.0", "beta_slow > 0", "32 and 1"),
        (lambda: Yarn(2.0, 512, attention_factor=0.0), "attention_factor=0.0", "positive", "None"),
        (lambda: Yarn(2.0, 512, mscale=1.0), "mscale=1.0 and mscale_all_dim=None", "both or neither", "no effect"),
        (lambda: Yarn(2.0, 512, mscale_all_dim=0.7), "mscale_all_dim=0.7", "both or neither", "no effect"),
        (lambda: NTK(2.0).frequencies(2, 100.0), "rotary size of 2", "4 or more", "use Interpolation"),
        (lambda: DynamicNTK(0.5, 64), "DynamicNTK got factor=0.5", "1 or more", "extended length"),
        (lambda: DynamicNTK(2.0, 0), "DynamicNTK got original_length=0", "1 or more", "trained length in tokens"),
        (lambda: DynamicNTK(2.0, 64).frequencies(2, 100.0), "rotary size of 2", "4 or more", "r - 2 divides"),
        (lambda: Llama3(0.5, 64), "Llama3 got factor=0.5", "1 or more", "extended length"),
        (lambda: Llama3(2.0, 0), "Llama3 got original_length=0", "1 or more", "trained length in tokens"),
        (
            lambda: Llama3(2.0, 64, 5.0, 4.0),
            "low_freq_factor=5.0 and high_freq_factor=4.0",
            "high >= low > 0",
            "1 and 4",
        ),
        (lambda: LongRope(0.5, 64, (1.0,), (1.0,)), "LongRope got factor=0.5", "1 or more", "extended length"),
        (lambda: LongRope(2.0, 0, (1.0,), (1.0,)), "original_length=0", "1 or more", "trained length in tokens"),
        (lambda: LongRope(2.0, 64, (1.0, 0.0), (1.0,)), "short_factor=(1.0, 0.0)", "positive divisors", "LongRope"),
        (lambda: LongRope(2.0, 64, (1.0,), (-1.0,)), "long_factor=(-1.0,)", "positive divisors", "LongRope"),
        (lambda: LongRope(2.0, 64, (1.0,), (1.0,), -1.0), "attention_factor=-1.0", "positive number", "None for"),
        (
            lambda: LongRope(2.0, 64, (1.0,), (1.0,)).frequencies(4, 100.0),
            "1 divisors in short_factor",
            "needed are 2",
            "one for each pair",
        ),
        (lambda: LongRope(2.0, 64, (1.0,), (1.0,)).frequencies(4, 100.0, 65), "in long_factor", "needed are 2", "pair"),
    ],
)
def test_errors_name_the_value_the_need_and_the_remedy(make, value, need, remedy):
    with pytest.raises(InputError) as caught:
        make()
    assert all(part in str(caught.value) for part in (value, need, remedy)), str(caught.value)


def test_bounds_themselves_are_allowed():
    for schedule in (Interpolation(1.0), NTK(1.0), NTKByParts(1.0, 512), Yarn(1.0, 512)):
        frequencies, factor = schedule.frequencies(16, 10_000.0)
        np.testing.assert_allclose(frequencies, Plain().frequencies(16, 10_000.0)[0], rtol=1e-14)
        assert factor == 1.0
