"""Faults that were found elsewhere, planted on purpose: the law that should find each does, and passes without it.

What plants a fault is a wrong encoding, or a wrong way to attend; what finds it is the suite's own test or assertion.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import core

import posjax
from posjax import Alibi, Causal, DynamicNTK, Learned, Llama3, NoPE, Rope, Toeplitz, Yarn, invariants
from posjax.attention import channels
from posjax.encodings import alibi
from posjax.encodings.base import complete
from posjax.invariants import attending
from tests import golden, oracles, test_laws, test_precision_laws
from tests.attention import test_channels
from tests.cases import BACKEND_NAMES, DIMS, first_of
from tests.encodings import test_alibi, test_schedules, test_toeplitz

attend = test_laws.attend
each_backend = pytest.mark.parametrize("backend", BACKEND_NAMES)
found = partial(pytest.raises, AssertionError)


# 8 No dead field ------------------------------------------------------------------------------------------------------
def cached_by_size() -> type[Rope]:
    tables: dict[int, Any] = {}

    class CachedBySize(Rope):
        def constants(self, dims):
            return tables.setdefault(dims.head_size, super().constants(dims))

    return CachedBySize


def test_law_8_finds_a_table_cached_without_its_base():
    # Elsewhere cosines were cached by the head's size alone: two bases, one result.
    test_laws.test_changing_any_field_changes_something(Rope())
    with found(match="'base'"):
        test_laws.test_changing_any_field_changes_something(cached_by_size()())


class HardCoded(Llama3):
    def frequencies(self, rotary_size, base, length=None):
        return Llama3(8.0, self.original_length, self.low_freq_factor, self.high_freq_factor).frequencies(
            rotary_size, base
        )


def test_law_8_finds_a_hard_coded_factor():
    # Elsewhere Llama 3's schedule divided by 8 whatever the checkpoint said.
    test_laws.test_changing_any_field_changes_something(Rope(base=100.0, schedule=Llama3(8.0, 64)))
    with found(match=r"HardCoded\(factor=16"):
        test_laws.test_changing_any_field_changes_something(Rope(base=100.0, schedule=HardCoded(8.0, 64)))


# 12 Oracle ------------------------------------------------------------------------------------------------------------
class DividedTwice(Yarn):
    def frequencies(self, rotary_size, base, length=None):
        frequencies, factor = super().frequencies(rotary_size, base)
        return frequencies / self.factor, factor


class HalfTheRamp(Yarn):
    def _ramp(self, rotary_size, base):
        return super()._ramp(rotary_size, base) / 2


class RootOfTemperature(Yarn):
    def frequencies(self, rotary_size, base, length=None):
        frequencies, factor = super().frequencies(rotary_size, base)
        return frequencies, math.sqrt(factor)


@pytest.mark.exhaustive
@first_of("fault", [DividedTwice, HalfTheRamp, RootOfTemperature], keep=1)
def test_law_12_finds_a_wrong_yarn(fault, monkeypatch):
    # Elsewhere all three were wrong at once, and the test looked at shapes only.
    test_schedules.test_schedules_by_parts_match_the_oracle()
    monkeypatch.setattr(test_schedules, "Yarn", fault)
    with found():
        test_schedules.test_schedules_by_parts_match_the_oracle()


@pytest.mark.parametrize("fault", [DividedTwice, HalfTheRamp, RootOfTemperature])
def test_the_golden_vectors_find_a_wrong_yarn(fault, monkeypatch):
    case = next(
        case for case in golden.load("rope_frequencies.json")["cases"] if case["rope_parameters"]["rope_type"] == "yarn"
    )
    test_schedules.test_frequencies_match_golden(case)
    monkeypatch.setitem(test_schedules.MATCHED, "yarn", fault)
    with found():
        test_schedules.test_frequencies_match_golden(case)


def one_formula(heads: int) -> np.ndarray:
    return 2.0 ** (-8 * np.arange(1, heads + 1) / heads)


@pytest.mark.parametrize("heads", [12, 20, 71])
def test_golden_slopes_find_the_formula_of_powers_of_two(heads, monkeypatch):
    # Elsewhere 2^(-8(h+1)/N) served any number of heads; it is right for powers of two alone.
    vector = (str(heads), golden.load("alibi_slopes.json")["slopes"][str(heads)])
    test_alibi.test_slopes_match_golden(vector)
    for module in (alibi, test_alibi):
        monkeypatch.setattr(module, "slopes", one_formula)
    with found():
        test_alibi.test_slopes_match_golden(vector)


@pytest.mark.parametrize("heads", [12, 20, 71])
def test_the_papers_slopes_find_the_formula_of_powers_of_two(heads, monkeypatch):
    test_alibi.test_slopes_match_the_paper(heads)
    monkeypatch.setattr(test_alibi, "slopes", one_formula)
    test_alibi.test_slopes_match_the_paper(8)
    with found():
        test_alibi.test_slopes_match_the_paper(heads)


# 3 Decode -------------------------------------------------------------------------------------------------------------
def attends_from_zero(q, k, v, **named):
    """Counts queries from 0 whatever the cache holds."""
    q_at, k_at = (posjax.positions.contiguous(x.shape[1]) for x in (q, k))
    return attend(q, k, v, q_positions=q_at, k_positions=k_at, **named)


def attends_with_stale_keys(q, k, v, *, encoding, params, **named):
    """A step of decoding whose keys were rotated as they entered the cache, for the context of that time."""
    if q.shape[1] == k.shape[1]:
        return posjax.attend(q, k, v, encoding=encoding, params=params, **named)
    length = k.shape[1]
    at = posjax.positions.contiguous(length)
    q = encoding.at_length(length).rotate(params, q, at[-1:], "query")
    keys = [encoding.at_length(n + 1).rotate(params, k[:, n : n + 1], at[n : n + 1], "key") for n in range(length)]
    return posjax.attend(q, jnp.concatenate(keys, 1), v, encoding=NoPE(), **named)


def plant(monkeypatch: pytest.MonkeyPatch, attend: Callable[..., jax.Array]) -> None:
    """Every check attends this way, compiled, since they run small things once."""
    jitted = jax.jit(attend, static_argnames=("encoding", "backend"))
    for module in (test_laws, attending):
        monkeypatch.setattr(module, "attend", jitted)


wrong_decoding = pytest.mark.parametrize(
    ("encoding", "fault"),
    [
        # Elsewhere each decoded query was rotated as if it stood at position 0.
        (Rope(), attends_from_zero),
        # Elsewhere the base grew with the context while cached keys kept the rotation of older, shorter ones.
        (Rope(schedule=DynamicNTK(factor=2.0, original_length=4)), attends_with_stale_keys),
    ],
    ids=["query at 0", "stale keys"],
)


@each_backend
@wrong_decoding
def test_law_3_finds_wrong_decoding(encoding, fault, backend, monkeypatch):
    test_laws.test_one_token_at_a_time_equals_the_full_pass(encoding, backend, 8)
    plant(monkeypatch, fault)
    with found():
        test_laws.test_one_token_at_a_time_equals_the_full_pass(encoding, backend, 8)


@wrong_decoding
def test_assert_decode_finds_wrong_decoding(encoding, fault, monkeypatch):
    plant(monkeypatch, posjax.attend)
    invariants.assert_decode(encoding, {}, DIMS)
    plant(monkeypatch, fault)
    with found(match="'decode'"):
        invariants.assert_decode(encoding, {}, DIMS)


@each_backend
def test_stale_keys_are_no_fault_where_frequencies_stay(backend, monkeypatch):
    plant(monkeypatch, attends_with_stale_keys)
    test_laws.test_one_token_at_a_time_equals_the_full_pass(Rope(), backend, 8)


# 11 Precision ---------------------------------------------------------------------------------------------------------
class KeysInBfloat16(Alibi):
    by_distance = Alibi.by_distance
    slopes = Alibi.slopes

    def bias(self, params, q_positions, k_positions, head):
        slope = head.of(jnp.asarray(complete(self, params, posjax.Dims(head.count))["slopes"])).astype(jnp.bfloat16)
        return jnp.broadcast_to(slope * k_positions.astype(jnp.bfloat16), (q_positions.size, k_positions.size))


class KeysInFloat32(KeysInBfloat16):
    by_distance = Alibi.by_distance
    slopes = Alibi.slopes

    def bias(self, params, q_positions, k_positions, head):
        slope = head.of(jnp.asarray(complete(self, params, posjax.Dims(head.count))["slopes"]))
        return jnp.broadcast_to(slope * k_positions.astype(jnp.float32), (q_positions.size, k_positions.size))


def last_eight(encoding: Alibi, heads: int) -> np.ndarray:
    """The biases of the last query of 4096 to the last eight keys `[N, 8]`, without what is constant along the row."""
    q, k = jnp.array([4095]), jnp.arange(4088, 4096)
    rows = [encoding.bias({}, q, k, posjax.Head(n, heads))[0].astype(jnp.float32) for n in range(heads)]
    return np.stack(rows) - np.stack(rows)[:, -1:]


def test_law_11_finds_absolute_keys_in_bfloat16():
    # Elsewhere a bias of slope times key index was held in bfloat16: at 4095 the last eight keys share one.
    test_precision_laws.test_hooks_keep_float32_inside(Alibi())
    with found():
        test_precision_laws.test_hooks_keep_float32_inside(KeysInBfloat16())
    assert (last_eight(KeysInBfloat16(), 6) == 0).all(), "the fault is there: eight keys share one bias"
    expected = oracles.alibi_bias(6, [4095], np.arange(4088, 4096))[:, 0]
    for exact in (Alibi(), KeysInFloat32()):
        np.testing.assert_allclose(last_eight(exact, 6), expected, atol=1e-3)


# 2 Head ---------------------------------------------------------------------------------------------------------------
def attends_by_rank(q, k, v, *, encoding, params, from_head_0, **named):
    """A layer that is split by hand: each of two devices attends with its own heads."""
    if not isinstance(q, core.Tracer):  # The whole on one device, what the split is compared with.
        return attend(q, k, v, encoding=encoding, params=params, **named)
    P = jax.sharding.PartitionSpec
    heads = P(None, None, "tensor")
    own = {"slopes": P("tensor"), "rate": P()}

    def rank(q, k, v, params):
        if from_head_0:  # As of a model that has these heads alone.
            params = encoding.join({}, encoding.constants(posjax.Dims(*q.shape[2:])))
        return posjax.attend(q, k, v, encoding=encoding, params=params, **named)

    mesh = jax.make_mesh((2,), ("tensor",), (jax.sharding.AxisType.Auto,))
    return jax.shard_map(rank, mesh=mesh, in_specs=(heads, heads, heads, own), out_specs=heads, check_vma=False)(
        q, k, v, params
    )


@each_backend
def test_law_2_finds_slopes_that_start_anew_on_each_device(backend, monkeypatch):
    # Elsewhere every tensor-parallel rank took the slopes of heads 0, 1, …, as if it held the first heads.
    check = test_laws.test_heads_split_over_two_devices_give_the_same
    check(Alibi(), backend)
    monkeypatch.setattr(test_laws, "attend", partial(attends_by_rank, from_head_0=False))
    check(Alibi(), backend)
    monkeypatch.setattr(test_laws, "attend", partial(attends_by_rank, from_head_0=True))
    with found():
        check(Alibi(), backend)


# 10 Distinct ----------------------------------------------------------------------------------------------------------
class ClampedDistances(Toeplitz):
    def by_distance(self, params, distance, head):
        return head.of(params["table"])[distance + self.length - 1]


class ClampedRows(Learned):
    def embed(self, params, x, positions):
        return x + params["table"][positions][None].astype(x.dtype)


def test_law_10_finds_a_table_read_past_its_end(monkeypatch):
    # Elsewhere sixteen relative offsets read a table of eight rows, and JAX repeats the last row without a word.
    test_toeplitz.test_past_the_table_is_nan_on_both_sides(False)
    monkeypatch.setattr(test_toeplitz, "Toeplitz", ClampedDistances)
    with found():
        test_toeplitz.test_past_the_table_is_nan_on_both_sides(False)


def test_law_10_finds_a_learned_row_used_again():
    test_laws.test_positions_outside_give_nan_and_never_another_row(Learned(8))
    invariants.assert_distinct(Learned(16), Learned(16).init(jax.random.key(0), DIMS), DIMS, range(16))
    with found():
        test_laws.test_positions_outside_give_nan_and_never_another_row(ClampedRows(8))
    with found(match="does not tell position 7 from 8"):
        invariants.assert_distinct(ClampedRows(8), Learned(8).init(jax.random.key(0), DIMS), DIMS, range(16))


# 4 Pack ---------------------------------------------------------------------------------------------------------------
def attends_across_documents(q, k, v, *, mask, **named):
    return posjax.attend(q, k, v, mask=Causal(), **named)


@each_backend
@first_of("encoding", [Rope(), Alibi()], ids=repr, keep=1)
def test_law_4_finds_documents_that_read_each_other(encoding, backend, monkeypatch):
    # Elsewhere packing reset the positions and left the mask causal over the whole row.
    test_laws.test_two_documents_packed_equal_the_two_apart(encoding, backend)
    plant(monkeypatch, attends_across_documents)
    with found():
        test_laws.test_two_documents_packed_equal_the_two_apart(encoding, backend)


@pytest.mark.parametrize("encoding", [NoPE(), Rope(), Alibi()], ids=repr)
def test_assert_packing_finds_documents_that_read_each_other(encoding, monkeypatch):
    plant(monkeypatch, posjax.attend)
    invariants.assert_packing(encoding, {}, DIMS)
    plant(monkeypatch, attends_across_documents)
    with found(match="'pack'"):
        invariants.assert_packing(encoding, {}, DIMS)


# Low-rank ALiBi -------------------------------------------------------------------------------------------------------
@pytest.mark.exhaustive
def test_a_slope_in_one_piece_is_found_where_it_is_no_power_of_two(monkeypatch):
    # Elsewhere one bfloat16 number held the scaled slope: exact for N = 8 and H = 64, where it was tested, alone.
    def worst(heads, head_size):
        return test_channels.worst_logit(oracles.alibi_slopes(heads), 2**15, head_size, "bfloat16")

    each = ((12, 128), (12, 96), (71, 128))
    assert max(worst(*sizes) for sizes in each) < test_channels.LOGITS_OFF / 2
    monkeypatch.setattr(channels, "pieces", test_channels.one_piece)
    assert worst(8, 64) < test_channels.LOGITS_OFF / 2
    assert max(worst(*sizes) for sizes in each) > 4 * test_channels.LOGITS_OFF
