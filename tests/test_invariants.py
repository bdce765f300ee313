"""The assertions that users run fail on encodings that break the law, and pass on those that keep it."""

from dataclasses import dataclass
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import (
    Alibi,
    Dims,
    Encoding,
    Learned,
    RelativeBias,
    Rope,
    T5Bias,
    chain,
    invariants,
)
from tests import oracles

DIMS = Dims(heads=2, head_size=4, model_size=8)


class KeysTurnBack(Encoding):
    """Queries by +theta, keys by -theta: scores depend on the sum of the positions."""

    def rotate(self, params, x, positions, role):
        turned = Rope().rotate(params, x, positions, "query")
        half = jnp.array([1.0, 1.0, -1.0, -1.0]).reshape(1, 1, 1, 4)
        return turned if role == "query" else Rope().rotate(params, x * half, positions, "key") * half


class Float32Angles(Encoding):
    """Angles as everyone computes them: right near 0, noise far away."""

    def rotate(self, params, x, positions, role):
        angle = (positions.astype(jnp.float32)[:, None] * np.float32([[1.0, 0.01]])).reshape(1, -1, 1, 2)
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], -1)


class OfTheKey(Encoding):
    def bias(self, params, q_positions, k_positions, head):
        return jnp.broadcast_to(0.1 * k_positions.astype(jnp.float32), (q_positions.size, k_positions.size))


class ByLength(Encoding):
    """Looks at how many positions there are."""

    def embed(self, params, x, positions):
        return x + 1 / positions.shape[-1]


class ByFirst(Encoding):
    """Counts from the first position of the slice."""

    def rotate(self, params, x, positions, role):
        return Rope().rotate({}, x, positions - positions[..., :1], role)


class OnlyKeysByLength(Encoding):
    def rotate(self, params, x, positions, role):
        return x * positions.shape[-1] if role == "key" else x


class BiasByMaximum(Encoding):
    def bias(self, params, q_positions, k_positions, head):
        d = q_positions[:, None] - k_positions[None]
        return (d * head.index).astype(jnp.float32) / jnp.maximum(k_positions.max(), 1).astype(jnp.float32)


@dataclass(frozen=True)
class Wraps(Encoding):
    """A table of sixteen rows, read modulo its size."""

    def embed(self, params, x, positions):
        return x + jnp.arange(16.0)[positions % 16][:, None].reshape(1, -1, 1)


@pytest.mark.parametrize("encoding", [chain(Rope(), Alibi()), Alibi("symmetric")], ids=str)
def test_relative_passes_what_is_relative(encoding):
    invariants.assert_relative(encoding, encoding.join(None, encoding.constants(DIMS)), DIMS, offsets=(1, 2**31 - 17))


@pytest.mark.parametrize(("encoding", "offset"), [(KeysTurnBack(), 1), (Float32Angles(), 2**24 + 1), (OfTheKey(), 1)])
def test_relative_catches_what_is_not(encoding, offset):
    with pytest.raises(AssertionError, match=rf"{type(encoding).__name__}.* is not relative: .* by {offset} changes"):
        invariants.assert_relative(encoding, {}, DIMS, offsets=(offset,))


def test_relative_looks_at_every_offset_and_keeps_its_tolerance():
    invariants.assert_relative(Float32Angles(), {}, DIMS, offsets=(1,))
    with pytest.raises(AssertionError, match=f"by {2**24 + 1}"):
        invariants.assert_relative(Float32Angles(), {}, DIMS, offsets=(1, 2**24 + 1))
    invariants.assert_relative(OfTheKey(), {}, DIMS, offsets=(1,), tolerance=10.0)


def test_relative_catches_nan():
    with pytest.raises(AssertionError, match="by -20 changes a score by inf"):
        invariants.assert_relative(Rope(), {}, DIMS, offsets=(-20,))


def test_tile_passes_the_lawful():
    invariants.assert_tile(Rope(), {}, DIMS)


@pytest.mark.parametrize("encoding", [ByLength(), ByFirst(), OnlyKeysByLength(), BiasByMaximum()], ids=str)
def test_tile_catches_hooks_that_look_at_more_than_positions(encoding):
    with pytest.raises(AssertionError):
        invariants.assert_tile(encoding, {}, DIMS)


def test_distinct_catches_a_row_used_again():
    invariants.assert_distinct(Wraps(), {}, DIMS, (0, 3, 15))
    with pytest.raises(AssertionError, match="does not tell position 3 from 19"):
        invariants.assert_distinct(Wraps(), {}, DIMS, (0, 3, 15, 19))


def test_distinct_catches_positions_rounded_to_float32():
    invariants.assert_distinct(Rope(), {}, DIMS, (2**24, 2**24 + 1))
    with pytest.raises(AssertionError, match=f"position {2**24} from {2**24 + 1}"):
        invariants.assert_distinct(Float32Angles(), {}, DIMS, (2**24, 2**24 + 1))


def test_distinct_looks_at_embeddings_and_rotations():
    params = Learned(4, deviation=0.0).init(jax.random.key(0), DIMS)
    with pytest.raises(AssertionError, match="position 0 from 1"):
        invariants.assert_distinct(Learned(4, deviation=0.0), params, DIMS, (0, 1))
    with pytest.raises(AssertionError, match="position 0 from 1"):
        invariants.assert_distinct(Alibi(), {}, DIMS, (0, 1))


def test_scores_are_what_the_paper_says():
    encoding = chain(Rope(), T5Bias(8, 20))
    params = encoding.join(encoding.init(jax.random.key(0), DIMS), None)
    q, k = jax.random.normal(jax.random.key(1), (2, 2, 3, 2, 4))
    q_at, k_at = np.array([5, 6, 7]), np.array([0, 3, 6])
    theta, _ = oracles.plain(4, 10_000.0)
    turned = (oracles.rope(x, np.stack([at, at]), theta) for x, at in ((q, q_at), (k, k_at)))
    expected = np.einsum("btnh,bsnh->bnts", *turned) / 2
    expected += oracles.t5_bias(params["1"]["table"], q_at, k_at, False, 20)
    got = invariants.scores(encoding, params, q, k, jnp.asarray(q_at, jnp.int32), jnp.asarray(k_at, jnp.int32))
    np.testing.assert_allclose(got, expected, atol=2e-6)


class SeesTheFirstQuery(Encoding):
    """Scores depend on where the batch of queries begins, as a decoder does that rotates each query at 0."""

    def rotate(self, params, x, positions, role):
        return Rope().rotate(params, x, positions - positions[..., :1] if role == "query" else positions, role)


@dataclass(frozen=True)
class SecondUntrained(Encoding):
    """Two parameters, one of which nothing reads."""

    def init(self, key, dims):
        return {"read": jnp.ones((1,)), "dead": jnp.ones((1,))}

    def rotate(self, params, x, positions, role):
        return x * params["read"].reshape((1,) * x.ndim)


class SharperByPlace(Encoding):
    """A temperature from the place in the row, where it should be from the position in the document."""

    def score(self, params, q, k, pairs):
        return super().score(params, q, k, pairs) * (1 + pairs.q_index.astype(jnp.float32))[None, :, None]


class ScalesByLaterKeys(Encoding):
    """A temperature from all keys, later ones too."""

    def score(self, params, q, k, pairs):
        return super().score(params, q, k, pairs) * (1 + jnp.abs(k).mean())


@pytest.mark.parametrize(
    ("law", "encoding"),
    [
        (invariants.assert_decode, SeesTheFirstQuery()),
        (invariants.assert_packing, SharperByPlace()),
        (invariants.assert_causal, ScalesByLaterKeys()),
    ],
)
def test_laws_of_attention_catch_what_breaks_them(law, encoding):
    law(Rope(), {}, DIMS)
    with pytest.raises(AssertionError, match=type(encoding).__name__):
        law(encoding, {}, DIMS)


def test_gradients_catch_a_parameter_that_nothing_reads():
    invariants.assert_gradients(T5Bias(8, 20), DIMS)
    with pytest.raises(AssertionError, match="dead"):
        invariants.assert_gradients(SecondUntrained(), DIMS)


def test_relative_works_inside_jit_through_chexify():
    def shifted(encoding):
        @partial(chex.chexify, async_check=False)
        @jax.jit
        def run(unused):
            invariants.assert_relative(encoding, {}, DIMS, offsets=(2**24 + 1,))
            return unused

        run(jnp.zeros(1))

    shifted(Rope())
    with pytest.raises(AssertionError):
        shifted(Float32Angles())


@pytest.fixture
def silent():
    chex.disable_asserts()
    yield
    chex.enable_asserts()


BROKEN = [
    partial(invariants.assert_relative, OfTheKey(), {}, DIMS, (1,)),
    partial(invariants.assert_tile, ByFirst(), {}, DIMS),
    partial(invariants.assert_distinct, Wraps(), {}, DIMS, (3, 19)),
    partial(invariants.assert_decode, SeesTheFirstQuery(), {}, DIMS),
    partial(invariants.assert_packing, SharperByPlace(), {}, DIMS),
    partial(invariants.assert_causal, ScalesByLaterKeys(), {}, DIMS),
    partial(invariants.assert_gradients, SecondUntrained(), DIMS),
    partial(invariants.Finding("law", 1.0, 0.0, "here").enforce, Rope()),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.func.__name__)
def test_assertions_obey_chex(broken):
    chex.disable_asserts()
    try:
        broken()
    finally:
        chex.enable_asserts()
    with pytest.raises(AssertionError):
        broken()


def test_the_traced_form_obeys_chex_too(silent):
    run = chex.chexify(
        jax.jit(lambda x: (invariants.assert_relative(OfTheKey(), {}, DIMS, (1,)), x)[1]), async_check=False
    )
    run(jnp.zeros(1))


def test_what_measures_is_never_silent(silent):
    assert not all(finding.holds for finding in invariants.check(SeesTheFirstQuery(), DIMS, show=False))


def test_a_check_compiles_a_few_programs(caplog):
    # Elsewhere each operation was a program of its own: 660 of them, and 30 seconds of the processor.
    jax.clear_caches()
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        invariants.check(Rope(), DIMS, show=False)
    compiled = [record for record in caplog.records if record.getMessage().startswith("Finished XLA compilation")]
    assert 10 < len(compiled) <= 40


def test_check_measures_every_law_and_prints_a_table(capsys):
    findings = invariants.check(Rope(), DIMS)
    told = capsys.readouterr().out
    assert all(f.holds for f in findings)
    assert {f.law for f in findings} == {"tile", "decode", "pack", "causal", "gradient", "shift", "distinct"}
    assert all(f.law in told for f in findings) and max(map(len, told.splitlines()[1:])) <= 80
    broken = invariants.check(SeesTheFirstQuery(), DIMS, show=False)
    assert not all(f.holds for f in broken)


@dataclass(frozen=True)
class RuledOut(RelativeBias):
    """What stands nearer than two places is ruled out by an infinite bias."""

    def by_distance(self, params, distance, head):
        return jnp.where(distance >= 2, 0.0, -jnp.inf)


def test_the_tile_law_accuses_no_short_table_and_no_bias_that_rules_out():
    for encoding in (Learned(8), RuledOut()):
        invariants.assert_tile(encoding, encoding.init(jax.random.key(0), DIMS), DIMS)
