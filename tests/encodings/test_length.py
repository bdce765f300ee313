"""Schedules that depend on the context's length: attend and the decoder take the one for the keys that there are."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import (
    NTK,
    AxialRope,
    Causal,
    Dims,
    DynamicNTK,
    Encoding,
    InputError,
    LongRope,
    Plain,
    Rope,
    Schedule,
    Segments,
    by_head,
    chain,
    positions,
)
from posjax.encodings import Alibi
from posjax.models import Compute, build, constants_of, generate
from tests import oracles
from tests.cases import first_of, wide
from tests.laws import attend
from tests.small import small

TRAINED = 8
SHORT, LONG = (1.0, 1.5, 2.0, 2.5), (1.0, 3.0, 9.0, 20.0)
BY_LENGTH = (DynamicNTK(4.0, TRAINED), LongRope(4.0, TRAINED, SHORT, LONG))


def resolved(schedule: Schedule, length: int) -> tuple[np.ndarray, float]:
    """The oracle's frequencies and attention factor."""
    if isinstance(schedule, DynamicNTK):
        return oracles.dynamic_ntk(8, 10_000.0, 4.0, TRAINED, length)
    return oracles.long_rope(8, 10_000.0, 4.0, TRAINED, length, SHORT, LONG)


@pytest.mark.parametrize("backend", wide(["reference", "chunked"], ["chunked"]))
@pytest.mark.parametrize("schedule", BY_LENGTH, ids=repr)
@pytest.mark.parametrize("S", wide([7, 8, 9, 20], [8, 9]))
def test_attend_turns_by_the_schedule_of_its_keys(schedule, S, backend):
    """Two last queries alone too: it is the number of keys that counts, not of queries."""
    q, k, v = jax.random.normal(jax.random.key(S), (3, 2, S, 6, 8))
    at = np.arange(S)[None].repeat(2, 0)
    frequencies, factor = resolved(schedule, S)
    turned = (oracles.rope(x, at, frequencies, factor) for x in (q, k))
    expected = oracles.attention(*turned, v, allowed=np.tril(np.ones((1, S, S), bool)))
    encoding = Rope(schedule=schedule)
    np.testing.assert_allclose(attend(q, k, v, encoding=encoding, backend=backend), expected, atol=1e-5)
    np.testing.assert_allclose(attend(q[:, -2:], k, v, encoding=encoding, backend=backend), expected[:, -2:], atol=1e-5)


@pytest.mark.parametrize("S", [TRAINED, 20])
def test_dynamic_ntk_is_ntk_of_the_grown_factor(S):
    q, k, v = jax.random.normal(jax.random.key(S), (3, 1, S, 3, 8))
    static = Plain() if S <= TRAINED else NTK(4.0 * S / TRAINED - 3.0)
    np.testing.assert_array_equal(
        attend(q, k, v, encoding=Rope(schedule=BY_LENGTH[0])), attend(q, k, v, encoding=Rope(schedule=static))
    )


@pytest.mark.parametrize("schedule", BY_LENGTH, ids=repr)
def test_what_holds_it_depends_on_the_length_too(schedule):
    for encoding in (
        Rope(schedule=schedule),
        chain(Rope(schedule=schedule), Alibi()),
        by_head(Rope(schedule=schedule), Rope()),
    ):
        assert encoding.length_dependent and encoding.at_length(20) != encoding
        short, long = (jax.tree.leaves(encoding.at_length(n).constants(Dims(6, 8))) for n in (TRAINED, TRAINED + 1))
        assert any((a != b).any() for a, b in zip(short, long, strict=True))
    assert not Rope().length_dependent and Rope().at_length(20) == Rope()


@pytest.mark.exhaustive
@first_of("schedule", BY_LENGTH, ids=repr, keep=1)
@first_of("T", [13, TRAINED], keep=1)
def test_a_decoder_takes_the_schedule_of_its_tokens(schedule, T):
    config = small(Rope(schedule=schedule), layers=2, width=24, heads=3, deviation=1.0)
    tokens = jax.random.randint(jax.random.key(T), (2, T), 0, 11)
    fixed = build(config, 11, 0, Compute(backend="reference"))
    frozen = constants_of(config, lambda rope: rope.at_length(T))
    np.testing.assert_array_equal(fixed(tokens), fixed(tokens, constants=frozen))
    wrong = constants_of(config, lambda rope: rope.at_length(5 if T > TRAINED else 13))
    assert np.abs(fixed(tokens) - fixed(tokens, constants=wrong)).max() > 1e-3
    assert jnp.isfinite(fixed(tokens)).all()


@pytest.mark.exhaustive
def test_constants_of_no_length_are_refused():
    """They are those of the trained length, and would take an extension away in silence."""
    x = jnp.ones((1, 16, 2, 8))
    for encoding in (Rope(schedule=DynamicNTK(4.0, 4)), chain(Rope(schedule=DynamicNTK(4.0, 4)), Alibi())):
        learned = encoding.init(jax.random.key(0), Dims(2, 8))
        joined = encoding.join(learned, encoding.constants(Dims(2, 8)))
        with pytest.raises(InputError, match="params hold constants, which are those of one length"):
            posjax.attend(x, x, x, encoding=encoding, params=joined)
        there = encoding.at_length(16)
        told = posjax.attend(x, x, x, encoding=there, params=there.join(learned, there.constants(Dims(2, 8))))
        np.testing.assert_array_equal(told, posjax.attend(x, x, x, encoding=encoding))
    with pytest.raises(InputError, match="other constants for another length"):
        constants_of(small(Rope(schedule=DynamicNTK(4.0, 4))))


@pytest.mark.exhaustive
def test_keys_count_for_the_length_where_positions_begin_anew():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 8, 2, 4))
    ids = jnp.array([[1] * 6 + [2] * 2])
    at, mask = positions.packed(ids), Causal() & Segments(ids)
    run = partial(posjax.attend, encoding=Rope(schedule=DynamicNTK(8.0, 2)), mask=mask)
    full = run(q, k, v, q_positions=at, k_positions=at)
    last = run(q[:, 7:], k, v, q_positions=at[:, 7:], k_positions=at)
    np.testing.assert_allclose(last, full[:, 7:], atol=1e-6)


@dataclass(frozen=True)
class OfTheContext(Schedule):
    """A schedule of one's own, whose fields are named as they like and which hears of every length anew."""

    length: int = 4
    seen: int | None = None

    def frequencies(self, size, base):
        return NTK(max(1.0, (self.seen or self.length) / self.length)).frequencies(size, base)

    def at_length(self, length):
        return replace(self, seen=length)


def test_a_schedule_of_ones_own_hears_of_the_length():
    x = jax.random.normal(jax.random.key(0), (1, 16, 2, 8))
    encoding = Rope(schedule=OfTheContext())
    told = encoding.at_length(16)
    wanted = posjax.attend(x, x, x, encoding=Rope(schedule=NTK(4.0)))
    joined = told.join({}, told.constants(Dims(2, 8)))
    for run in ({"encoding": encoding}, {"encoding": told}, {"encoding": told, "params": joined}):
        np.testing.assert_allclose(posjax.attend(x, x, x, **run), wanted, atol=1e-6)
    assert constants_of(small(encoding), lambda rope: rope.at_length(16))["decoder"]


@dataclass(frozen=True)
class Sharper(Encoding):
    """Queries grow with the length, which a hook reads from a field, and from no constant."""

    length: int = 1

    def at_length(self, length):
        return replace(self, length=length)

    def rotate(self, params, x, positions, role):
        return Rope().rotate({}, x, positions, role) * self.length**0.5


class Once(Sharper):
    """What it is told it keeps in a value that is told no more."""

    def at_length(self, length):
        return Told(length)


class Told(Sharper):
    at_length = Encoding.at_length


@pytest.mark.exhaustive
@first_of("own", [Once(), Sharper()], ids=repr, keep=1)
def test_what_a_hook_reads_of_the_length_reaches_a_model(own):
    """By hand over a cache too; in a loop, where lengths are data, and by constants, it is refused or heard."""
    tokens = jax.random.randint(jax.random.key(0), (1, 6), 0, 7)
    model = build(small(own, deviation=1.0), 7, 0)
    want = build(small(own.at_length(6), deviation=1.0), 7, 0)(tokens)
    np.testing.assert_allclose(model(tokens), want, atol=1e-5)
    assert np.abs(model(tokens, length=9) - want).max() > 1e-2
    constants = constants_of(model.architecture, lambda encoding: encoding.at_length(6))
    np.testing.assert_allclose(model(tokens, constants=constants), want, atol=1e-5)
    cache = model.cache(1, 6)
    for part in (slice(0, 4), slice(4, 6)):
        prepared = model.prepare(part.stop - part.start, cache=cache)
        stream, cache, _ = model.hidden(tokens[:, part], prepared, cache)
    np.testing.assert_allclose(model.logits(stream), want[:, 4:], atol=1e-4)
    with pytest.raises(InputError, match="swept"):
        generate(model, tokens, 2)


def test_constants_of_another_structure_are_refused():
    with pytest.raises(InputError, match="with_encodings"):
        constants_of(small(), lambda rope: replace(rope, layout="interleaved"))


@pytest.mark.exhaustive
def test_a_coordinate_that_does_not_count_for_the_length_is_not_asked():
    mixed = chain(Rope(schedule=DynamicNTK(4.0, TRAINED)), AxialRope((1, 1)))
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 4, 2, 8))
    at = jnp.stack([jnp.arange(4), 100 + jnp.arange(4)], axis=-1)[None]
    want = posjax.attend(q, k, v, encoding=mixed, q_positions=at, k_positions=at, length=4)
    np.testing.assert_array_equal(posjax.attend(q, k, v, encoding=mixed, q_positions=at, k_positions=at), want)
